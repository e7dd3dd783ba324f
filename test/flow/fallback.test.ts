/** A route tries its next target when one fails, and only then. @module */
import assert from 'node:assert/strict'
import { type AddressInfo, createServer } from 'node:net'
import { before, describe, it } from 'node:test'
import { type GatewayUnderTest, openVendor, startGateway } from '../gateway.ts'
import type { Vendor } from '../upstreams/vendor.ts'
import { errorMarker, text } from '../upstreams/vendor-answers.ts'

describe('a route with two targets', () => {
  let vendor: Vendor
  let gateway: GatewayUnderTest
  let key: string
  const failing = [
    ...['status-500', 'status-502', 'status-503', 'status-529', 'status-429', 'status-408', 'rst', 'html', 'redirect'],
    ...[
      'status-204',
      'status-304',
      'bad-json',
      'close-delimited+cut-30',
      'cut-30',
      'slow-headers',
      'stall',
      'gzip+cut-9',
    ],
  ]
  const failingStreams = [
    ...['status-500', 'status-429', 'rst', 'html', 'redirect', 'status-204', 'slow-headers', 'stall', 'cut-30', 'gzip'],
    ...['error-first', 'empty-stream', 'pings-only', 'pings-only+cut-90', 'slow-first-60000'],
  ]
  const final = ['status-400', 'status-404', 'status-413', 'status-422']
  const ours = ['status-401', 'status-403']

  before(async () => {
    vendor = await openVendor()
    const unused = await freePort()
    const route = (model: string) => ({
      to: [
        { provider: 'vendor', model, timeout: '300ms' },
        { provider: 'vendor', model: 'ok' },
      ],
    })
    const names = [...new Set([...failing, ...failingStreams, ...final, ...ours, 'error-after-3', 'ok'])]
    gateway = await startGateway({
      vendor,
      routes: {
        ...Object.fromEntries(names.map((name) => [name, route(name)])),
        refused: {
          to: [
            { provider: 'nobody', model: 'ok' },
            { provider: 'vendor', model: 'ok' },
          ],
        },
        'only-rate-limits': { ...route('status-500'), on: ['rate_limit'] },
        slow: {
          to: [
            { provider: 'vendor', model: 'drip-100', timeout: '400ms' },
            { provider: 'vendor', model: 'ok' },
          ],
        },
        three: {
          to: ['status-500', 'status-503', 'ok'].map((model) => ({ provider: 'vendor', model })),
        },
      },
      providers: {
        vendor: {
          base_url: `${vendor.url}/v1`,
          speaks: ['openai-chat'],
          credential: { scheme: 'bearer', secret: 'env:VENDOR_KEY' },
        },
        nobody: {
          base_url: `http://127.0.0.1:${unused}/v1`,
          speaks: ['openai-chat'],
          credential: 'none',
          allow_private: [`127.0.0.1/32:${unused}`],
        },
      },
    })
    key = (await gateway.mintKey()).key
  })

  it('answers from the second when the first fails before it has answered', async () => {
    for (const model of failing) {
      const { status, json, headers } = await gateway.chat(key, { model })
      assert.equal(status, 200, model)
      assert.equal(json.choices[0].message.content, text(), model)
      assert.equal(headers.get('x-gatehouse-attempts'), '2', model)
      assert.equal(headers.get('x-gatehouse-model'), 'ok', model)
      // Waiting for the target that failed is no time of the gateway's own.
      if (model === 'slow-headers') assert.ok(Number(headers.get('x-gatehouse-overhead-ms')) < 300)
    }
  })

  it('streams from the second when the first fails before its first event', async () => {
    for (const model of failingStreams) {
      const { status, text: said } = await gateway.chat(key, { model, stream: true })
      assert.equal(status, 200, model)
      assert.ok(said.endsWith('data: [DONE]\n\n') && !said.includes('"error"'), `${model}: ${said}`)
      assert.ok(said.includes('quietly'), model)
    }
  })

  it('answers from the second when nothing listens at the first', async () => {
    assert.equal((await gateway.chat(key, { model: 'refused' })).status, 200)
    const alone = await gateway.chat(key, { model: 'nobody/x' })
    assert.equal(alone.json.error.code, 'upstream_error')
    assert.match(alone.json.error.message, /nothing accepts connections/)
  })

  it('never splices a second answer behind tokens of the first', async () => {
    const before = vendor.requests.length
    const { text: said } = await gateway.chat(key, { model: 'error-after-3', stream: true })
    assert.equal(vendor.requests.length, before + 1)
    assert.match(said, /"error":\{"message":"vendor failed/)
    assert.ok(!said.includes('quietly') && !said.includes('[DONE]') && !said.includes(errorMarker))
  })

  it("passes the provider's own words on when the request itself is wrong, and tries nothing else", async () => {
    for (const model of final) {
      const before = vendor.requests.length
      const { status, text: said } = await gateway.chat(key, { model })
      assert.equal(status, Number(model.slice(7)))
      assert.match(said, new RegExp(errorMarker))
      assert.equal(vendor.requests.length, before + 1, model)
    }
  })

  it("says nothing of what the provider says about the gateway's credential", async () => {
    for (const model of ours) {
      const { status, json, text: said } = await gateway.chat(key, { model })
      assert.equal(status, 502)
      assert.equal(json.error.code, 'upstream_error')
      assert.ok(!said.includes(errorMarker), said)
    }
  })

  it('goes on only after the failures its route names', async () => {
    const { status, json } = await gateway.chat(key, { model: 'only-rate-limits' })
    assert.deepEqual([status, json.error.code], [502, 'upstream_error'])
  })

  it("lets a stream that has begun take longer than the target's timeout", async () => {
    const { text: said } = await gateway.chat(key, { model: 'slow', stream: true })
    assert.ok(said.includes('"drip-100"') && said.endsWith('data: [DONE]\n\n'))
  })

  it("cuts a stream off at the caller's own time limit", async () => {
    const late = { 'x-gatehouse-timeout-ms': '500' }
    const { text: said } = await gateway.chat(key, { model: 'vendor/endless+drip-50', stream: true }, late)
    assert.match(said, /"code":"upstream_timeout"/)
    const whole = await gateway.chat(key, { model: 'vendor/slow-headers' }, late)
    assert.deepEqual([whole.status, whole.json.error.code], [504, 'upstream_timeout'])
  })

  it('writes a row for every attempt, under one call', async () => {
    const { headers } = await gateway.chat(key, { model: 'three' }, { 'x-gatehouse-step': 'plan' })
    const call = headers.get('x-gatehouse-request-id')
    const rows = (await gateway.ledger()).filter((row) => row.call === call)
    assert.deepEqual(
      rows.map((row) => [row.attempt, row.upstream_model, row.outcome, row.code, row.requests, row.step]),
      [
        [1, 'status-500', 'fault', 'upstream_error', 0, 'plan'],
        [2, 'status-503', 'fault', 'upstream_error', 0, 'plan'],
        [3, 'ok', 'answered', null, 1, 'plan'],
      ],
    )
    const few = await gateway.chat(key, { model: 'three' }, { 'x-gatehouse-max-attempts': '2' })
    assert.equal(few.status, 502)
  })

  it('tells how long to wait when every target is rate limited, within reason', async () => {
    const asked = async (model: string) =>
      (await gateway.chat(key, { model: `vendor/${model}` })).headers.get('retry-after')
    assert.equal(await asked('status-429+retry-after-7'), '7')
    assert.equal(await asked('status-429+retry-after-1000000'), '60')
    assert.equal(await asked('status-429+retry-after-negative'), '1')
    assert.equal(await asked('status-429+retry-after-garbage'), '1')
    assert.ok(['1', '2'].includes((await asked('status-429+retry-after-date')) ?? ''))
  })
})

/** A port nothing listens on: it was free a moment ago. */
function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo
      server.close(() => resolve(port))
    })
  })
}
