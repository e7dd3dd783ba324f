/** The wall clock of one process is set while calls go on. @module */
import { it } from 'node:test'
import { openVendor } from '../gateway.ts'
import { noFaketime, settableClock } from '../services/faketime.ts'
import { setClock } from './clock.ts'
import { sqliteHouse } from './house.ts'
import { killable } from './killed.ts'

it('budgets hold and add up while the clock is set back and forth', { skip: noFaketime }, async () => {
  const clock = settableClock()
  await setClock(await sqliteHouse({ ...killable(await openVendor()), env: clock.env }), clock, 1)
})
