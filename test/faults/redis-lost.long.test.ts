/** Budgets of two gateways over one Postgres while Redis is lost in every way there is, again and again. @module */
import { it } from 'node:test'
import { openVendor } from '../gateway.ts'
import { describePostgres, startPostgres } from '../services/postgres.ts'
import { noRedis } from '../services/redis.ts'
import { postgresHouse } from './house.ts'
import { loseRedis } from './redis-lost.ts'

describePostgres('two gateways over Postgres', () => {
  it('no budget and no balance depends on Redis, and no call fails for want of it', { skip: noRedis }, async () => {
    const server = await startPostgres({ fsync: false })
    await loseRedis(await openVendor(), (options) => postgresHouse(server, options, (url) => [url, url]), 10)
  })
})
