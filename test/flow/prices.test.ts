/** Every kind of token at its own price, streamed or not, to the micro-dollar. @module */
import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import { priceOf, priceSchema } from '../../src/price.ts'
import { type GatewayUnderTest, openVendor, startGateway } from '../gateway.ts'
import type { Vendor } from '../upstreams/vendor.ts'

const price = {
  ...{ input: 1, output: 10, cache_read: 0.1, cache_write: 1.25, cache_write_long: 2 },
  ...{ reasoning: 3, audio_input: 32, audio_output: 64 },
  tiers: [{ above: 2000, input: 2, output: 20, reasoning: 6 }],
}

describe('a model call costs', () => {
  let vendor: Vendor
  let gateway: GatewayUnderTest
  let key: string
  const upstreams = {
    plain: 'usage-1000-400',
    cached: 'usage-1000-400+cached-100',
    written: 'usage-1000-400+written-200-50',
    thought: 'usage-1000-400+reasoning-250',
    spoken: 'usage-1000-400+audio-300-60',
    everything: 'usage-1000-400+cached-100+written-200-50+reasoning-250+audio-300-60',
    tier: 'usage-2001-400+reasoning-250',
    beneath: 'usage-2000-400+reasoning-250',
    nothing: 'zero-usage',
    odd: 'odd',
  }

  before(async () => {
    vendor = await openVendor()
    gateway = await startGateway({
      vendor,
      models: Object.fromEntries(
        Object.entries(upstreams).map(([id, upstream]) => [id, { provider: 'vendor', upstream, price }]),
      ),
    })
    key = (await gateway.mintKey({ limits: [{ unit: 'usd', max: 100 }] })).key
  })

  async function row(model: string, stream: boolean) {
    const { status } = await gateway.chat(key, { model, stream })
    assert.equal(status, 200, model)
    return (await gateway.ledger()).at(-1)
  }

  it('what a hand calculation says, for every kind of token', async () => {
    const expected: Readonly<Record<string, number>> = {
      plain: 1000 * 1 + 400 * 10,
      cached: 900 * 1 + 100 * 0.1 + 4000,
      written: 800 * 1 + 150 * 1.25 + 50 * 2 + 4000 + 0.5,
      thought: 1000 * 1 + 150 * 10 + 250 * 3,
      spoken: 700 * 1 + 300 * 32 + 340 * 10 + 60 * 64,
      everything: 400 * 1 + 100 * 0.1 + 150 * 1.25 + 50 * 2 + 300 * 32 + 90 * 10 + 250 * 3 + 60 * 64 + 0.5,
      tier: 2001 * 2 + 150 * 20 + 250 * 6,
      beneath: 2000 * 1 + 150 * 10 + 250 * 3,
      nothing: 0,
    }
    const { version } = priceOf('vendor', 'x', priceSchema.parse(price)) ?? assert.fail()
    for (const [model, usd] of Object.entries(expected)) {
      for (const stream of [false, true]) {
        const booked = await row(model, stream)
        assert.deepEqual([booked.usd, booked.usage_source], [usd, 'provider'], `${model} ${stream}`)
        assert.equal(booked.price_version, version)
      }
    }
  })

  it('an estimate, and says so, when the usage cannot be believed', async () => {
    const good = { prompt_tokens: 5, completion_tokens: 7, total_tokens: 12 }
    const usages: Readonly<Record<string, unknown>> = {
      negative: { ...good, prompt_tokens: -5 },
      text: { ...good, completion_tokens: '7' },
      huge: { ...good, prompt_tokens: 1e15 },
      fraction: { ...good, completion_tokens: 0.5 },
      missing: {},
      'odd cache': { ...good, prompt_tokens_details: { cached_tokens: -3 } },
      'odd speech': { ...good, completion_tokens_details: { audio_tokens: '3' } },
    }
    let usage: unknown
    vendor.script('odd', (_request, _count, response) => {
      const message = { role: 'assistant', content: 'hello' }
      response.setHeader('content-type', 'application/json')
      response.end(JSON.stringify({ id: 'x', choices: [{ index: 0, message, finish_reason: 'stop' }], usage }))
      return undefined
    })
    for (const [name, said] of Object.entries(usages)) {
      usage = said
      const booked = await row('odd', false)
      assert.deepEqual([booked.usage_source, booked.usd > 0], ['estimated', true], name)
    }
    usage = good
    assert.equal((await row('odd', false)).usage_source, 'provider')
  })
})
