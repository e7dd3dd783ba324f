/** Budgets while Redis is lost in every way there is. @module */
import { it } from 'node:test'
import { openVendor } from '../gateway.ts'
import { noRedis } from '../services/redis.ts'
import { sqliteHouse } from './house.ts'
import { loseRedis } from './redis-lost.ts'

it('no budget and no balance depends on Redis, and no call fails for want of it', { skip: noRedis }, async () => {
  await loseRedis(await openVendor(), (options) => sqliteHouse(options), 1)
})
