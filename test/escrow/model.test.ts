/** Random stories of several processes against the reference; `npm run test:long` tells longer ones, and more. @module */
import { it } from 'node:test'
import { tellAll } from './model.ts'

it('whatever several processes do, budgets come to what one thread would have counted', async () => {
  await tellAll([1, 2, 3, 4, 5, 6, 7, 8], 1500)
})
