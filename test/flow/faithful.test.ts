/** What leaves the gateway is what came in, to the byte, apart from the few members it owns. @module */
import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import { type GatewayUnderTest, openVendor, startGateway, vendorKey } from '../gateway.ts'
import type { Vendor } from '../upstreams/vendor.ts'

describe('a request on its way to the provider', () => {
  let vendor: Vendor
  let gateway: GatewayUnderTest
  let key: string

  before(async () => {
    vendor = await openVendor()
    gateway = await startGateway({ vendor, routes: { fast: { to: [{ provider: 'vendor', model: 'ok' }] } } })
    key = (await gateway.mintKey()).key
  })
  const post = (body: string, headers: Record<string, string> = {}, path = '/v1/chat/completions') =>
    gateway.ask('POST', path, { key, body, headers })
  const sent = () => vendor.requests.at(-1)?.body.toString() ?? ''

  it('keeps unknown fields, number spelling, white space and key order; only the model is replaced', async () => {
    const body = `{ "temperature" : 1.00, "top_p":1e0 ,\r\n\t"x_unknown":{"b":1,"a":[ 1.50 ]},"seed":12345678901234567890,
      "messages":[{"role":"user","content":"caf\\u00e9 \\/ 漢字", "model":"inner"}], "model" : "fast" , "user":"" }`
    assert.equal((await post(body)).status, 200)
    assert.equal(sent(), body.replace('"fast"', '"ok"'))
  })

  it('leaves a nested "model" and text that looks like one alone', async () => {
    const body = `{"metadata":{"model":"fast"},"messages":[{"role":"user","content":"\\"model\\":\\"fast\\""}],"model":"fast"}`
    assert.equal((await post(body)).status, 200)
    assert.equal(sent(), body.replace(/"fast"}$/, '"ok"}'))
  })

  it('is refused when the top level names the model twice, also in another spelling', async () => {
    const before = vendor.requests.length
    for (const second of [
      '"model":"vendor/ok"',
      '"mod\\u0065l":"vendor/ok"',
      '"MODEL":"vendor/ok"',
      '"Max_Tokens":9',
    ]) {
      const answered = await post(`{"model":"fast","messages":[],${second}}`)
      assert.equal(answered.status, 400, second)
      assert.equal(answered.json.error.code, 'invalid_request')
    }
    assert.equal(vendor.requests.length, before)
  })

  it('asks for usage in a stream beside what the caller asked for', async () => {
    await post('{"model":"fast","messages":[],"stream":true}')
    assert.equal(sent(), '{"stream_options":{"include_usage":true},"model":"ok","messages":[],"stream":true}')
    await post('{"model":"fast","messages":[],"stream":true,"stream_options":{"include_obfuscation":false}}')
    assert.match(sent(), /"stream_options":\{"include_obfuscation":false,"include_usage":true\}/)
    const asked = '{"model":"vendor/ok","stream":true,"stream_options":{"include_usage" :true}}'
    await post(asked)
    assert.equal(sent(), asked.replace('vendor/ok', 'ok'))
    await post('{"model":"fast","stream":true,"stream_options":null}')
    assert.equal(sent(), '{"model":"ok","stream":true,"stream_options":{"include_usage":true}}')
  })

  it('carries no header of the caller, least of all its credentials', async () => {
    const canary = 'CANARY-5e1f'
    await post('{"model":"fast","messages":[]}', {
      cookie: `session=${canary}`,
      'proxy-authorization': `Basic ${canary}`,
      'x-goog-api-key': key,
      'x-forwarded-for': canary,
      'openai-organization': canary,
      'x-custom': canary,
      te: 'trailers',
      'x-gatehouse-labels': `a=${canary}`,
    })
    const request = vendor.requests.at(-1)
    const raw = `${request?.path} ${request?.headers.join('\n')}`
    assert.ok(!raw.includes(canary) && !raw.includes(key), raw)
    assert.equal(request?.header('authorization'), `Bearer ${vendorKey}`)
    const names = request?.headers.filter((_, index) => index % 2 === 0).map((name) => name.toLowerCase())
    assert.deepEqual(names?.toSorted(), [
      ...['accept-encoding', 'authorization', 'connection', 'content-length', 'content-type', 'host', 'user-agent'],
    ])
  })
})

