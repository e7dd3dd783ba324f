/** Delegation: defaults by kind of account, what a session is told of its limits, top-ups from anywhere, deep trees. @module */
import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import { eventually, type GatewayUnderTest, openVendor, startGateway } from '../gateway.ts'
import type { Vendor } from '../upstreams/vendor.ts'

let vendor: Vendor
before(async () => {
  vendor = await openVendor()
})
const models = { house: { provider: 'vendor', upstream: 'ok', price: { input: 1, output: 2 } } }

describe('limits of an account that is given none', () => {
  let gateway: GatewayUnderTest
  before(async () => {
    gateway = await startGateway({
      ...{ vendor, models },
      limits: {
        defaults: {
          team: [{ unit: 'usd', max: 50, window: 'month', zone: 'Europe/Berlin' }],
          key: [{ unit: 'requests', max: 100, window: 'day', action: 'warn', alert_at: [80, 120] }],
          session: [
            { unit: 'requests', max: 3 },
            { unit: 'requests', max: 2, window: 'day' },
          ],
        },
      },
    })
  })
  const limitsOf = async (path: string) => (await gateway.admin('GET', path)).json.limits

  it('are those of its kind, shown in the answer; given ones, and an empty list, stand', async () => {
    const team = await gateway.admin('POST', '/accounts', { name: 'red', kind: 'team' })
    const monthly = {
      unit: 'usd',
      max: '50',
      window: 'month',
      zone: 'Europe/Berlin',
      action: 'stop',
      alert_at: [70, 90],
    }
    assert.deepEqual(team.json.limits, [monthly])
    assert.deepEqual(await limitsOf(`/accounts/${team.json.id}`), [monthly])
    const other = await gateway.admin('POST', '/accounts', { name: 'acme' })
    assert.deepEqual(other.json.limits, [])
    const none = await gateway.admin('POST', '/accounts', { name: 'blue', kind: 'team', limits: [] })
    assert.deepEqual(none.json.limits, [])
    const { json: key } = await gateway.admin('POST', '/keys', { account: team.json.id })
    assert.deepEqual(key.limits, [
      { unit: 'requests', max: 100, window: 'day', zone: 'UTC', action: 'warn', alert_at: [80, 120] },
    ])
  })

  it('are no more than what is left above a session, and count like any others', async () => {
    const { key } = await gateway.mintKey({ limits: [{ unit: 'requests', max: 2 }] })
    const session = await gateway.ask('POST', '/v1/sessions', { key, body: {} })
    assert.deepEqual([session.status, session.json.limits], [201, { requests: 2 }])
    const own = await gateway.ask('POST', '/v1/sessions', { key, body: { limits: {} } })
    assert.deepEqual(own.json.limits, {})
    const wide = await gateway.mintKey()
    const two = await gateway.mintSession(wide.key)
    assert.equal((await gateway.chat(two.key, {})).status, 200)
    const { json } = await gateway.ask('GET', '/v1/sessions/current', { key: two.key })
    assert.deepEqual(json.remaining, { requests: 1 })
    assert.match(json.resets_at.requests, /^\d{4}-/)
    const budgets = json.budgets.filter(({ account }: { account: string }) => account === two.id)
    assert.deepEqual(
      budgets.map((row: Record<string, unknown>) => [row.unit, row.limit, row.window, row.used, row.remaining]),
      [
        ['requests', 3, 'total', 1, 2],
        ['requests', 2, 'day', 1, 1],
      ],
    )
    const above = json.budgets.find(({ account }: { account: string }) => account === wide.id)
    assert.deepEqual([above.action, above.limit, above.used], ['warn', 100, 1])
    assert.equal(json.per_model['vendor/ok'].calls, 1)
  })

  it('are refused where they are no limits, with the place', async () => {
    for (const [limit, why] of [
      [{ unit: 'requests', max: 1.5 }, /./],
      [{ unit: 'euros', max: 1 }, /./],
      [{ unit: 'requests', max: 1, zone: 'Mars/Olympus' }, /IANA time zone/],
      [{ unit: 'requests', max: 1, alert_at: [120] }, /at most 100/],
    ] as const) {
      const answered = await gateway.admin('POST', '/accounts', { name: 'x', limits: [limit] })
      assert.equal(answered.status, 400, JSON.stringify(limit))
      assert.match(answered.json.error.message, why)
    }
  })
})

