/** The OpenAI SDK against the gateway, as its users have it. @module */
import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import OpenAI from 'openai'
import { type GatewayUnderTest, openVendor, startGateway } from '../gateway.ts'
import type { Vendor } from '../upstreams/vendor.ts'
import { text } from '../upstreams/vendor-answers.ts'

describe('the OpenAI SDK', () => {
  let vendor: Vendor
  let gateway: GatewayUnderTest
  let client: OpenAI
  const messages = [{ role: 'user' as const, content: 'say hello' }]

  before(async () => {
    vendor = await openVendor()
    gateway = await startGateway({
      vendor,
      models: { house: { provider: 'vendor', upstream: 'ok', price: { input: 1, output: 2 } } },
      routes: { fast: { to: [{ provider: 'vendor', model: 'ok' }] } },
    })
    const { key } = await gateway.mintKey()
    client = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: key, maxRetries: 0 })
  })

  it('gets a whole chat answer from a route, a model name and provider/model', async () => {
    for (const model of ['fast', 'house', 'vendor/ok']) {
      const reply = await client.chat.completions.create({ model, messages })
      assert.equal(reply.choices[0]?.message.content, text())
      assert.equal(reply.usage?.completion_tokens, 12)
    }
  })

  it('gets a streamed chat answer with its usage where it asks for it', async () => {
    const stream = await client.chat.completions.create({
      model: 'fast',
      messages,
      stream: true,
      stream_options: { include_usage: true },
    })
    let said = ''
    let finish: string | null = null
    let usage = 0
    for await (const chunk of stream) {
      said += chunk.choices[0]?.delta.content ?? ''
      finish = chunk.choices[0]?.finish_reason ?? finish
      usage = chunk.usage?.completion_tokens ?? usage
    }
    assert.deepEqual([said, finish, usage], [text(), 'stop', 12])
  })

  it('gets tool calls in a stream whole', async () => {
    const tools = [{ type: 'function' as const, function: { name: 'weather', parameters: {} } }]
    const stream = client.chat.completions.stream({ model: 'vendor/tool-call', messages, tools })
    const final = await stream.finalChatCompletion()
    const call = final.choices[0]?.message.tool_calls?.[0]
    assert.equal(call?.type === 'function' && call.function.arguments, '{"city":"Oslo"}')
  })

  it('gets several answers at once', async () => {
    const stream = await client.chat.completions.create({ model: 'fast', messages, n: 3, stream: true })
    const ended = new Set<number>()
    for await (const chunk of stream)
      for (const choice of chunk.choices) if (choice.finish_reason !== null) ended.add(choice.index)
    assert.deepEqual([...ended].sort(), [0, 1, 2])
  })

  it('gets legacy completions, whole and streamed', async () => {
    const whole = await client.completions.create({ model: 'fast', prompt: 'say hello' })
    assert.equal(whole.choices[0]?.text, text())
    let said = ''
    for await (const chunk of await client.completions.create({ model: 'fast', prompt: 'say hello', stream: true }))
      said += chunk.choices[0]?.text ?? ''
    assert.equal(said, text())
  })

  it('gets embeddings, which it asks for in base64 by itself', async () => {
    const reply = await client.embeddings.create({ model: 'fast', input: ['one', 'two'] })
    assert.equal(reply.data.length, 2)
    assert.equal(reply.data[0]?.embedding.length, 8)
    assert.ok(reply.data[0]?.embedding.every((number) => typeof number === 'number'))
    assert.match(vendor.requests.at(-1)?.body.toString() ?? '', /"encoding_format":"base64"/)
    const plain = await client.embeddings.create({ model: 'fast', input: 'one', encoding_format: 'float' })
    assert.deepEqual(plain.data[0]?.embedding, reply.data[0]?.embedding)
  })

  it('lists models and retrieves one, also with a slash in its name', async () => {
    const ids: string[] = []
    for await (const model of client.models.list()) ids.push(model.id)
    assert.deepEqual(ids.sort(), ['fast', 'house'])
    assert.equal((await client.models.retrieve('fast')).owned_by, 'gatehouse')
    await assert.rejects(client.models.retrieve('vendor/unlisted'), OpenAI.NotFoundError)
  })

  it('finds a listed model whose name has a slash', async () => {
    const other = await startGateway({ vendor, models: { 'meta/llama-3': { provider: 'vendor', upstream: 'ok' } } })
    const { key } = await other.mintKey()
    const sdk = new OpenAI({ baseURL: `${other.url}/v1`, apiKey: key, maxRetries: 0 })
    assert.equal((await sdk.models.retrieve('meta/llama-3')).id, 'meta/llama-3')
    const plain = await other.ask('GET', '/v1/models/meta/llama-3', { key })
    assert.equal(plain.json.id, 'meta/llama-3')
  })

  it('raises the exception its users expect of each error', async () => {
    const key = (await gateway.mintKey({ models: ['fast'] })).key
    const narrow = client.withOptions({ apiKey: key })
    const cases: [() => Promise<unknown>, new (...args: never[]) => Error, string][] = [
      [() => client.chat.completions.create({ model: 'nobody', messages }), OpenAI.NotFoundError, 'model_not_found'],
      [
        () => narrow.chat.completions.create({ model: 'house', messages }),
        OpenAI.PermissionDeniedError,
        'model_not_allowed',
      ],
      [() => client.withOptions({ apiKey: 'sk-gate-x' }).models.list(), OpenAI.AuthenticationError, 'invalid_key'],
      [() => client.chat.completions.create({ model: '', messages }), OpenAI.BadRequestError, 'invalid_request'],
      [
        () => client.chat.completions.create({ model: 'vendor/status-503', messages }),
        OpenAI.InternalServerError,
        'upstream_error',
      ],
      [
        () => client.chat.completions.create({ model: 'vendor/status-429', messages }),
        OpenAI.RateLimitError,
        'rate_limited',
      ],
    ]
    for (const [call, kind, code] of cases) {
      await assert.rejects(call, (error: Error & { code?: string; requestID?: string }) => {
        assert.ok(error instanceof kind, `${code}: ${error}`)
        assert.equal(error.code, code)
        return true
      })
    }
  })
})
