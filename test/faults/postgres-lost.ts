/**
 * Postgres killed under load, and cut off from one of two gateways for longer than its term. Who cannot reach it
 * dispatches nothing that has a budget; the other goes on with everything that is left; afterwards it adds up.
 * @module
 */
import assert from 'node:assert/strict'
import { eventually, type GatewayUnderTest } from '../gateway.ts'
import type { PostgresUnderTest } from '../services/postgres.ts'
import { openWay } from '../services/redis.ts'
import type { Vendor } from '../upstreams/vendor.ts'
import { assertAddsUp, closeHouse, postgresHouse } from './house.ts'
import { assertWhole, callAll, killable, openLoad, untilWoundUp } from './killed.ts'

const house = { model: 'house' }

/** How a call of a gateway that cannot write has to end. */
async function assertRefused(gateway: GatewayUnderTest, key: string): Promise<void> {
  const { status, headers, json } = await gateway.chat(key, house)
  assert.deepEqual([status, json.error?.code], [503, 'store_unavailable'])
  assert.ok(Number(headers.get('retry-after')) > 0)
}

/** @param turns how often the server is killed, and comes back */
export async function killPostgres(server: PostgresUnderTest, vendor: Vendor, turns: number): Promise<void> {
  const two = await postgresHouse(server, killable(vendor), (url) => [url, url])
  const load = await openLoad(two)
  const seen = vendor.requests.length
  for (let turn = 0; turn < turns; turn++) {
    const before = load.answered.length
    const calls = callAll(two, load)
    await eventually(() => load.answered.length >= before + 20 + 13 * (turn % 7))
    await server.kill9()
    for (const one of two.gateways) await eventually(async () => (await one.ask('GET', '/readyz')).status === 503)
    await calls.stop()
    const dispatched = vendor.requests.length
    for (const one of two.gateways) for (let i = 0; i < 5; i++) await assertRefused(one, load.session.key)
    assert.equal(vendor.requests.length, dispatched)

    await server.start()
    for (const one of two.gateways) {
      await eventually(async () => (await one.ask('GET', '/readyz')).status === 200)
      await eventually(async () => (await one.chat(load.session.key, house)).status === 200)
    }
    // What could not be written meanwhile was spent all the same: every request of the vendor comes to a row.
    const asked = vendor.requests.length - seen
    const requests = async () => Number((await two.query('select sum(requests) as n from ledger'))[0]?.n)
    await eventually(async () => (await requests()) >= asked)
    await untilWoundUp(two, 2)
    assert.equal(await requests(), asked)
    await assertWhole(two, load)
  }
  await closeHouse(two)
}

/** Cuts the second of two gateways off for longer than the term of its leases. */
export async function cutOff(server: PostgresUnderTest, vendor: Vendor): Promise<void> {
  const max = 40
  const way = await openWay(server.port)
  const two = await postgresHouse(server, killable(vendor), (url) => [
    url,
    url.replace(`:${server.port}/`, `:${way.port}/`),
  ])
  const [near, far] = two.gateways as [GatewayUnderTest, GatewayUnderTest]
  const load = await openLoad(two)
  const key = await near.mintKey({ limits: [{ unit: 'requests', max }] })
  // Both have some of it, and the far one more than it has used.
  for (const one of [far, far, near]) assert.equal((await one.chat(key.key, house)).status, 200)
  const calls = callAll(two, load)
  const answered = load.answered.length
  await eventually(() => load.answered.length > answered + 50)
  way.block()

  // Until it is taken for dead, what it has is its own; then the near one can have all of it.
  const writers = async () =>
    Number((await two.query('select count(*) as n from writers where wound_up_at is null'))[0]?.n)
  await eventually(async () => (await writers()) === 1)
  await calls.stop()
  const dispatched = vendor.requests.length
  for (let i = 0; i < 5; i++) await assertRefused(far, key.key)
  assert.equal(vendor.requests.length, dispatched)
  let got = 3
  for (let i = 0; i < max; i++) if ((await near.chat(key.key, house)).status === 200) got++
  assert.equal(got, max)

  way.unblock()
  await eventually(async () => (await far.chat(load.session.key, house)).status === 200)
  const late = await far.chat(key.key, house)
  assert.deepEqual([late.status, late.json.error.code], [429, 'budget_exhausted'])
  await untilWoundUp(two, 2)
  const idle = async () => (await far.metric('gatehouse_open_holds')) === 0
  await eventually(idle)
  const rows = await two.query(`select sum(requests) as n from ledger where account = '${key.id}'`)
  assert.equal(Number(rows[0]?.n), max)
  await eventually(() => assertAddsUp(two).then((lines) => lines > 0))
  await assertWhole(two, load)
  await closeHouse(two)
}
