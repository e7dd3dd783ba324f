/** Sessions: what a key holder hands to an agent, and an agent to a sub-agent. Never wider than above. @module */
import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import { eventually, type GatewayUnderTest, openVendor, startGateway } from '../gateway.ts'

describe('a session', () => {
  let gateway: GatewayUnderTest
  let key: string

  before(async () => {
    gateway = await startGateway({
      vendor: await openVendor(),
      models: { house: { provider: 'vendor', upstream: 'ok', price: { input: 1, output: 2 } } },
    })
    key = (await gateway.mintKey()).key
  })
  const mint = (as: string, body: object) => gateway.ask('POST', '/v1/sessions', { key: as, body })
  const current = async (as: string) => (await gateway.ask('GET', '/v1/sessions/current', { key: as })).json
  const status = async (as: string, body: object = {}) => (await gateway.chat(as, body)).status
  const count = async () => (await gateway.admin('GET', '/sessions?limit=1000')).json.data.length

  it('is minted with a key of its own, what it may use and when it ends', async () => {
    const { status: code, json } = await mint(key, {
      ttl: 600,
      limits: { usd: '0.25', tokens: 9000, requests: 5, tool_calls: 0 },
      models: ['vendor/*'],
      tools: [],
      labels: { run: '7' },
    })
    assert.equal(code, 201)
    assert.match(json.key, /^sk-gate-s_/)
    assert.deepEqual(json.limits, { usd: '0.25', tokens: 9000, requests: 5, tool_calls: 0 })
    assert.deepEqual([json.models, json.tools], [['vendor/*'], []])
    const left = Date.parse(json.expires_at) - Date.now()
    assert.ok(left > 0 && left <= 600_000)
    const seen = await current(json.key)
    assert.equal(seen.id, json.id)
    assert.deepEqual(seen.remaining, { usd: '0.25', tokens: 9000, requests: 5, tool_calls: 0 })
    const listed = await gateway.admin('GET', `/sessions/${json.id}`)
    assert.ok(!listed.text.includes(json.key))
  })

  it('is never wider than its parent, in anything, and nothing is made when it would be', async () => {
    const parent = await gateway.mintSession(key, {
      ttl: 300,
      limits: { usd: 1, tokens: 1000, requests: 4 },
      models: ['vendor/o*', 'house'],
      tools: ['files__read*'],
    })
    const before = await count()
    for (const wider of [
      ...[{ models: ['*'] }, { models: ['vendor/*'] }, { models: ['house', 'vendor/x'] }, { models: ['hous'] }],
      ...[{ tools: ['files__*'] }, { tools: ['*'] }, { tools: ['files__write'] }],
      ...[{ limits: { usd: '1.000001' } }, { limits: { tokens: 1001 } }, { limits: { requests: 5, usd: 0 } }],
      ...[{ ttl: 301 }, { ttl: 86_400 }],
    ]) {
      const answered = await mint(parent.key, wider)
      assert.equal(answered.status, 403, JSON.stringify(wider))
      assert.equal(answered.json.error.code, 'forbidden')
    }
    assert.equal(await count(), before)
    for (const narrower of [
      { models: ['vendor/ok'], tools: ['files__read_text'], limits: { usd: 1, tokens: 0 }, ttl: 100 },
      { models: [], tools: [] },
      {},
    ])
      assert.equal((await mint(parent.key, narrower)).status, 201, JSON.stringify(narrower))
  })

  it('cannot take more than what its parent has left', async () => {
    const parent = await gateway.mintSession(key, { limits: { requests: 3 } })
    assert.equal(await status(parent.key), 200)
    assert.equal((await mint(parent.key, { limits: { requests: 3 } })).status, 403)
    assert.equal((await mint(parent.key, { limits: { requests: 2 } })).status, 201)
  })

  it('is refused for what is no request: unknown fields, wrong types, too many digits', async () => {
    for (const wrong of [
      ...[
        { budget: 1 },
        { ttl: 0 },
        { ttl: 1.5 },
        { ttl: '60' },
        { limits: { usd: -1 } },
        { limits: { usd: '0.0000001' } },
      ],
      ...[
        { limits: { usd: '1e3' } },
        { limits: { tokens: 0.5 } },
        { limits: { euros: 1 } },
        { models: 'all' },
        { models: [''] },
      ],
      ...[{ parent: 'a_x' }, { is_admin: true }, { labels: { 'a b': 'c' } }, [], 'text', 7],
    ]) {
      const answered = await mint(key, wrong as object)
      assert.equal(answered.status, 400, JSON.stringify(wrong))
      assert.equal(answered.json.error.code, 'invalid_request')
    }
    for (const body of ['{"ttl":60,"ttl":61}', '{"ttl":60', '{"__proto__":{}}', '\ufeff{}']) {
      const answered = await gateway.ask('POST', '/v1/sessions', { key, body })
      assert.equal(answered.status, 400, body)
    }
  })

  it('with an empty list of models may use none', async () => {
    const none = await gateway.mintSession(key, { models: [] })
    assert.equal(await status(none.key), 403)
    assert.deepEqual((await gateway.ask('GET', '/v1/models', { key: none.key })).json.data, [])
    const below = await gateway.mintSession(none.key, {})
    assert.equal(await status(below.key), 403)
  })

  it('may mint sessions below itself, and what they use is its own use as well', async () => {
    const parent = await gateway.mintSession(key, { limits: { requests: 4 } })
    const child = await gateway.mintSession(parent.key, { limits: { requests: 2 } })
    const grandchild = await gateway.mintSession(child.key)
    assert.equal(await status(grandchild.key), 200)
    assert.equal(await status(child.key), 200)
    assert.equal(await status(grandchild.key), 429)
    assert.equal((await current(parent.key)).remaining.requests, 2)
    assert.equal((await current(child.key)).remaining.requests, 0)
  })

  it('is topped up by who minted it, never by itself, and only with what is left above', async () => {
    const parent = await gateway.mintSession(key, { limits: { requests: 5 } })
    const child = await gateway.mintSession(parent.key, { limits: { requests: 1 } })
    const topUp = (as: string, add: object) =>
      gateway.ask('PATCH', `/v1/sessions/${child.id}`, { key: as, body: { add } })
    assert.equal(await status(child.key), 200)
    assert.equal(await status(child.key), 429)
    assert.equal((await topUp(child.key, { requests: 1 })).status, 403)
    assert.equal((await topUp(parent.key, { requests: 5 })).status, 403)
    assert.equal((await topUp(parent.key, { usd: 1 })).status, 400)
    assert.equal((await topUp(parent.key, { requests: 2 })).json.remaining.requests, 2)
    assert.equal(await status(child.key), 200)
    await gateway.restart()
    assert.equal((await current(child.key)).remaining.requests, 1)
  })

  it('keeps every top-up of many at once', async () => {
    const child = await gateway.mintSession(key, { limits: { requests: 1, usd: 0 } })
    const add = { requests: 2, usd: '0.01' }
    const topUp = () => gateway.ask('PATCH', `/v1/sessions/${child.id}`, { key, body: { add } })
    await Promise.all(Array.from({ length: 10 }, topUp))
    assert.deepEqual((await current(child.key)).limits, { usd: '0.1', requests: 21 })
  })

  it('ends at once with everything below it', async () => {
    const parent = await gateway.mintSession(key)
    const child = await gateway.mintSession(parent.key)
    const grandchild = await gateway.mintSession(child.key)
    assert.equal(await status(grandchild.key), 200)
    assert.equal((await gateway.ask('DELETE', `/v1/sessions/${child.id}`, { key: parent.key })).status, 200)
    assert.equal(await status(grandchild.key), 401)
    assert.equal(await status(child.key), 401)
    assert.equal(await status(parent.key), 200)
    assert.equal((await gateway.ask('DELETE', '/v1/sessions/current', { key: parent.key })).status, 200)
    assert.equal(await status(parent.key), 401)
    await gateway.restart()
    for (const gone of [parent, child, grandchild]) assert.equal(await status(gone.key), 401)
  })

  it('ends with its key, and a key with its account', async () => {
    const account = await gateway.mintAccount()
    const one = await gateway.mintKey({ account })
    const two = await gateway.mintKey({ account })
    const below = await gateway.mintSession(one.key)
    assert.equal((await gateway.admin('DELETE', `/keys/${one.id}`)).status, 200)
    assert.equal(await status(below.key), 401)
    assert.equal(await status(two.key), 200)
    assert.equal((await gateway.admin('DELETE', `/accounts/${account}`)).status, 200)
    assert.equal(await status(two.key), 401)
  })

  it('ends by itself when its time is over', async () => {
    const brief = await gateway.mintSession(key, { ttl: 1 })
    assert.equal(await status(brief.key), 200)
    await eventually(async () => (await status(brief.key)) === 401)
  })

  it('of somebody else looks like none, whatever is asked of it', async () => {
    const mine = await gateway.mintSession(key)
    const stranger = (await gateway.mintKey()).key
    const child = await gateway.mintSession(mine.key)
    for (const [as, id] of [
      [stranger, mine.id],
      [stranger, 's_doesnotexist00'],
      [child.key, mine.id],
    ] as const) {
      for (const [method, path, body] of [
        ['GET', `/v1/sessions/${id}`, undefined],
        ['GET', `/v1/sessions/${id}/trace`, undefined],
        ['DELETE', `/v1/sessions/${id}`, undefined],
        ['PATCH', `/v1/sessions/${id}`, { add: { requests: 1 } }],
      ] as const) {
        const answered = await gateway.ask(method, path, { key: as, body })
        assert.equal(answered.status, 404, `${method} ${path}`)
        assert.equal(answered.json.error.message, 'The session does not exist.')
      }
    }
    assert.equal(await status(mine.key), 200)
  })

  it('narrows with its parent later on', async () => {
    const parent = await gateway.mintKey()
    const session = await gateway.mintSession(parent.key)
    assert.equal(await status(session.key), 200)
    await gateway.admin('PATCH', `/keys/${parent.id}`, { models: ['house'] })
    assert.equal(await status(session.key), 403)
    assert.equal(await status(session.key, { model: 'house' }), 200)
    await gateway.admin('PATCH', `/keys/${parent.id}`, { limits: [{ unit: 'requests', max: 2 }] })
    assert.equal(await status(session.key, { model: 'house' }), 429)
  })
})
