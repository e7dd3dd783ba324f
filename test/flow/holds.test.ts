/** What a call holds before it leaves: enough, and no more than it has to. @module */
import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import type { Account, Admitted, Attempt, LlmCall } from '../../src/call.ts'
import { readBody } from '../../src/dialects/openai-chat/body.ts'
import { Fault } from '../../src/fault.ts'
import type { Gateway } from '../../src/gateway.ts'
import { sizeAttempt } from '../../src/plan/size.ts'
import { type GatewayUnderTest, openVendor, startGateway, startInside } from '../gateway.ts'
import type { Vendor } from '../upstreams/vendor.ts'

const models = {
  house: { provider: 'vendor', upstream: 'ok', price: { input: 1, output: 2 } },
  gpt: { provider: 'vendor', upstream: 'gpt-4o', price: { input: 1, output: 2 } },
  gratis: { provider: 'vendor', upstream: 'ok+times-9', price: { input: 0, output: 0 } },
  held: { provider: 'vendor', upstream: 'hold', price: { input: 1, output: 2 } },
  tiered: {
    ...{ provider: 'vendor', upstream: 'ok+crlf' },
    price: { input: 0.333, output: 0.777, tiers: [{ above: 400, input: 0.7, output: 1.1 }] },
  },
  written: {
    ...{ provider: 'vendor', upstream: 'ok+no-done' },
    price: {
      input: 1,
      output: 2,
      cache_write: 1.25,
      cache_write_long: 2,
      audio_input: 30,
      audio_output: 60,
      reasoning: 3,
    },
  },
}
const words = 'The gates open slowly, and quietly the rest of the household follows them home. '

/** A PNG of some size as far as its header tells, with so many bytes behind it. */
function picture(width: number, height: number, bytes: number): string {
  const png = Buffer.alloc(bytes, 7)
  png.write('\x89PNG\r\n\x1a\n\0\0\0\rIHDR', 'latin1')
  png.writeUInt32BE(width, 16)
  png.writeUInt32BE(height, 20)
  return `data:image/png;base64,${png.toString('base64')}`
}

describe('a call near the end of its budget', () => {
  let vendor: Vendor
  let gateway: GatewayUnderTest
  let key: string
  before(async () => {
    vendor = await openVendor()
    gateway = await startGateway({ vendor, models })
    key = (await gateway.mintKey()).key
  })
  const session = async (limits: object) => (await gateway.mintSession(key, { limits })).key
  const lastCap = () => JSON.parse(vendor.requests.at(-1)?.body.toString() ?? '{}').max_tokens

  it('is admitted when its tokens fit, though its bytes do not', async () => {
    // 4,000 bytes, some 800 tokens.
    const messages = [{ role: 'user', content: words.repeat(50) }]
    const { status, text } = await gateway.chat(await session({ tokens: 1500 }), { model: 'gpt', messages })
    assert.equal(status, 200, text)
    assert.ok(lastCap() > 400 && lastCap() < 1500 - 700, String(lastCap()))
    const dollars = await gateway.chat(await session({ usd: '0.0015' }), { model: 'gpt', messages, stream: true })
    assert.equal(dollars.status, 200, dollars.text)
    // Nobody knows how the vendor's own model counts, so more is kept for it; it still has to fit.
    assert.equal((await gateway.chat(await session({ tokens: 1500 }), { model: 'house', messages })).status, 429)
    assert.equal((await gateway.chat(await session({ tokens: 3500 }), { model: 'house', messages })).status, 200)
  })

  it('whose tokens do not fit is told what is missing, and never leaves', async () => {
    const messages = [{ role: 'user', content: words.repeat(50) }]
    const before = vendor.requests.length
    const { status, json } = await gateway.chat(await session({ tokens: 500 }), { model: 'gpt', messages })
    assert.deepEqual([status, json.error.code, json.error.limit], [429, 'budget_too_small', 'tokens'])
    assert.equal(vendor.requests.length, before)
  })

  it('counts a picture by its size and not by its bytes', async () => {
    const content = (url: string) => [{ type: 'image_url', image_url: { url } }]
    const ask = async (tokens: number, url: string) => {
      const messages = [{ role: 'user', content: content(url) }]
      return (await gateway.chat(await session({ tokens }), { model: 'gpt', messages, max_tokens: 50 })).status
    }
    const large = picture(1024, 1024, 300_000)
    assert.equal(await ask(1100, large), 200)
    assert.equal(await ask(700, large), 429)
    assert.equal(await ask(700, picture(512, 512, 300_000)), 200)
    // One that the vendor fetches itself may be of any size.
    assert.equal(await ask(1100, 'https://example.com/a.png'), 429)
    assert.equal(await ask(1800, 'https://example.com/a.png'), 200)
  })

  it('with a cap no model reaches is held for what one can write', async () => {
    const child = await session({ usd: 1 })
    assert.equal((await gateway.chat(child, { model: 'gratis', max_tokens: Number.MAX_SAFE_INTEGER })).status, 200)
    assert.equal(lastCap(), 10_000_000)
  })

  it('holds a whole answer in full and a stream in slices', async () => {
    for (const [stream, least, most] of [
      [false, 5000, 5500],
      [true, 256, 1500],
    ] as const) {
      const child = await session({ tokens: 100_000, usd: 1 })
      const answer = gateway.chat(child, { model: 'held', stream, max_tokens: 5000 })
      await vendor.until(({ model, over }) => model === 'hold' && !over)
      const { held } = (await gateway.ask('GET', '/v1/sessions/current', { key: child })).json
      assert.ok(held.tokens >= least && held.tokens <= most, `${stream}: ${held.tokens}`)
      assert.ok(Number(held.usd) >= (least * 2) / 1e6 && Number(held.usd) <= (most * 2) / 1e6, String(held.usd))
      vendor.release()
      assert.equal((await answer).status, 200)
      assert.equal(lastCap(), 5000)
    }
  })
})

