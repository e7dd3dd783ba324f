/** A hundred kills under load, of everything that can be killed. @module */
import { before, describe, it } from 'node:test'
import { type GatewayUnderTest, openVendor } from '../gateway.ts'
import { describePostgres, startPostgres } from '../services/postgres.ts'
import type { Vendor } from '../upstreams/vendor.ts'
import { postgresHouse, sqliteHouse } from './house.ts'
import { killable, killWhileHeld, killWorker, openLoad, round, sendHalf } from './killed.ts'

const rounds = Number(process.env.GATEHOUSE_TEST_ROUNDS ?? 100)

describe('nothing is lost and nothing is booked twice by a hundred kills', () => {
  let vendor: Vendor
  before(async () => {
    vendor = await openVendor()
  })
  /** Another moment each time. */
  const after = (turn: number) => 5 + ((turn * 37) % 160)

  it('of one process over SQLite', async () => {
    const house = await sqliteHouse(killable(vendor))
    const [gateway] = house.gateways as [GatewayUnderTest]
    const load = await openLoad(house)
    for (let turn = 0; turn < rounds; turn++) {
      const kill = async () => {
        await gateway.kill9()
        await gateway.restart()
      }
      await round(house, load, { after: after(turn), processes: 1, kill })
    }
  })

  it('of one process whose provider holds its answers back', async () => {
    const house = await sqliteHouse(killable(vendor))
    const [gateway] = house.gateways as [GatewayUnderTest]
    for (let turn = 0; turn < rounds / 10; turn++) {
      await killWhileHeld(house, vendor, turn % 2 === 0, (key) => sendHalf(gateway, key))
    }
  })

  it('of one of three processes over SQLite, and of all of them', async () => {
    const house = await sqliteHouse(killable(vendor), 3)
    const [gateway] = house.gateways as [GatewayUnderTest]
    const load = await openLoad(house)
    for (let turn = 0; turn < rounds; turn++) {
      // A process that dies at once again is started later and later, so every other time the whole house is begun anew.
      const kill = async () => {
        if (turn % 2 === 0) return killWorker(gateway, turn)
        await gateway.kill9()
        await gateway.restart()
      }
      await round(house, load, { after: after(turn), processes: 3, kill })
    }
  })

  describePostgres('over Postgres', () => {
    it('of one of two gateways', async () => {
      const server = await startPostgres({ fsync: true })
      const house = await postgresHouse(server, killable(vendor), (url) => [url, url])
      const load = await openLoad(house)
      for (let turn = 0; turn < rounds; turn++) {
        const gateway = house.gateways[turn % 2] as GatewayUnderTest
        const kill = async () => {
          await gateway.kill9()
          await gateway.restart()
        }
        await round(house, load, { after: after(turn), processes: 2, kill })
      }
    })
  })
})
