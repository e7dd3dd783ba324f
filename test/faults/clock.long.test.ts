/** The wall clock of several processes is set while calls go on, again and again. @module */
import { describe, it } from 'node:test'
import { openVendor } from '../gateway.ts'
import { noFaketime, settableClock } from '../services/faketime.ts'
import { setClock } from './clock.ts'
import { sqliteHouse } from './house.ts'
import { killable } from './killed.ts'

describe('budgets hold and add up while the clock is set back and forth', { skip: noFaketime }, () => {
  for (const workers of [1, 3]) {
    it(`by ${workers} processes`, async () => {
      const clock = settableClock()
      const options = { ...killable(await openVendor()), env: clock.env }
      await setClock(await sqliteHouse(options, workers), clock, 5)
    })
  }
})
