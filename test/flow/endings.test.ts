/** However a model call ends it is settled once, for what the provider says or for what was seen. @module */
import assert from 'node:assert/strict'
import type { ServerResponse } from 'node:http'
import { connect } from 'node:net'
import { before, describe, it } from 'node:test'
import { outputSeen, readEvents, streamState } from '../../src/dialects/openai-chat/stream.ts'
import { eventually, type GatewayUnderTest, hello, openVendor, startGateway } from '../gateway.ts'
import type { RecordedRequest, Vendor } from '../upstreams/vendor.ts'

/** Numbers that look random and are the same each time. */
function* dice(seed: number): Generator<number> {
  for (let state = seed; ; ) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    yield state / 2 ** 32
  }
}

describe('a model call', () => {
  let vendor: Vendor
  let gateway: GatewayUnderTest
  let key: { id: string; key: string }
  /** What the vendor sends in all. */
  let bytes: Buffer

  before(async () => {
    vendor = await openVendor()
    const price = { input: 1, output: 2 }
    const row = (upstream: string) => ({ provider: 'vendor', upstream, price })
    const to = (...models: string[]) => ({ to: models.map((model) => ({ provider: 'vendor', model })) })
    gateway = await startGateway({
      vendor,
      models: Object.fromEntries(
        ['part', 'ok', 'rst', 'cut-0', 'cut-600', 'fin-0', 'long-40+no-usage', 'endless+drip-5', 'error-first'].map(
          (name) => [name, row(name)],
        ),
      ),
      routes: { chain: to('rst', 'cut-0', 'ok'), dear: to('cut-0', 'error-first', 'ok') },
    })
    key = await gateway.mintKey({ limits: [{ unit: 'tokens', max: 10_000_000 }] })
    vendor.script('part', (request, _, response) => sendPart(request, response))
    const asked = { ...hello, model: 'long-40', stream: true, stream_options: { include_usage: true } }
    const response = await fetch(`${vendor.url}/v1/chat/completions`, { method: 'POST', body: JSON.stringify(asked) })
    bytes = Buffer.from(await response.arrayBuffer())
  })

  /** Sends so many bytes, and then nothing until the caller is gone. */
  function sendPart(request: RecordedRequest, response: ServerResponse): undefined {
    const { at } = JSON.parse(request.body.toString()) as { at: number }
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.flushHeaders()
    response.write(bytes.subarray(0, at))
  }

  const rowOf = async (tag: string) => {
    const found = (await gateway.ledger()).filter((row) => row.labels?.tag === tag)
    assert.ok(found.length < 2, `${tag} is booked twice`)
    return found[0]
  }
  const standing = async () => (await gateway.admin('GET', `/keys/${key.id}`)).json.standing

  /** Asks, reads until it has so much of the stream, hangs up, and waits for the row. */
  async function hangUpAfter(at: number, whole: Buffer): Promise<Record<string, unknown>> {
    const tag = `at-${at}`
    const body = JSON.stringify({ ...hello, at, model: 'part', stream: true, stream_options: { include_usage: true } })
    const socket = connect(gateway.port, '127.0.0.1')
    socket.on('error', () => {})
    let said = ''
    socket.on('data', (part) => {
      said += part.toString('latin1')
    })
    socket.write(
      `POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ${key.key}\r\n` +
        `x-gatehouse-labels: tag=${tag}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    )
    await vendor.until((request) => request.body.includes(`"at":${at},`))
    const last = whole.subarray(whole.lastIndexOf('data: ', whole.length - 3)).toString('latin1')
    await eventually(() => whole.length === 0 || said.includes(last))
    socket.destroy()
    let row: Record<string, unknown> | undefined
    await eventually(async () => {
      row = await rowOf(tag)
      return row !== undefined
    })
    return row as Record<string, unknown>
  }

  it('whose caller hangs up at any of a hundred places is charged for what had come, and holds nothing', async () => {
    const seed = 20_261_125
    const random = dice(seed)
    const end = bytes.indexOf('data: [DONE]')
    const points = new Set([0, end])
    while (points.size < 100) points.add(Math.floor((random.next().value as number) * end))
    const left = [...points]
    const lane = async () => {
      for (let at = left.pop(); at !== undefined; at = left.pop()) {
        const part = bytes.subarray(0, at)
        const whole = part.subarray(0, part.lastIndexOf('\n\n') === -1 ? 0 : part.lastIndexOf('\n\n') + 2)
        const state = streamState()
        for (const _ of readEvents(whole, state));
        const row = await hangUpAfter(at, whole)
        const why = `seed ${seed}, byte ${at}: ${JSON.stringify(row)}`
        assert.equal(row.outcome, 'hangup', why)
        assert.ok((row.input as number) > 0, why)
        // The last event before the end of the stream is the usage, and then the provider's count is the truth.
        if (state.usage !== null) assert.deepEqual([row.usage_source, row.input, row.output], ['provider', 2, 40], why)
        else assert.deepEqual([row.usage_source, row.output], ['estimated', outputSeen(state)], why)
      }
    }
    await Promise.all(Array.from({ length: 8 }, lane))
    await eventually(() => vendor.requests.filter(({ model }) => model === 'part').every(({ over }) => over))
    const { held, spent } = await standing()
    assert.equal(held.tokens, 0)
    const rows = (await gateway.ledger()).filter((row) => row.account === key.id)
    assert.equal(
      spent.tokens,
      rows.reduce((sum, row) => sum + row.tokens, 0),
    )
    assert.equal(await gateway.metric('gatehouse_open_holds'), 0)
  })

  it('that is cut by its provider is charged for its question, and for what came of the answer', async () => {
    const last = async (model: string, body: object = {}) => {
      await gateway.chat(key.key, { model, stream: true, ...body })
      const { outcome, code, usage_source, input, output } = (await gateway.ledger()).at(-1)
      assert.ok(input > 0, model)
      return [outcome, code, usage_source, output > 0]
    }
    assert.deepEqual(await last('rst'), ['fault', 'upstream_error', 'estimated', false])
    assert.deepEqual(await last('cut-0'), ['fault', 'upstream_error', 'estimated', false])
    assert.deepEqual(await last('fin-0'), ['fault', 'upstream_error', 'estimated', false])
    assert.deepEqual(await last('cut-600'), ['truncated', 'upstream_truncated', 'estimated', true])
    // All of the answer and no usage.
    assert.deepEqual(await last('long-40+no-usage'), ['answered', null, 'estimated', true])
    assert.equal((await standing()).held.tokens, 0)
  })

  it('that is tried again has a row for each attempt with a hold and a usage of its own', async () => {
    for (const [route, expected] of [
      [
        'chain',
        [
          ['rst', 'fault', 'upstream_error', 'estimated', 0],
          ['cut-0', 'fault', 'upstream_error', 'estimated', 0],
          ['ok', 'answered', null, 'provider', 12],
        ],
      ],
      [
        'dear',
        [
          ['cut-0', 'fault', 'upstream_error', 'estimated', 0],
          // An error it reports before anything else costs nothing.
          ['error-first', 'fault', 'upstream_error', 'none', 0],
          ['ok', 'answered', null, 'provider', 12],
        ],
      ],
    ] as const) {
      const before = (await standing()).spent.tokens
      const { headers, text } = await gateway.chat(key.key, { model: route, stream: true })
      assert.ok(text.includes('[DONE]'), text)
      const id = headers.get('x-gatehouse-request-id')
      const rows = (await gateway.ledger()).filter((row) => row.call === id)
      assert.deepEqual(
        rows.map((row) => [row.upstream_model, row.outcome, row.code, row.usage_source, row.output]),
        expected,
      )
      for (const row of rows) assert.equal(row.tokens, row.input + row.output)
      const { spent, held } = await standing()
      assert.equal(
        spent.tokens - before,
        rows.reduce((sum, row) => sum + row.tokens, 0),
      )
      assert.equal(held.tokens, 0)
    }
  })

  it('that takes too long in the middle is cut with a timeout and charged for what came', async () => {
    const { text } = await gateway.chat(
      key.key,
      { model: 'endless+drip-5', stream: true },
      { 'x-gatehouse-timeout-ms': '300' },
    )
    assert.match(text, /"code":"upstream_timeout"/)
    const row = (await gateway.ledger()).at(-1)
    assert.deepEqual([row.outcome, row.code, row.usage_source], ['truncated', 'upstream_timeout', 'estimated'])
    assert.ok(row.output > 1)
    assert.equal((await standing()).held.tokens, 0)
  })

  it('whose provider counts along is charged that count and what came after it, also when it said 0 at first', async () => {
    const first = `data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}],"usage":{"prompt_tokens":7,"completion_tokens":0,"total_tokens":7}}\n\n`
    const more = `data: {"choices":[{"index":0,"delta":{"content":"words"}}]}\n\n`
    vendor.script('early', (_request, _count, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.write(first + more.repeat(10), () => setTimeout(() => response.destroy(), 20))
    })
    await gateway.chat(key.key, { model: 'vendor/early', stream: true })
    const row = (await gateway.ledger()).at(-1)
    assert.deepEqual([row.outcome, row.usage_source, row.input], ['truncated', 'estimated', 7])
    assert.ok(row.output >= 10, String(row.output))
  })
})
