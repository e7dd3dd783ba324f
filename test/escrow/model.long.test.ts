/** The stories of model.test.ts, longer and from more seeds. @module */
import { it } from 'node:test'
import { tellAll } from './model.ts'

it('whatever several processes do, budgets come to what one thread would have counted, for 50 seeds', async () => {
  await tellAll(
    Array.from({ length: 50 }, (_, index) => 1000 + index),
    10_000,
  )
})