describe('the size of an attempt', () => {
  let gateway: Gateway
  let account: Account
  before(async () => {
    const inside = await startInside({ vendor: await openVendor(), models })
    gateway = inside.running.gateway
    const { id } = await inside.mintKey({
      limits: [
        { unit: 'tokens', max: 1_000_000 },
        { unit: 'usd', max: 10 },
      ],
    })
    account = (await gateway.directory.load(id)) as Account
  })

  function size(model: string, body: object): Attempt {
    const bytes = Buffer.from(JSON.stringify({ model, messages: [{ role: 'user', content: 'hello' }], ...body }))
    const facts = readBody(bytes, 'chat')
    assert.ok(!(facts instanceof Fault))
    const admitted: Admitted = {
      caller: { role: 'holder', account },
      tool: null,
      rule: null,
      refusal: null,
      rates: null,
    }
    const { upstream } = gateway.config.models.get(model) ?? assert.fail(model)
    const target = { provider: 'vendor', model: upstream, timeoutMs: null }
    const sized = sizeAttempt(gateway, { kind: 'chat', body: bytes, facts } as LlmCall, admitted, target)
    assert.ok(!(sized instanceof Fault) && !(sized instanceof Promise), 'decided at once')
    return sized
  }

  it('of a stream has slices that add up to the whole exactly, in every tier', () => {
    for (const content of ['hello', words.repeat(10)]) {
      const messages = [{ role: 'user', content }]
      for (const n of [1, 3]) {
        const whole = size('tiered', { messages, n, max_tokens: 1777 })
        const { hold, cap, slices } = size('tiered', { messages, n, max_tokens: 1777, stream: true })
        assert.ok(slices !== null)
        assert.deepEqual(
          [whole.slices, whole.cap, cap, slices.first, slices.most],
          [null, 1777, 1777, 256 * n, 1777 * n],
        )
        for (const step of [1, 7, 100, 4000]) {
          const sum = { ...hold }
          for (let from = slices.first; from < slices.most; from += step) {
            const more = slices.more(from, Math.min(from + step, slices.most))
            sum.tokens += more.tokens
            sum.usd += more.usd
            assert.deepEqual([more.requests, more.tool_calls], [0, 0])
          }
          // The flag that asks for a stream is some bytes more of input.
          const flag = ',"stream":true'.length
          assert.equal(sum.tokens, whole.hold.tokens + flag)
          assert.equal(sum.usd, hold.usd + slices.more(slices.first, slices.most).usd)
          assert.ok(Number.isSafeInteger(sum.usd) && sum.usd >= whole.hold.usd && sum.usd <= whole.hold.usd + flag * 2)
        }
      }
    }
    // Shorter than a slice: held whole.
    const short = size('tiered', { stream: true, max_tokens: 20 })
    assert.deepEqual([short.slices?.first, short.slices?.most], [20, 20])
  })

  it('covers what is dearer than plain text where it may occur', () => {
    const micros = (body: object) => {
      const { hold } = size('written', { max_tokens: 100, ...body })
      const input = hold.tokens - 100
      return { input, usd: hold.usd }
    }
    const plain = micros({})
    // Written to a cache, and thought.
    assert.equal(plain.usd, Math.ceil(plain.input * 1.25 + 100 * 3))
    const cached = [{ type: 'text', text: 'x', cache_control: { type: 'ephemeral', ttl: '1h' } }]
    const long = micros({ messages: [{ role: 'user', content: cached }] })
    assert.equal(long.usd, long.input * 2 + 100 * 3)
    const spoken = micros({ modalities: ['text', 'audio'] })
    assert.equal(spoken.usd, Math.ceil(spoken.input * 1.25 + 100 * 60))
    const heard = micros({
      messages: [{ role: 'user', content: [{ type: 'input_audio', input_audio: { data: 'AAAA', format: 'wav' } }] }],
    })
    assert.equal(heard.usd, heard.input * 30 + 100 * 3)
  })
})
