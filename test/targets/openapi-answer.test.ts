import assert from 'node:assert/strict'
import type { ServerResponse } from 'node:http'
import { describe, it } from 'node:test'
import { explain } from '../../src/fault.ts'
import { call, open, operation, resultOf, service, spec, textOf } from './openapi-house.ts'

type Answering = (response: ServerResponse) => void
const object = {
  200: {
    description: 'ok',
    content: { 'application/json': { schema: { type: 'object', properties: { id: { type: 'string' } } } } },
  },
}

async function answered(send: Answering, responses?: object, row: object = {}) {
  const api = await service((_seen, response) => send(response))
  const target = await open(
    api.url,
    spec({ '/x': { get: operation({ operationId: 'x', ...(responses && { responses }) }) } }),
    row,
  )
  return { api, target, outcome: await call(target, 'x', {}, { timeoutMs: 2_000 }) }
}

const json =
  (text: string, status = 200): Answering =>
  (response) =>
    response.writeHead(status, { 'content-type': 'application/json; charset=utf-8' }).end(text)

describe('an answer of the service', () => {
  it('that is a JSON object becomes structured content and text', async () => {
    const { outcome } = await answered(json('{"id":"a","n":[1]}'))
    assert.deepEqual(resultOf(outcome).structuredContent, { id: 'a', n: [1] })
    assert.equal(textOf(outcome), '{"id":"a","n":[1]}')
  })

  it('that is other JSON, broken JSON or plain text stays text', async () => {
    for (const text of ['[1,2]', '"x"', '{"a":', '[['.repeat(100_000)]) {
      const { outcome } = await answered(json(text))
      assert.equal(textOf(outcome), text)
      assert.equal(resultOf(outcome).structuredContent, undefined)
      assert.notEqual(resultOf(outcome).isError, true)
    }
    const { outcome } = await answered((response) =>
      response.writeHead(200, { 'content-type': 'text/html' }).end('<p>hi'),
    )
    assert.equal(textOf(outcome), '<p>hi')
  })

  it('that is binary is only named', async () => {
    const bytes = Buffer.from([0x89, 0x50, 0xff, 0xfe, 0])
    const image = await answered((response) => response.writeHead(200, { 'content-type': 'image/png' }).end(bytes))
    assert.equal(textOf(image.outcome), '[binary answer: image/png, 5 bytes]')
    const untyped = await answered((response) => response.end(bytes))
    assert.equal(textOf(untyped.outcome), '[binary answer: unknown type, 5 bytes]')
  })

  it('beyond a mebibyte is cut, and says so', async () => {
    const { outcome } = await answered(json(`{"a":"${'x'.repeat(10_000_000)}"}`))
    const { content, structuredContent } = resultOf(outcome)
    assert.equal(content[0]?.text.length, 1024 * 1024)
    assert.match(content[1]?.text ?? '', /cut/)
    assert.equal(structuredContent, undefined)
  })

  it('that breaks its declared output schema is told as what it is, since clients would drop it', async () => {
    for (const text of ['{"id":5}', '[1]', '']) {
      const { outcome } = await answered(json(text), object)
      assert.equal(resultOf(outcome).isError, true)
      assert.match(textOf(outcome), /succeeded, but/)
    }
    const { outcome } = await answered(json('{"id":"5","new":1}'), object)
    assert.notEqual(resultOf(outcome).isError, true)
  })

  it('of an error keeps its status, and its body up to two kibibytes', async () => {
    for (const status of [400, 404, 500, 502]) {
      const { outcome } = await answered(json(`{"error":"${'y'.repeat(5000)}"}`, status))
      assert.equal(resultOf(outcome).isError, true)
      assert.match(textOf(outcome), new RegExp(`^HTTP ${status} `))
      assert.ok(textOf(outcome).length < 2200)
    }
  })

  it('that asks for patience says how long', async () => {
    const after = (value?: string) => (response: ServerResponse) => {
      response.writeHead(429, value === undefined ? {} : { 'retry-after': value }).end()
    }
    assert.match(textOf((await answered(after('17'))).outcome), /after 17 seconds/)
    assert.match(textOf((await answered(after(new Date(1_700_000_030_000).toUTCString()))).outcome), /after 30 seconds/)
    assert.match(textOf((await answered(after('canary\u00e9'))).outcome), /Try again later/)
    assert.match(textOf((await answered(after())).outcome), /Try again later/)
  })

  it('that redirects is not followed', async () => {
    const other = await service()
    for (const status of [301, 302, 307, 308]) {
      const { outcome } = await answered((response) => response.writeHead(status, { location: other.url }).end())
      assert.equal(resultOf(outcome).isError, true)
      assert.match(textOf(outcome), /redirect/)
    }
    assert.equal(other.seen.length, 0)
  })

  it('never shows the credential, and a cookie it sets is not sent back', async () => {
    const secret = 'petstore-demo-key'
    for (const status of [200, 500]) {
      const { api, target, outcome } = await answered(
        (response) => {
          response.setHeader('set-cookie', 'session=canary')
          json(
            JSON.stringify({ headers: { 'x-api-key': secret, authorization: `Bearer ${secret}` } }),
            status,
          )(response)
        },
        undefined,
        { auth: { kind: 'bearer', secret: 'env:PETS_KEY' } },
      )
      assert.doesNotMatch(JSON.stringify(outcome), /petstore-demo-key|canary/)
      assert.match(textOf(outcome), /\[redacted\]/)
      await call(target, 'x', {})
      assert.equal(api.seen[1]?.headers.cookie, undefined)
      assert.equal(api.seen[1]?.headers.authorization, `Bearer ${secret}`)
    }
  })

  it('that never comes is a timeout, that breaks off is an upstream error, and the state tells', async () => {
    const slow = await answered(() => {}, undefined, { timeout: '100ms' })
    assert.ok('fault' in slow.outcome)
    assert.equal(slow.outcome.fault.code, 'upstream_timeout')
    assert.match(explain(slow.outcome.fault.body), /^pets did not answer within 100 ms/)
    assert.equal(slow.target.state().status, 'unstable')
    const broken = await answered((response) => response.destroy())
    assert.ok('fault' in broken.outcome)
    assert.equal(broken.outcome.fault.code, 'upstream_error')
  })

  it('is not waited for when the caller cancels, and the state stays as it was', async () => {
    const controller = new AbortController()
    const api = await service(() => controller.abort())
    const target = await open(api.url, spec({ '/x': { get: operation({ operationId: 'x' }) } }))
    const outcome = await call(target, 'x', {}, { signal: controller.signal })
    assert.ok('fault' in outcome)
    assert.equal(target.state().status, 'healthy')
  })
})
