/** What a provider answers that is no answer becomes an error with a stable code. @module */
import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import { type GatewayUnderTest, openVendor, startGateway } from '../gateway.ts'
import type { Vendor } from '../upstreams/vendor.ts'
import { errorMarker } from '../upstreams/vendor-answers.ts'

describe('an answer that is none', () => {
  let vendor: Vendor
  let gateway: GatewayUnderTest
  let key: string

  before(async () => {
    vendor = await openVendor()
    gateway = await startGateway({ vendor })
    key = (await gateway.mintKey()).key
  })

  const odd = [
    ...['status-204', 'status-304', 'redirect', 'html', 'bad-json', 'close-delimited+cut-30', 'gzip+bad-json'],
    ...['status-500', 'status-503+html', 'rst', 'cut-0', 'cut-40', 'rst-40'],
  ]
  const oddStreams = [
    ...['status-204', 'status-304', 'redirect', 'html', 'empty-stream', 'error-first', 'pings-only+cut-60', 'gzip'],
    ...['rst', 'cut-0', 'cut-1', 'fin-1', 'no-finish+long-0+cut-3'],
  ]

  it("is an upstream_error with status 502 in the SDK's shape, and says nothing the vendor wrote", async () => {
    for (const [names, stream] of [
      [odd, false],
      [oddStreams, true],
    ] as const) {
      for (const model of names) {
        const { status, json, text, headers } = await gateway.chat(key, { model: `vendor/${model}`, stream })
        assert.equal(status, 502, `${model} ${stream}: ${text}`)
        assert.equal(json.error.code, 'upstream_error', model)
        assert.equal(json.error.type, 'api_error', model)
        assert.match(headers.get('x-gatehouse-request-id') ?? '', /^req_/)
        assert.ok(!text.includes(errorMarker) && !text.includes('Bad gateway'), text)
      }
    }
  })

  it('is told apart from hints that come before a real answer', async () => {
    assert.equal((await gateway.chat(key, { model: 'vendor/hints-3' })).status, 200)
  })

  it('is not mistaken where a stream only has the wrong label', async () => {
    const { status, text, headers } = await gateway.chat(key, { model: 'vendor/wrong-type', stream: true })
    assert.equal(status, 200)
    assert.match(headers.get('content-type') ?? '', /^text\/event-stream/)
    assert.ok(text.endsWith('data: [DONE]\n\n'))
  })

  it('is not what a request with "stream": null gets', async () => {
    const { status, json } = await gateway.chat(key, { model: 'vendor/ok', stream: null })
    assert.equal(status, 200)
    assert.equal(json.object, 'chat.completion')
  })

  it('does not fail the gateway with header values that cannot be passed on', async () => {
    for (const stream of [false, true]) {
      vendor.script(`headers-${stream}`, (request, _, response) => {
        const socket = response.socket
        const body = stream ? `data: {"choices":[{"index":0,"finish_reason":"stop"}]}\n\n` : '{"choices":[]}'
        const type = stream ? 'text/event-stream' : 'application/json'
        const odd = 'x-request-id: 漢\u0001\r\nx-ratelimit-limit-requests: 漢字\r\nopenai-version: \u00e9'
        assert.equal(request.over, false)
        socket?.end(
          `HTTP/1.1 200 OK\r\ncontent-type: ${type}\r\n${odd}\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
        )
        return undefined
      })
      const { status, headers } = await gateway.chat(key, { model: `vendor/headers-${stream}`, stream })
      assert.ok(status === 200 || status === 502, String(status))
      assert.equal(headers.get('x-gatehouse-upstream-request-id'), null)
    }
  })

  it('leaves the gateway up and without open holds', async () => {
    assert.equal((await gateway.ask('GET', '/readyz')).status, 200)
    assert.equal(await gateway.metric('gatehouse_open_holds'), 0)
  })
})

describe('usage that cannot be believed', () => {
  it('is estimated instead, in whole answers and in streams', async () => {
    const gateway = await startGateway({ vendor: await openVendor() })
    const { key } = await gateway.mintKey()
    for (const stream of [false, true]) {
      for (const model of ['no-usage', 'usage-string']) {
        await gateway.chat(key, { model: `vendor/${model}`, stream })
        const row = (await gateway.ledger()).at(-1)
        assert.deepEqual([row.upstream_model, row.usage_source], [model, 'estimated'])
        assert.ok(row.input > 0 && row.output > 0, model)
      }
      await gateway.chat(key, { model: 'vendor/zero-usage', stream })
      const zero = (await gateway.ledger()).at(-1)
      assert.deepEqual([zero.usage_source, zero.tokens], ['provider', 0])
    }
  })
})