describe('an answer on its way to the caller', () => {
  let vendor: Vendor
  let gateway: GatewayUnderTest
  let key: string

  before(async () => {
    vendor = await openVendor()
    gateway = await startGateway({ vendor })
    key = (await gateway.mintKey()).key
  })

  /** What the vendor says to the same body when it is asked directly. */
  async function direct(body: object): Promise<string> {
    const response = await fetch(`${vendor.url}/v1/chat/completions`, { method: 'POST', body: JSON.stringify(body) })
    return (await response.text()).replace(/vendor-\d+/g, 'vendor-N')
  }
  async function through(body: { model: string }): Promise<string> {
    const answered = await gateway.chat(key, { ...body, model: `vendor/${body.model}` })
    return answered.text.replace(/vendor-\d+/g, 'vendor-N')
  }
  const messages = [{ role: 'user', content: 'hello there' }]
  const withUsage = { stream: true, stream_options: { include_usage: true } }

  it('is the same bytes, unknown fields included', async () => {
    const body = { model: 'unknown-fields', messages }
    assert.equal(await through(body), await direct(body))
    assert.match(await through(body), /"x_vendor_message":\{"kept":true/)
  })

  it('is the same bytes as a stream when the caller asks for usage', async () => {
    for (const model of [
      'ok',
      'unknown-fields',
      'crlf',
      'split-1',
      'split-7',
      'usage-split',
      'usage-finish',
      'usage-every',
      'n-choices',
    ]) {
      const body = { model, messages, ...withUsage }
      assert.equal(await through(body), await direct(body), model)
    }
  })

  it('is the same bytes when the vendor sends the whole stream in one piece', async () => {
    const whole = Buffer.from(await direct({ model: 'ok', messages, ...withUsage }))
    vendor.script('one-piece', (_, __, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream', 'content-length': whole.length }).end(whole)
      return undefined
    })
    assert.equal(await through({ model: 'one-piece', ...withUsage } as { model: string }), whole.toString())
    const without = await through({ model: 'one-piece', stream: true } as { model: string })
    assert.equal(without, whole.toString().replace(/data: [^\n]*"choices":\[\][^\n]*\n\n/, ''))
  })

  it('lacks the usage event that only the gateway asked for', async () => {
    const body = { model: 'ok', messages, stream: true }
    const full = await direct({ ...body, ...withUsage })
    const events = full.split(/(?<=\n\n)/).filter((event) => !event.includes('"choices":[]'))
    assert.equal(await through(body), events.join(''))
    assert.equal((await gateway.ledger()).at(-1)?.usage_source, 'provider')
  })

  it('ends with [DONE] where the vendor leaves it out', async () => {
    const said = await through({ model: 'no-done', messages, stream: true } as { model: string })
    assert.ok(said.endsWith('data: [DONE]\n\n'))
    const crlf = await through({ model: 'crlf', messages, stream: true } as { model: string })
    assert.ok(crlf.endsWith('data: [DONE]\r\n\r\n'))
  })

  it('carries a malformed event among good ones on, and the rest of the stream', async () => {
    const said = await through({ model: 'bad-json', messages, stream: true } as { model: string })
    assert.match(said, /"del\n\n/)
    assert.ok(said.endsWith('data: [DONE]\n\n'))
  })

  it('passes on events of two megabytes, in whatever pieces they come', async () => {
    for (const model of ['huge-event', 'huge-event-200000+split-512']) {
      const body = { model, messages, ...withUsage }
      assert.equal((await through(body)).length, (await direct(body)).length, model)
    }
  })

  it("never carries hop-by-hop headers, cookies or the vendor's own names", async () => {
    for (const stream of [false, true]) {
      const { headers } = await gateway.chat(key, { model: 'vendor/unknown-fields+trailers', stream })
      for (const name of [
        'set-cookie',
        'server',
        'x-vendor-region',
        'trailer',
        'x-vendor-trailer',
        'x-ratelimit-limit-requests',
      ])
        assert.equal(headers.get(name), null, name)
      assert.equal(headers.get('x-gatehouse-upstream-ratelimit-limit-requests'), '1000')
      assert.match(headers.get('x-gatehouse-upstream-request-id') ?? '', /^req_vendor_/)
    }
  })

  it('is decoded where the vendor compresses it unasked', async () => {
    const body = { model: 'gzip', messages }
    assert.equal(await through(body), await direct(body))
  })
})
