/** Everything a call did can be read afterwards, to the micro-dollar. @module */
import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import { eventually, type GatewayUnderTest, openVendor, startGateway } from '../gateway.ts'

const micros = (usd: string) => Math.round(Number(usd) * 1e6)

describe('the books', () => {
  let gateway: GatewayUnderTest
  let key: { id: string; key: string }
  const price = { input: 0.15, output: 0.6, cache_read: 0.075 }

  before(async () => {
    const row = (upstream: string) => ({ provider: 'vendor', upstream, price })
    gateway = await startGateway({
      vendor: await openVendor(),
      models: {
        house: row('ok'),
        large: row('usage-123457-7891'),
        cached: row('usage-1001-333+cached-1000'),
        broken: row('status-500'),
        cut: row('cut-900'),
        reset: row('rst'),
      },
    })
    key = await gateway.mintKey()
  })

  it('price a call exactly, rounded up to the micro-dollar', async () => {
    const cost = async (model: string, stream = false) => {
      const { headers } = await gateway.chat(key.key, { model, stream })
      const row = (await gateway.ledger()).at(-1)
      if (!stream) assert.equal(micros(headers.get('x-gatehouse-cost-usd') ?? ''), row.usd)
      assert.match(row.price_version, /^models\.yaml#[0-9a-f]{8}$/)
      return row.usd
    }
    const exact = (input: number, output: number, cached = 0) =>
      Math.ceil(((input - cached) * 150_000 + cached * 75_000 + output * 600_000) / 1_000_000)
    assert.equal(await cost('house'), exact(2, 12))
    assert.equal(await cost('house', true), exact(2, 12))
    assert.equal(await cost('large'), exact(123_457, 7891))
    assert.equal(await cost('large', true), exact(123_457, 7891))
    assert.equal(await cost('cached'), exact(1001, 333, 1000))
  })

  it("show a session's calls in order with what each cost, refused ones included", async () => {
    const session = await gateway.mintSession(key.key, { limits: { requests: 4, usd: 1 } })
    const headers = { 'x-gatehouse-step': 'draft', 'x-gatehouse-labels': 'team=red, run=7' }
    await gateway.chat(session.key, { model: 'house' }, headers)
    await gateway.chat(session.key, { model: 'house', stream: true })
    await gateway.chat(session.key, { model: 'broken' })
    await gateway.chat(session.key, { model: 'nobody' })
    await gateway.ask('POST', '/v1/embeddings', { key: session.key, body: { model: 'house', input: 'one two' } })
    const child = await gateway.mintSession(session.key)
    await gateway.chat(child.key, { model: 'cut', stream: true })
    await gateway.chat(child.key, { model: 'house' })
    const { json } = await gateway.ask('GET', '/v1/sessions/current/trace', { key: session.key })
    // biome-ignore lint/suspicious/noExplicitAny: lines of a trace
    const calls = json.calls.filter((line: any) => ['chat', 'embedding'].includes(line.kind))
    assert.deepEqual(
      // biome-ignore lint/suspicious/noExplicitAny: lines of a trace
      calls.map((line: any) => [line.kind, line.model, line.outcome, line.code]),
      [
        ['chat', 'house', 'answered', null],
        ['chat', 'house', 'answered', null],
        ['chat', 'broken', 'fault', 'upstream_error'],
        ['chat', 'nobody', 'fault', 'model_not_found'],
        ['embedding', 'house', 'answered', null],
        ['chat', 'cut', 'truncated', 'upstream_truncated'],
        ['chat', 'house', 'fault', 'budget_exhausted'],
      ],
    )
    assert.deepEqual([calls[0].step, calls[0].labels], ['draft', { team: 'red', run: '7' }])
    assert.equal(calls[6].account, child.id)
    // biome-ignore lint/suspicious/noExplicitAny: lines of a trace
    const sum = calls.reduce((total: number, line: any) => total + micros(line.cost_usd), 0)
    assert.equal(micros(json.used.usd), sum)
    assert.ok(micros(calls[5].cost_usd) > 0)
    const standing = (await gateway.ask('GET', '/v1/sessions/current', { key: session.key })).json
    assert.equal(micros(standing.used.usd), sum)
    assert.equal(standing.per_model.house.calls, 4)
  })

  it("keep the caller's trace id, and give a new one where there is none", async () => {
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
    const { headers } = await gateway.chat(key.key, { model: 'house' }, { traceparent })
    assert.match(
      headers.get('traceparent') ?? '',
      /^00-0af7651916cd43dd8448eb211c80319c-(?!b7ad6b7169203331)[0-9a-f]{16}-01$/,
    )
    const fresh = await gateway.chat(key.key, { model: 'house' }, { traceparent: 'nonsense' })
    assert.match(fresh.headers.get('traceparent') ?? '', /^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/)
  })

  it('balance: one row for each call, and each account used the sum of its rows', async () => {
    const account = await gateway.mintAccount({ limits: [{ unit: 'tokens', max: 10_000_000, window: 'day' }] })
    const keys = await Promise.all([1, 2, 3].map(() => gateway.mintKey({ account, limits: [{ unit: 'usd', max: 9 }] })))
    const models = ['house', 'large', 'cached', 'broken', 'cut', 'vendor/ok']
    const calls = Array.from({ length: 90 }, (_, i) => {
      const body = { model: models[i % models.length], stream: i % 4 < 2, max_tokens: 1000 + i }
      // A caller that hangs up resets its connection.
      return gateway.chat(keys[i % 3]?.key ?? '', body).then(
        (answered) => answered.headers.get('x-gatehouse-request-id'),
        () => null,
      )
    })
    const ids = (await Promise.all(calls)).filter((id) => id !== null)
    await eventually(async () => (await gateway.metric('gatehouse_open_holds')) === 0)
    const rows = await gateway.ledger()
    for (const id of ids) assert.equal(rows.filter((row) => row.call === id).length, 1)
    const used = async (path: string) => (await gateway.admin('GET', path)).json.standing
    const total = { usd: 0, tokens: 0 }
    const check = async () => {
      total.usd = 0
      total.tokens = 0
      for (const { id } of keys) {
        const own = rows.filter((row) => row.account === id)
        assert.equal(own.length, 30)
        const usd = own.reduce((sum, row) => sum + row.usd, 0)
        const tokens = own.reduce((sum, row) => sum + row.tokens, 0)
        assert.deepEqual(
          [micros((await used(`/keys/${id}`)).spent.usd), (await used(`/keys/${id}`)).spent.tokens],
          [usd, tokens],
        )
        total.usd += usd
        total.tokens += tokens
      }
      const standing = await used(`/accounts/${account}`)
      assert.deepEqual([micros(standing.spent.usd), standing.used.tokens], [total.usd, total.tokens])
    }
    await check()
    await gateway.restart()
    await check()
    const { json } = await gateway.admin('GET', '/usage?group_by=model')
    // biome-ignore lint/suspicious/noExplicitAny: rows of the usage report
    const reported = json.data.reduce((sum: number, row: any) => sum + micros(row.usd), 0)
    assert.equal(
      reported,
      rows.reduce((sum, row) => sum + row.usd, 0),
    )
  })

  it('count a request that left and was never answered, since the provider may have worked on it', async () => {
    const { status } = await gateway.chat(key.key, { model: 'reset' })
    assert.equal(status, 502)
    const row = (await gateway.ledger()).at(-1)
    assert.deepEqual([row.code, row.usage_source, row.output], ['upstream_error', 'estimated', 0])
    assert.ok(row.input > 0 && row.usd > 0)
  })
})