describe('of two processes', () => {
  let gateway: GatewayUnderTest
  before(async () => {
    gateway = await startGateway({ ...{ vendor, models }, env: { GATEHOUSE_WORKERS: '2' } })
  })
  // Each request on a connection of its own, so that both processes get some.
  const ask = (method: string, path: string, as: string, body?: object) =>
    gateway.ask(method, path, { key: as, body, headers: { connection: 'close' } })
  const chat = (as: string) =>
    ask('POST', '/v1/chat/completions', as, { model: 'house', messages: [{ role: 'user', content: 'a' }] })

  it('both keep every top-up, and a call that was refused is answered after one', async () => {
    const { key } = await gateway.mintKey({ limits: [{ unit: 'requests', max: 1000 }] })
    const session = await gateway.mintSession(key, { limits: { requests: 1 } })
    const path = `/v1/sessions/${session.id}`
    assert.equal((await chat(session.key)).status, 200)
    assert.deepEqual(
      new Set((await Promise.all([1, 2, 3, 4].map(() => chat(session.key)))).map(({ status }) => status)),
      new Set([429]),
    )
    const topUps = await Promise.all(
      Array.from({ length: 24 }, () => ask('PATCH', path, key, { add: { requests: 2 } })),
    )
    assert.deepEqual(new Set(topUps.map(({ status }) => status)), new Set([200]))
    const answered = await Promise.all(Array.from({ length: 60 }, () => chat(session.key)))
    assert.equal(answered.filter(({ status }) => status === 200).length, 48)
    const { json } = await ask('GET', '/v1/sessions/current', session.key)
    assert.deepEqual([json.limits.requests, json.used.requests], [49, 49])
  })

  it('neither lets top-ups pass what is left above, counting what the session still has', async () => {
    const { key } = await gateway.mintKey({ limits: [{ unit: 'requests', max: 10 }] })
    const session = await gateway.mintSession(key, { limits: { requests: 4 } })
    const add = { add: { requests: 2 } }
    const topUps = await Promise.all(
      Array.from({ length: 12 }, () => ask('PATCH', `/v1/sessions/${session.id}`, key, add)),
    )
    const count = (status: number) => topUps.filter((one) => one.status === status).length
    assert.deepEqual([count(200), count(403)], [3, 9])
    await eventually(async () => (await ask('GET', '/v1/sessions/current', session.key)).json.limits.requests === 10)
  })

  it('a narrowing in one and a change of something else in the other are both in force', async () => {
    const key = await gateway.mintKey()
    const use = () => Promise.all(Array.from({ length: 8 }, () => chat(key.key)))
    await use()
    const change = (body: object) =>
      gateway.ask('PATCH', `/admin/v1/keys/${key.id}`, {
        key: gateway.adminKey,
        body,
        headers: { connection: 'close' },
      })
    await Promise.all([{ models: ['vendor/other'] }, { name: 'a' }, { labels: { a: 'b' } }, { name: 'c' }].map(change))
    const since = performance.now()
    await eventually(async () => (await use()).every(({ status }) => status === 403))
    assert.ok(performance.now() - since < 1000, 'later than promised')
  })
})

describe('a tree of sessions', () => {
  let gateway: GatewayUnderTest
  let key: string
  before(async () => {
    gateway = await startGateway({ vendor, models })
    key = (await gateway.mintKey()).key
  })
  const mint = (as: string, body: object = {}) => gateway.ask('POST', '/v1/sessions', { key: as, body })

  it('is 32 accounts deep at most; the last one works, counts on every level and ends with the first', async () => {
    const top = await gateway.mintSession(key, { limits: { requests: 40 } })
    let as = top
    // The organization, the key and the first session are three.
    for (let depth = 4; depth <= 32; depth++) as = await gateway.mintSession(as.key)
    const further = await mint(as.key)
    assert.deepEqual([further.status, further.json.error.code], [403, 'forbidden'])
    assert.equal((await gateway.chat(as.key, {})).status, 200)
    const seen = async (one: { key: string }) =>
      (await gateway.ask('GET', '/v1/sessions/current', { key: one.key })).json
    assert.equal((await seen(top)).remaining.requests, 39)
    const { json } = await gateway.ask('GET', `/v1/sessions/${top.id}/trace`, { key })
    assert.deepEqual(
      json.calls
        .filter(({ kind }: { kind: string }) => kind === 'chat')
        .map(({ account }: { account: string }) => account),
      [as.id],
    )
    assert.equal((await gateway.ask('DELETE', `/v1/sessions/${top.id}`, { key })).status, 200)
    assert.equal((await gateway.chat(as.key, {})).status, 401)
  })

  it('takes no top-up with unknown fields, wrong numbers or nothing to add to', async () => {
    const { id } = await gateway.mintSession(key, { limits: { requests: 1, usd: 1 } })
    for (const body of [
      ...[{}, [], { add: [] }, { add: { requests: -1 } }, { add: { requests: 0.5 } }, { add: { requests: '1' } }],
      ...[{ add: { usd: '1e3' } }, { add: { usd: null } }, { add: { euros: 1 } }, { add: { requests: 1 }, spent: 0 }],
      ...[{ add: { tokens: 1 } }, { add: { requests: 9_007_199_254_740_991 } }, { limits: { requests: 9 } }],
      ...['{"add":{"requests":1e999}}', '{"add":{"__proto__":{"requests":1}}}', '{"add":{"requests":1,"requests":2}}'],
    ]) {
      const answered = await gateway.ask('PATCH', `/v1/sessions/${id}`, { key, body })
      assert.deepEqual([answered.status, answered.json.error?.code], [400, 'invalid_request'], JSON.stringify(body))
    }
    const { json } = await gateway.admin('GET', `/sessions/${id}`)
    assert.deepEqual(json.standing.limits, { usd: '1', requests: 1 })
  })

  it('has no server-owned fields to set, anywhere', async () => {
    const account = await gateway.mintAccount()
    const owned = [
      { is_admin: true },
      { spent: -1e9 },
      { parent_id: 'a_x' },
      { version: 9 },
      { id: 'k_mine' },
      { digest: 'x' },
    ]
    for (const more of owned) {
      const made = await gateway.admin('POST', '/keys', { account, ...more })
      assert.equal(made.status, 400, JSON.stringify(more))
      assert.equal((await gateway.admin('PATCH', `/accounts/${account}`, more)).status, 400)
    }
    assert.deepEqual((await gateway.admin('GET', `/keys?parent=${account}`)).json.data, [])
  })
})
