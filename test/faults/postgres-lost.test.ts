/** Two gateways whose Postgres is killed under load. @module */
import { it } from 'node:test'
import { openVendor } from '../gateway.ts'
import { describePostgres, startPostgres } from '../services/postgres.ts'
import { killPostgres } from './postgres-lost.ts'

describePostgres('two gateways whose Postgres is killed', () => {
  it('dispatch nothing while it is gone, go on by themselves, and lose nothing', async () => {
    await killPostgres(await startPostgres({ fsync: true }), await openVendor(), 2)
  })
})
