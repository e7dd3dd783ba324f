/** A kill at the moment the provider has the request and the caller has no answer. @module */
import { before, describe, it } from 'node:test'
import { eventually, type GatewayUnderTest, openVendor } from '../gateway.ts'
import { describePostgres, startPostgres } from '../services/postgres.ts'
import type { Vendor } from '../upstreams/vendor.ts'
import { postgresHouse, sqliteHouse } from './house.ts'
import { killable, killWhileHeld, sendHalf } from './killed.ts'

describe('a kill while the provider holds its answers back', () => {
  let vendor: Vendor
  before(async () => {
    vendor = await openVendor()
  })

  it('books each of them once, at what was held, and nothing that had not left', async () => {
    const house = await sqliteHouse(killable(vendor), 2)
    const [gateway] = house.gateways as [GatewayUnderTest]
    await killWhileHeld(house, vendor, false, (key) => sendHalf(gateway, key))
  })

  describePostgres('over Postgres', () => {
    it('books each of them once, also when a call of another gateway waits for the same budget', async () => {
      const server = await startPostgres({ fsync: true })
      const house = await postgresHouse(server, killable(vendor), (url) => [url, url])
      await killWhileHeld(house, vendor, true, async (key) => {
        const [, other] = house.gateways
        void other?.chat(key, { model: 'held', max_tokens: 16, stream: true }).catch(() => null)
        // It asks the first for what that one does not use: so it has come as far as its hold.
        await eventually(
          async () => (await house.query(`select 1 as one from changes where kind = 'recall'`)).length > 0,
        )
      })
    })
  })
})
