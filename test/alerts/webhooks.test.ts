/** What people hear of a budget on its way down: a signed message, a line of the log and a number, once each. @module */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { before, describe, it } from 'node:test'
import { atEnd, eventually, type GatewayUnderTest, openVendor, startFails, startGateway } from '../gateway.ts'
import { type Received, type Receiver, startReceiver } from '../upstreams/receiver.ts'
import type { Vendor } from '../upstreams/vendor.ts'

const key = randomBytes(24)
const secret = `whsec_${key.toString('base64')}`

let vendor: Vendor
before(async () => {
  vendor = await openVendor()
})

async function open(env: Readonly<Record<string, string>> = {}) {
  const receiver = await startReceiver(key)
  atEnd(() => receiver.close())
  const gateway = await startGateway({
    vendor,
    models: { overrun: { provider: 'vendor', upstream: 'long-100+ignores-cap', price: { input: 1, output: 2 } } },
    limits: { webhooks: [{ url: receiver.url, secret: 'env:HOOK_SECRET', allow_private: [receiver.allow] }] },
    env: { HOOK_SECRET: secret, ...env },
  })
  return { receiver, gateway }
}

const limit = (max: number, more: object = {}) => [{ unit: 'requests', max, alert_at: [50, 80], ...more }]

async function spend(gateway: GatewayUnderTest, as: string, calls: number): Promise<void> {
  for (let call = 0; call < calls; call++) assert.equal((await gateway.chat(as, {})).status, 200)
}

/** Thresholds about an account that were acknowledged, in order. */
const told = (receiver: Receiver, account: string) =>
  receiver.acknowledged((body) => body.data.account === account).map(({ body }) => body.data.threshold)

/** A further crossing of another account comes after whatever might still come of the first. */
async function nothingMore(gateway: GatewayUnderTest, receiver: Receiver): Promise<void> {
  const other = await gateway.mintKey({ limits: limit(2) })
  await spend(gateway, other.key, 1)
  await eventually(() => told(receiver, other.id).length === 1)
}

