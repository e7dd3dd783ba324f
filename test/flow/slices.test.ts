/** A stream takes its budget in slices, and ends in a way an official SDK understands when no more is to be had. @module */
import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import OpenAI from 'openai'
import { eventually, type GatewayUnderTest, hello, openVendor, startGateway } from '../gateway.ts'
import type { Vendor } from '../upstreams/vendor.ts'
import { text } from '../upstreams/vendor-answers.ts'

const messages = [{ role: 'user' as const, content: 'hello there' }]

/** What the SDK made of a stream. */
interface Seen {
  said: string[]
  readonly finish: (string | null)[]
  usage: OpenAI.CompletionUsage | null
  error: InstanceType<typeof OpenAI.APIError> | null
}

describe('a stream held in slices', () => {
  let vendor: Vendor
  let gateway: GatewayUnderTest
  let key: string

  before(async () => {
    vendor = await openVendor()
    const row = (upstream: string) => ({ provider: 'vendor', upstream, price: { input: 1, output: 2 } })
    gateway = await startGateway({
      vendor,
      models: {
        steady: row('long-5000+drip-1'),
        quick: row('long-1200'),
        held: row('long-1200+hold-20'),
        deaf: row('endless+ignores-cap+drip-1'),
        fresh: row('long-600+usage-every+drip-1'),
      },
    })
    key = (await gateway.mintKey()).key
  })
  const session = async (limits: object, parent = key) => gateway.mintSession(parent, { limits })
  const standing = async (child: string) =>
    (await gateway.ask('GET', '/v1/sessions/current', { key: child })).json as {
      used: { tokens: number; usd: string }
      held: { tokens: number }
      remaining: { tokens: number }
    }
  const rows = async (account: string) => (await gateway.ledger()).filter((row) => row.account === account)

  async function listen(as: string, body: object): Promise<Seen> {
    const client = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: as, maxRetries: 0 })
    const seen: Seen = { said: [], finish: [], usage: null, error: null }
    try {
      const asked = { model: 'steady', messages, stream: true as const, ...body }
      for await (const chunk of await client.chat.completions.create(asked)) {
        assert.match(chunk.id, /^chatcmpl-vendor-/)
        assert.equal(chunk.object, 'chat.completion.chunk')
        seen.usage = chunk.usage ?? seen.usage
        for (const { index, delta, finish_reason } of chunk.choices) {
          seen.said[index] = (seen.said[index] ?? '') + (delta.content ?? '')
          if (finish_reason !== null) seen.finish[index] = finish_reason
        }
      }
    } catch (error) {
      assert.ok(error instanceof OpenAI.APIError, String(error))
      seen.error = error
    }
    return seen
  }

  it('holds a part of its cap and more as it goes on, and all of it is gone at the end', async () => {
    const child = await session({ tokens: 5000 })
    const over = listen(child.key, { model: 'held', max_tokens: 2000 })
    await eventually(async () => (await standing(child.key)).held.tokens > 0)
    assert.ok((await standing(child.key)).held.tokens < 700)
    await vendor.until((request) => request.model.includes('hold-20') && request.bytesSent > 3000)
    vendor.release()
    const { said, finish, error } = await over
    assert.deepEqual([said[0], finish, error], [text(1200), ['stop'], null])
    const after = await standing(child.key)
    assert.deepEqual([after.held.tokens, after.used.tokens], [0, 1202])
  })

  it('shares one budget with another: both stop inside it, with what they said and why', async () => {
    const account = await gateway.mintAccount({ limits: [{ unit: 'tokens', max: 2000 }] })
    const keys = await Promise.all([1, 2].map(() => gateway.mintKey({ account })))
    const seen = await Promise.all(keys.map((one) => listen(one.key, { stream_options: { include_usage: true } })))
    for (const { said, finish, error, usage } of seen) {
      assert.deepEqual(finish, ['length'])
      assert.ok((said[0] ?? '') !== '' && text(5000).startsWith(said[0] ?? ''))
      // One of the two may have been capped to what was left, and then the vendor itself ends it.
      if (error === null) continue
      const { code, error: body } = error as { code: unknown; error: unknown }
      assert.equal(code, 'budget_exhausted')
      assert.partialDeepStrictEqual(body, { limit: 'tokens', account, resets_at: null })
      assert.ok(usage !== null && usage.completion_tokens > 0)
    }
    assert.ok(seen.some(({ error }) => error !== null))
    const { json } = await gateway.admin('GET', `/accounts/${account}`)
    assert.ok(json.standing.used.tokens <= 2000, JSON.stringify(json.standing))
    // What is left over is less than what two streams keep in reserve.
    assert.ok(json.standing.used.tokens > 1500, JSON.stringify(json.standing))
    assert.equal(json.standing.held.tokens, 0)
    const booked = (await Promise.all(keys.map(({ id }) => rows(id)))).flat()
    for (const [index, { usage, error }] of seen.entries()) {
      if (error === null) continue
      const row = booked.find((one) => one.account === keys[index]?.id)
      assert.deepEqual([row.outcome, row.code, row.usage_source], ['truncated', 'budget_exhausted', 'estimated'])
      assert.deepEqual([row.input, row.output], [usage?.prompt_tokens, usage?.completion_tokens])
    }
    const requests = vendor.requests.filter(({ model }) => model === 'long-5000+drip-1')
    await eventually(() => requests.every(({ over }) => over))
    assert.ok(requests.some(({ aborted }) => aborted))
  })

  it('stops when its limit is lowered below what it would need', async () => {
    const account = await gateway.mintAccount({ limits: [{ unit: 'tokens', max: 100_000 }] })
    const own = await gateway.mintKey({ account })
    const over = listen(own.key, { max_tokens: 20_000 })
    await vendor.until((request) => request.model === 'long-5000+drip-1' && !request.over && request.bytesSent > 3000)
    const lowered = await gateway.admin('PATCH', `/accounts/${account}`, { limits: [{ unit: 'tokens', max: 10 }] })
    assert.equal(lowered.status, 200, lowered.text)
    const { finish, error } = await over
    assert.deepEqual([finish, error?.code], [['length'], 'budget_exhausted'])
    const row = (await rows(own.id)).at(-1)
    assert.deepEqual([row.outcome, row.code], ['truncated', 'budget_exhausted'])
    // It ended at the slice it had, far from its cap.
    assert.ok(row.output < 5000, String(row.output))
    assert.equal((await gateway.admin('GET', `/accounts/${account}`)).json.standing.held.tokens, 0)
  })

  it('closes every answer that is still open, in text completions too', async () => {
    const child = await session({ tokens: 5000 })
    const seen = await listen(child.key, { model: 'deaf', n: 3, max_tokens: 20 })
    assert.deepEqual([seen.finish, seen.error?.code], [['length', 'length', 'length'], 'upstream_error'])
    assert.ok(seen.said.every((said) => text(30).startsWith(said)))
    const client = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: child.key, maxRetries: 0 })
    const asked = { model: 'deaf', prompt: 'hello there', max_tokens: 20, stream: true as const }
    let last: OpenAI.Completion | null = null
    await assert.rejects(async () => {
      for await (const chunk of await client.completions.create(asked)) last = chunk
    }, OpenAI.APIError)
    assert.partialDeepStrictEqual(last, {
      object: 'text_completion',
      choices: [{ index: 0, text: '', finish_reason: 'length' }],
    })
    assert.equal((await standing(child.key)).held.tokens, 0)
  })

  it('cuts a vendor that goes on beyond its cap one event behind it, and says whose fault it is', async () => {
    const child = await session({ tokens: 5000 })
    const { said, finish, error } = await listen(child.key, { model: 'deaf', max_tokens: 40 })
    assert.equal(said[0], text(41))
    assert.deepEqual([finish, error?.code], [['length'], 'upstream_error'])
    assert.match(error?.message ?? '', /beyond the 40 output tokens/)
    const row = (await rows(child.id)).at(-1)
    assert.deepEqual([row.outcome, row.code, row.usage_source], ['truncated', 'upstream_error', 'estimated'])
    const request = await vendor.until((one) => one.model.startsWith('endless') && one.over)
    assert.equal(request.aborted, true)
    assert.equal((await standing(child.key)).held.tokens, 0)
  })

  it('calls it a budget where the budget was what capped it, and refuses the next call', async () => {
    const child = await session({ tokens: 400 })
    const { finish, error } = await listen(child.key, { model: 'deaf' })
    assert.deepEqual([finish, error?.code], [['length'], 'budget_exhausted'])
    const { status, json } = await gateway.chat(child.key, { ...hello, model: 'steady' })
    assert.equal(status, 429)
    assert.match(json.error.code, /^budget_/)
  })

  it('leaves a vendor that keeps to its cap alone, however long its words are', async () => {
    for (const max_tokens of [16, 40, 300]) {
      const child = await session({ tokens: 5000 })
      const { said, finish, error } = await listen(child.key, { model: 'quick', max_tokens })
      assert.deepEqual([said[0], finish, error], [text(max_tokens), ['length'], null])
      assert.equal((await rows(child.id)).at(-1).usage_source, 'provider')
    }
  })

  it('in dollars stops as well, and never spends more than there is', async () => {
    const parent = await gateway.mintKey({ limits: [{ unit: 'usd', max: '0.003' }] })
    const seen = await Promise.all([1, 2, 3].map(() => listen(parent.key, { max_tokens: 1000 })))
    assert.ok(
      seen.some(({ error }) => error?.code === 'budget_exhausted'),
      JSON.stringify(seen.map((s) => s.error)),
    )
    const booked = await rows(parent.id)
    const spent = booked.reduce((sum, row) => sum + row.usd, 0)
    assert.ok(spent <= 3000 && spent > 2000, String(spent))
    assert.equal(await gateway.metric('gatehouse_open_holds'), 0)
  })

  it('tells the raw bytes in that order: the finish, the usage, the error, and no [DONE]', async () => {
    const child = await session({ tokens: 5000 })
    const { text: said } = await gateway.chat(child.key, {
      ...{ model: 'deaf', max_tokens: 20, stream: true, stream_options: { include_usage: true } },
    })
    const [finish, usage, error] = said
      .trimEnd()
      .split('\n\n')
      .slice(-3)
      .map((line) => JSON.parse(line.slice(6)))
    assert.deepEqual(finish.choices, [{ index: 0, delta: {}, logprobs: null, finish_reason: 'length' }])
    assert.deepEqual([finish.model, finish.system_fingerprint], ['endless+ignores-cap+drip-1', 'fp_vendor'])
    assert.deepEqual(
      [usage.choices, usage.usage.total_tokens],
      [[], usage.usage.prompt_tokens + usage.usage.completion_tokens],
    )
    assert.match(error.error.request_id, /^req_/)
    assert.ok(!said.includes('[DONE]'))
  })

  it('warns of a provider that reports more than was held, with the call and both numbers', async () => {
    const child = await session({ tokens: 300 })
    const { headers } = await gateway.chat(child.key, { model: 'vendor/usage-2-500', max_tokens: 20 })
    const id = headers.get('x-gatehouse-request-id')
    await gateway.logged(new RegExp(`"event":"overrun","call":"${id}","held":\\{[^}]*\\},"used":\\{[^}]*"tokens":502`))
    assert.equal((await standing(child.key)).used.tokens, 502)
    assert.equal((await gateway.chat(child.key, {})).json.error.code, 'budget_exhausted')
  })
})
