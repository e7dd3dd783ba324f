/**
 * A wall clock that is set back an hour and forward a day while calls go on. Each call counts in exactly one window, no
 * window admits more than its limit, and nothing takes less than no time.
 * @module
 */
import assert from 'node:assert/strict'
import { windowStart } from '../../src/escrow/window.ts'
import { eventually, type GatewayUnderTest } from '../gateway.ts'
import type { SettableClock } from '../services/faketime.ts'
import { assertAddsUp, assertAllThere, closeHouse, type House } from './house.ts'

const hour = 3600
const day = 24 * hour
const max = 25

/** Where the clock is set to, seconds beside the real time, one after the other. */
const settings = [-hour, 0, day, day - hour, day + 1, -hour, 0]

/** @param turns how often all settings are gone through */
export async function setClock(house: House, clock: SettableClock, turns: number): Promise<void> {
  const [gateway] = house.gateways as [GatewayUnderTest]
  const expires_at = new Date(Date.now() + (day + 6 * hour) * 1000).toISOString()
  const limits = ['minute', 'hour', 'day'].map((window) => ({ unit: 'requests', max, window }))
  // One key per window, and one whose calls go on whatever the clock says.
  const keys = await Promise.all(limits.map((limit) => gateway.mintKey({ limits: [limit], expires_at })))
  const wide = await gateway.mintKey({
    limits: [
      { unit: 'requests', max: 1_000_000 },
      { unit: 'usd', max: 900, window: 'day' },
    ],
    expires_at,
  })
  const soon = await gateway.mintKey({ expires_at: new Date(Date.now() + 2 * hour * 1000).toISOString() })
  const answered: string[] = []
  const others = new Map<string, number>()
  const ask = async (key: string) => {
    const { status, headers, json } = await gateway.chat(key, { model: 'house', stream: false })
    if (status === 200) answered.push(headers.get('x-gatehouse-request-id') ?? '')
    else others.set(json.error?.code, (others.get(json.error?.code) ?? 0) + 1)
    return status
  }
  let going = true
  const load = Promise.all(
    Array.from({ length: 4 }, async () => {
      while (going) await ask(wide.key)
    }),
  )
  for (let turn = 0; turn < turns; turn++) {
    for (const seconds of settings) {
      clock.set(seconds)
      const before = answered.length
      await eventually(() => answered.length > before + 20)
      for (const { key } of keys) await Promise.all(Array.from({ length: 2 * max }, () => ask(key)))
      // A key ends by the clock there is, neither earlier nor later.
      if (seconds <= 0) assert.equal((await gateway.chat(soon.key, { model: 'house' })).status, 200)
      else await eventually(async () => (await gateway.chat(soon.key, { model: 'house' })).status === 401)
    }
  }
  going = false
  await load
  // Refused for budgets only; a process that others took for dead when the clock jumped says so and goes on.
  const allowed = ['budget_exhausted', 'budget_contended', 'store_unavailable']
  for (const code of others.keys()) assert.ok(allowed.includes(code), `${code} ${others.get(code)}`)

  await eventually(async () => (await gateway.metric('gatehouse_open_holds')) === 0)
  const lines = await assertAllThere(house, answered)
  await assertAddsUp(house)
  for (const [index, { window }] of limits.entries()) {
    const admitted = new Map<number, number>()
    for (const line of lines) {
      if (line.account !== keys[index]?.id) continue
      const start = windowStart(window, Number(line.booked))
      admitted.set(start, (admitted.get(start) ?? 0) + Number(line.requests))
    }
    for (const [start, count] of admitted)
      assert.ok(count <= max, `${count} in the ${window} of ${new Date(start).toISOString()}`)
    assert.ok(admitted.size > 1, `calls in one ${window} only`)
  }
  for (const { latency_ms, first_byte_ms } of await gateway.ledger()) {
    assert.ok(latency_ms >= 0 && (first_byte_ms === null || first_byte_ms >= 0), `${latency_ms} ${first_byte_ms}`)
  }
  const { text } = await gateway.ask('GET', '/metrics')
  for (const [line] of text.matchAll(/^gatehouse_\S*_(sum|bucket)\S* .*$/gm)) assert.doesNotMatch(line, / -/)
  await closeHouse(house)
}
