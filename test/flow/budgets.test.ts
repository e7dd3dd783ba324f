/** Budgets stop calls before they cost, and say which limit it was. @module */
import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import { type GatewayUnderTest, openVendor, startGateway } from '../gateway.ts'
import type { Vendor } from '../upstreams/vendor.ts'

describe('a budget', () => {
  let vendor: Vendor
  let gateway: GatewayUnderTest
  let key: string

  before(async () => {
    vendor = await openVendor()
    gateway = await startGateway({
      vendor,
      models: {
        house: { provider: 'vendor', upstream: 'ok', max_output: 500, price: { input: 1, output: 2 } },
        thrifty: { provider: 'vendor', upstream: 'long-100', price: { input: 1, output: 2 } },
        overrun: { provider: 'vendor', upstream: 'long-100+ignores-cap', price: { input: 1, output: 2 } },
        held: { provider: 'vendor', upstream: 'hold', price: { input: 1, output: 2 } },
      },
    })
    key = (await gateway.mintKey()).key
  })
  const session = async (limits: object) => (await gateway.mintSession(key, { limits })).key
  const lastBody = () => JSON.parse(vendor.requests.at(-1)?.body.toString() ?? '{}')

  it('of each kind stops hard, with a code, the limit, and no retry', async () => {
    const cases = [
      [{ requests: 0 }, 'budget_exhausted', 'requests'],
      [{ tokens: 0 }, 'budget_exhausted', 'tokens'],
      [{ usd: 0 }, 'budget_exhausted', 'usd'],
      [{ tokens: 20 }, 'budget_too_small', 'tokens'],
      [{ usd: '0.00002' }, 'budget_too_small', 'usd'],
    ] as const
    const before = vendor.requests.length
    for (const [limits, code, limit] of cases) {
      for (const stream of [false, true]) {
        const { status, headers, json } = await gateway.chat(await session(limits), { model: 'house', stream })
        assert.equal(status, 429, JSON.stringify(limits))
        assert.equal(headers.get('x-should-retry'), 'false')
        assert.equal(headers.get('retry-after'), null)
        assert.equal(json.error.code, code)
        assert.equal(json.error.limit, limit)
        assert.match(json.error.account, /^s_/)
        assert.equal(json.error.resets_at, null)
      }
    }
    assert.equal(vendor.requests.length, before)
  })

  it('of an account counts for every key below it, with the time it starts again', async () => {
    const account = await gateway.mintAccount({ limits: [{ unit: 'requests', max: 1, window: 'month' }] })
    const one = await gateway.mintKey({ account })
    const two = await gateway.mintKey({ account })
    assert.equal((await gateway.chat(one.key, {})).status, 200)
    const refused = await gateway.chat(two.key, {})
    assert.equal(refused.json.error.code, 'budget_exhausted')
    assert.equal(refused.json.error.account, account)
    assert.match(refused.json.error.resets_at, /^\d{4}-\d\d-01T00:00:00.000Z$/)
    const warned = await gateway.mintAccount({ limits: [{ unit: 'requests', max: 0, action: 'warn' }] })
    assert.equal((await gateway.chat((await gateway.mintKey({ account: warned })).key, {})).status, 200)
  })

  it('that is held by a call in flight says when to try again', async () => {
    const child = await session({ requests: 1 })
    const first = gateway.chat(child, { model: 'held' })
    await vendor.until((request) => request.model === 'hold')
    const second = await gateway.chat(child, { model: 'held' })
    assert.deepEqual([second.status, second.json.error.code], [429, 'budget_contended'])
    assert.ok(Number(second.headers.get('retry-after')) > 0)
    assert.equal(second.headers.get('x-should-retry'), null)
    vendor.release()
    assert.equal((await first).status, 200)
    assert.equal((await gateway.chat(child, { model: 'house' })).json.error.code, 'budget_exhausted')
  })

  it('caps the output of a request that gives no cap, or a higher one', async () => {
    const child = await session({ tokens: 400 })
    assert.equal((await gateway.chat(child, { model: 'thrifty' })).status, 200)
    const injected = lastBody().max_tokens
    assert.ok(injected > 0 && injected < 400, String(injected))
    await gateway.chat(await session({ tokens: 400 }), { model: 'thrifty', max_tokens: 100_000 })
    assert.ok(lastBody().max_tokens < 400)
    await gateway.chat(await session({ tokens: 4000 }), { model: 'thrifty', max_tokens: 50, max_completion_tokens: 60 })
    assert.deepEqual([lastBody().max_tokens, lastBody().max_completion_tokens], [50, 60])
    await gateway.chat(await session({ tokens: 300 }), {
      model: 'thrifty',
      max_tokens: 5000,
      max_completion_tokens: 6000,
    })
    assert.ok(lastBody().max_tokens < 300 && lastBody().max_completion_tokens < 300)
    await gateway.chat(await session({ usd: '0.0005' }), { model: 'thrifty' })
    assert.ok(lastBody().max_tokens < 250)
    await gateway.chat(await session({ tokens: 50_000 }), { model: 'house' })
    assert.equal(lastBody().max_tokens, 500)
  })

  it('caps a request whose cap is null, which providers read as none', async () => {
    await gateway.chat(await session({ tokens: 400 }), { model: 'thrifty', max_tokens: null })
    assert.ok(lastBody().max_tokens > 0 && lastBody().max_tokens < 400, vendor.requests.at(-1)?.body.toString())
    await gateway.chat(await session({ tokens: 400 }), { model: 'thrifty', max_completion_tokens: null })
    assert.ok(lastBody().max_tokens > 0 && lastBody().max_tokens < 400)
  })

  it('counts every answer that is asked for', async () => {
    await gateway.chat(await session({ tokens: 1000 }), { model: 'thrifty', n: 4 })
    assert.ok(lastBody().max_tokens * 4 < 1000)
    const child = await session({ tokens: 150 })
    assert.equal((await gateway.chat(child, { model: 'thrifty', n: 20 })).json.error.code, 'budget_too_small')
  })

  it('leaves a request alone where nothing limits it', async () => {
    await gateway.chat(key, { model: 'house' })
    assert.equal('max_tokens' in lastBody(), false)
  })

  it('charges an overrun of the provider and refuses the next call', async () => {
    const child = await session({ tokens: 150 })
    const { status } = await gateway.chat(child, { model: 'overrun', max_tokens: 20 })
    assert.equal(status, 200)
    const { used, remaining } = (await gateway.ask('GET', '/v1/sessions/current', { key: child })).json
    assert.deepEqual([used.tokens, remaining.tokens], [102, 48])
    assert.equal((await gateway.chat(child, { model: 'overrun', max_tokens: 20 })).json.error.code, 'budget_too_small')
  })

  it('in dollars refuses a model nobody knows the price of', async () => {
    const refused = await gateway.chat(await session({ usd: 5 }), { model: 'vendor/unpriced' })
    assert.deepEqual([refused.status, refused.json.error.code], [403, 'model_not_allowed'])
    assert.match(refused.json.error.message, /no-price/)
    assert.equal((await gateway.chat(key, { model: 'vendor/unpriced' })).status, 200)
  })

  it('tells what is left after each whole answer', async () => {
    const child = await session({ requests: 3, usd: 1 })
    const { headers } = await gateway.chat(child, { model: 'house' })
    // Two words in, twelve out: 2 x 1 + 12 x 2 dollars per million.
    assert.equal(headers.get('x-gatehouse-cost-usd'), '0.000026')
    assert.equal(headers.get('x-gatehouse-budget-remaining'), 'usd=0.999974, requests=2')
    assert.match(headers.get('x-gatehouse-session') ?? '', /^s_/)
  })

  it('for exactly N requests lets exactly N of 200 at once through to the vendor', async () => {
    for (const [limits, model, n] of [
      [{ requests: 17 }, 'burst-requests', 17],
      [{ tokens: 1400 }, 'usage-2-12', null],
    ] as const) {
      const child = await session(limits)
      const before = vendor.requests.length
      const answers = await Promise.all(
        Array.from({ length: 200 }, (_, i) =>
          gateway.chat(child, { model: `vendor/${model}`, stream: i % 2 === 0, max_tokens: 16 }),
        ),
      )
      const passed = answers.filter(({ status }) => status === 200).length
      assert.equal(vendor.requests.length - before, passed)
      if (n !== null) assert.equal(passed, n)
      assert.ok(answers.every(({ status }) => status === 200 || status === 429))
      const { used, held, limits: of } = (await gateway.ask('GET', '/v1/sessions/current', { key: child })).json
      for (const unit of Object.keys(of)) {
        assert.ok(used[unit] <= of[unit], `${unit}: ${used[unit]} of ${of[unit]}`)
        assert.equal(held[unit], 0)
      }
    }
    assert.equal(await gateway.metric('gatehouse_open_holds'), 0)
  })
})
