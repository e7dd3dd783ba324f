/** Two gateways whose Postgres is killed again and again, or cut off from one of them for longer than its term. @module */
import { it } from 'node:test'
import { openVendor } from '../gateway.ts'
import { describePostgres, startPostgres } from '../services/postgres.ts'
import { cutOff, killPostgres } from './postgres-lost.ts'

describePostgres('two gateways and their Postgres', () => {
  it('that is killed under load, again and again, lose nothing', async () => {
    await killPostgres(await startPostgres({ fsync: true }), await openVendor(), 25)
  })

  it('that one of them cannot reach for longer than its term: the other has all that is left', async () => {
    await cutOff(await startPostgres({ fsync: true }), await openVendor())
  })
})