describe('a budget on its way down', () => {
  let receiver: Receiver
  let gateway: GatewayUnderTest
  before(async () => {
    ;({ receiver, gateway } = await open())
  })

  it('is told at each threshold once: signed, in the log, in a metric', async () => {
    const { id, key: as } = await gateway.mintKey({ name: 'ci', limits: limit(10), labels: { team: 'red' } })
    await spend(gateway, as, 4)
    await nothingMore(gateway, receiver)
    assert.deepEqual(told(receiver, id), [])
    await spend(gateway, as, 1)
    await eventually(() => told(receiver, id).length === 1)
    const [message] = receiver.acknowledged((body) => body.data.account === id)
    assert.ok(message?.genuine)
    assert.match(message.id, /^msg_/)
    assert.equal(message.body.type, 'budget_alert')
    assert.ok(Number.isFinite(Date.parse(message.body.timestamp)))
    assert.deepEqual(message.body.data, {
      ...{ account: id, name: 'ci', kind: 'key', labels: { team: 'red' }, unit: 'requests', threshold: 50 },
      ...{ used: 5, limit: 10, window: 'total', zone: 'UTC', action: 'stop', resets_at: null },
    })
    await spend(gateway, as, 5)
    await eventually(() => told(receiver, id).length === 2)
    assert.equal((await gateway.chat(as, {})).status, 429)
    await nothingMore(gateway, receiver)
    assert.deepEqual(told(receiver, id), [50, 80])
    const lines = gateway.log().split('\n')
    const alerts = lines.filter((line) => line.includes('"event":"budget_alert"') && line.includes(id))
    assert.equal(alerts.length, 2)
    const metrics = (await gateway.ask('GET', '/metrics')).text
    assert.match(metrics, /^gatehouse_budget_alerts_total\{unit="requests",threshold="80"\} 1$/m)
    assert.ok(!gateway.log().includes(secret) && !gateway.log().includes(key.toString('base64')))
  })

  it('is told for the account above, in dollars as text, and again when the limit was raised', async () => {
    const limits = [{ unit: 'usd', max: '0.001', alert_at: [10], action: 'warn', window: 'day', zone: 'Europe/Berlin' }]
    const account = await gateway.mintAccount({ limits })
    const { key: as } = await gateway.mintKey({ account })
    const session = await gateway.mintSession(as)
    const chat = () => gateway.chat(session.key, { model: 'overrun', max_tokens: 100 })
    assert.equal((await chat()).status, 200)
    await eventually(() => told(receiver, account).length === 1)
    const [{ body }] = receiver.acknowledged((one) => one.data.account === account) as readonly Received[] as readonly [
      Received,
    ]
    const { used, limit: max, zone, resets_at: resets } = body.data
    assert.match(used, /^0\.000\d+$/)
    assert.deepEqual([max, zone], ['0.001', 'Europe/Berlin'])
    assert.match(resets, /T2[23]:00:00\.000Z$/)
    await gateway.admin('PATCH', `/accounts/${account}`, { limits: [{ ...limits[0], max: '0.0011' }] })
    await eventually(() => told(receiver, account).length === 2)
    await nothingMore(gateway, receiver)
    assert.equal(told(receiver, account).length, 2)
  })

  it('with a limit that only warns goes on past it, is told beyond 100 percent, and says so in every answer', async () => {
    const { id, key: as } = await gateway.mintKey({ limits: limit(2, { action: 'warn', alert_at: [100, 150] }) })
    const first = await gateway.chat(as, {})
    assert.equal(first.headers.get('x-gatehouse-budget-warning'), null)
    await spend(gateway, as, 1)
    const third = await gateway.chat(as, {})
    assert.deepEqual(
      [third.status, third.headers.get('x-gatehouse-budget-warning')],
      [200, `requests 150% of account ${id} used; does not reset`],
    )
    await eventually(() => told(receiver, id).length === 2)
    assert.deepEqual([...told(receiver, id)].sort(), [100, 150])
    const refused = await gateway.admin('PATCH', `/keys/${id}`, { limits: limit(2, { alert_at: [101] }) })
    assert.deepEqual([refused.status, refused.json.error.code], [400, 'invalid_request'])
  })

  it('of a provider that reports more than was held is told as an overrun', async () => {
    const { key: as } = await gateway.mintKey({ limits: [{ unit: 'tokens', max: 10_000, alert_at: [] }] })
    const { headers } = await gateway.chat(as, { model: 'overrun', max_tokens: 20 })
    const call = headers.get('x-gatehouse-request-id')
    await eventually(() => receiver.acknowledged((body) => body.data.call === call).length === 1)
    const [message] = receiver.acknowledged((body) => body.data.call === call)
    assert.ok(message?.genuine)
    assert.equal(message.body.type, 'overrun')
    const { provider, held, used } = message.body.data
    assert.equal(provider, 'vendor')
    assert.ok(used.tokens > held.tokens || Number(used.usd) > Number(held.usd))
    assert.equal(typeof used.usd, 'string')
  })

  it('is told after a receiver answered 500, and after one was not there; no call waits for it', async () => {
    for (const wrong of ['500', 'down', 'redirect'] as const) {
      const { id, key: as } = await gateway.mintKey({ limits: limit(2) })
      if (wrong === 'down') await receiver.down()
      else receiver.answer(wrong === '500' ? 500 : 307)
      await spend(gateway, as, 1)
      if (wrong === 'down') await gateway.logged(/webhook was not acknowledged/)
      else
        await eventually(() =>
          receiver.received.some(({ body, status }) => body.data.account === id && status !== null),
        )
      assert.deepEqual(told(receiver, id), [])
      if (wrong === 'down') await receiver.up()
      receiver.answer(204)
      await eventually(() => told(receiver, id).length === 1)
      await nothingMore(gateway, receiver)
      const tries = receiver.received.filter(({ body }) => body.data.account === id)
      assert.equal(tries.filter(({ status }) => status === 204).length, 1, wrong)
      assert.equal(new Set(tries.map((one) => one.id)).size, 1)
      assert.ok(tries.every(({ genuine }) => genuine))
    }
  })

  it('is told by a receiver that takes its time, while calls go on', async () => {
    const { id, key: as } = await gateway.mintKey({ limits: limit(100, { alert_at: [1] }) })
    receiver.answer('hold')
    await spend(gateway, as, 1)
    await eventually(() => receiver.received.some(({ body }) => body.data.account === id))
    await spend(gateway, as, 20)
    assert.deepEqual(told(receiver, id), [])
    receiver.answer(204)
    await eventually(() => told(receiver, id).length === 1)
    await nothingMore(gateway, receiver)
    assert.equal(receiver.received.filter(({ body }) => body.data.account === id).length, 1)
  })

  it('is told after a restart, also by a process that was killed in the middle of it', async () => {
    const { id, key: as } = await gateway.mintKey({ limits: limit(2) })
    receiver.answer('hold')
    await spend(gateway, as, 1)
    await eventually(() => receiver.received.some(({ body }) => body.data.account === id))
    await gateway.kill9()
    const again = gateway.restart()
    receiver.answer(204)
    await again
    await eventually(() => told(receiver, id).length === 1)
    await nothingMore(gateway, receiver)
    const tries = receiver.received.filter(({ body }) => body.data.account === id)
    assert.deepEqual([told(receiver, id), new Set(tries.map((one) => one.id)).size], [[50], 1])
    // What was told is not told again by the new process.
    await spend(gateway, as, 1)
    await eventually(() => told(receiver, id).length === 2)
    assert.deepEqual(told(receiver, id), [50, 80])
  })
})

it('of two processes one tells it, by what both have used', async () => {
  const { receiver, gateway } = await open({ GATEHOUSE_WORKERS: '2' })
  const { id, key: as } = await gateway.mintKey({ limits: limit(40, { alert_at: [50, 75, 100] }) })
  const chat = () => gateway.chat(as, {})
  for (let round = 0; round < 4; round++) await Promise.all(Array.from({ length: 10 }, chat))
  await eventually(() => told(receiver, id).length === 3)
  await nothingMore(gateway, receiver)
  assert.deepEqual([...told(receiver, id)].sort(), [100, 50, 75])
  const alerts = gateway.log().match(new RegExp(`"event":"budget_alert","account":"${id}"`, 'g'))
  assert.equal(alerts?.length, 3)
})

it('a webhook without a secret stops the start and says where', async () => {
  for (const given of [undefined, '', '   ', 'whsec_']) {
    const { code, output } = await startFails({
      limits: { webhooks: [{ url: 'https://hooks.example.com/x', secret: 'env:HOOK_SECRET' }] },
      env: given === undefined ? {} : { HOOK_SECRET: given },
    })
    assert.equal(code, 1)
    assert.match(output, /policies\/limits\.yaml:\d+:\d+.*env:HOOK_SECRET is not set or empty/)
  }
})
