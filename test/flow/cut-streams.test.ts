/** A stream that breaks is never taken for a whole answer, wherever it breaks. @module */
import assert from 'node:assert/strict'
import type { ServerResponse } from 'node:http'
import { before, describe, it } from 'node:test'
import OpenAI from 'openai'
import { type GatewayUnderTest, hello, openVendor, startGateway } from '../gateway.ts'
import type { RecordedRequest, Vendor } from '../upstreams/vendor.ts'
import { text } from '../upstreams/vendor-answers.ts'

describe('a stream that is cut', () => {
  let vendor: Vendor
  let gateway: GatewayUnderTest
  let key: string
  let client: OpenAI
  /** What the vendor sends to the gateway, to the byte. */
  let bytes: Buffer
  /** Behind the JSON of the event with the finish reason: from here on the caller has the whole answer. */
  let finished: number

  before(async () => {
    vendor = await openVendor()
    gateway = await startGateway({ vendor })
    key = (await gateway.mintKey()).key
    vendor.script('cuttable', (request, _, response) => sendCut(request, response))
    client = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: key, maxRetries: 0 })
    const body = JSON.stringify({ ...hello, model: 'long-5', stream: true, stream_options: { include_usage: true } })
    const response = await fetch(`${vendor.url}/v1/chat/completions`, { method: 'POST', body })
    bytes = Buffer.from(await response.arrayBuffer())
    const event = bytes.indexOf('"finish_reason":"stop"')
    finished = bytes.indexOf('\n\n', event)
    assert.ok(event > 0 && finished > event)
  })

  type How = 'close' | 'reset' | 'end' | 'close-delimited'

  /** Sends the recorded bytes up to the place the request names, and ends there. */
  function sendCut(request: RecordedRequest, response: ServerResponse): undefined {
    const { at, how } = JSON.parse(request.body.toString()).cut as { at: number; how: How }
    if (how === 'close-delimited') response.useChunkedEncodingByDefault = false
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.flushHeaders()
    response.write(bytes.subarray(0, at), () => {
      if (how === 'end') response.end()
      else if (how === 'reset') setTimeout(() => response.socket?.resetAndDestroy(), 20)
      else response.destroy()
    })
  }
  const cut = (at: number, how: How = 'close') => ({ model: 'vendor/cuttable', cut: { at, how } })

  interface Seen {
    readonly said: string
    readonly clean: boolean
  }
  async function ask(body: { model: string }, options?: { include_usage: boolean }): Promise<Seen> {
    let said = ''
    try {
      const stream = await client.chat.completions.create({
        ...body,
        messages: [{ role: 'user', content: 'hello there' }],
        stream: true,
        ...(options === undefined ? {} : { stream_options: options }),
      })
      for await (const chunk of stream) said += chunk.choices[0]?.delta.content ?? ''
      return { said, clean: true }
    } catch (error) {
      assert.ok(error instanceof OpenAI.APIError, String(error))
      return { said, clean: false }
    }
  }

  /** Runs over the cut points a few at a time. */
  async function sweep(points: readonly number[], check: (at: number) => Promise<void>): Promise<void> {
    const left = [...points]
    const lane = async () => {
      for (let at = left.shift(); at !== undefined; at = left.shift()) await check(at)
    }
    await Promise.all(Array.from({ length: 8 }, lane))
  }
  const every = (step: number) => Array.from({ length: Math.ceil(bytes.length / step) }, (_, index) => index * step)

  it('raises in the SDK for a connection that closes behind any byte of the answer', async () => {
    await sweep(every(1), async (at) => {
      const { said, clean } = await ask(cut(at))
      assert.ok(text(5).startsWith(said), `cut at ${at}: ${said}`)
      assert.equal(clean, at >= finished + 2, `cut at ${at} of ${bytes.length}, whole from ${finished} on`)
      if (clean) assert.equal(said, text(5))
    })
  })

  it('raises as well when it is reset or ends as if it were whole', async () => {
    for (const how of ['reset', 'end', 'close-delimited'] as const) {
      await sweep(every(37), async (at) => {
        const { said, clean } = await ask(cut(at, how))
        if (clean) assert.equal(said, text(5), `${how} at ${at}`)
        assert.equal(clean, at >= finished + (how === 'reset' ? 2 : 0), `${how} at ${at}`)
      })
    }
  })

  it('raises when the usage that was asked for is lost with the connection', async () => {
    const usage = bytes.indexOf('"choices":[]')
    assert.equal((await ask(cut(usage), { include_usage: true })).clean, false)
    assert.equal((await ask({ model: 'vendor/long-5' }, { include_usage: true })).clean, true)
  })

  it('tells the caller in an error event, and never sends [DONE]', async () => {
    const at = bytes.indexOf('slowly')
    const { text: said, status } = await gateway.chat(key, { ...cut(at), stream: true })
    assert.equal(status, 200)
    const last = said.trimEnd().split('\n\n').at(-1) ?? ''
    const { error } = JSON.parse(last.replace('data: ', ''))
    assert.equal(error.code, 'upstream_truncated')
    assert.match(error.request_id, /^req_/)
    assert.ok(!said.includes('[DONE]'))
    assert.equal((await gateway.ledger()).at(-1)?.outcome, 'truncated')
  })

  it('does not believe a [DONE] without a finish reason', async () => {
    assert.equal((await ask({ model: 'vendor/no-finish' })).clean, false)
    assert.equal((await ask({ model: 'vendor/no-finish+no-done' })).clean, false)
    // Two answers were asked for and one came to its end.
    const { text: said } = await gateway.chat(key, { model: 'vendor/choices-1', n: 2, stream: true })
    assert.ok(!said.includes('[DONE]'))
  })

  it('is charged for what arrived, and leaves no hold behind', async () => {
    const before = (await gateway.ledger()).length
    await ask(cut(700))
    const row = (await gateway.ledger()).at(-1)
    assert.equal((await gateway.ledger()).length, before + 1)
    assert.ok(row.tokens > 0)
    assert.equal(row.usage_source, 'estimated')
    assert.equal(await gateway.metric('gatehouse_open_holds'), 0)
  })
})
