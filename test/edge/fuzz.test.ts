/** Whatever is thrown at the door, the gateway answers or closes, and stays up. @module */
import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { before, describe, it } from 'node:test'
import fc from 'fast-check'
import { exchangeRaw, type GatewayUnderTest, openVendor, startGateway } from '../gateway.ts'
import type { Vendor } from '../upstreams/vendor.ts'

describe('a door under fire', () => {
  let gateway: GatewayUnderTest
  let vendor: Vendor
  let key: string

  before(async () => {
    vendor = await openVendor()
    gateway = await startGateway({ vendor })
    key = (await gateway.mintKey({ limits: [{ unit: 'tokens', max: 100_000 }] })).key
  })

  /** Sends, closes its side, and takes what comes until the other side is done. */
  function shoot(bytes: Buffer): Promise<string> {
    return new Promise((resolve) => {
      const parts: Buffer[] = []
      const socket = connect(gateway.port, '127.0.0.1', () => socket.end(bytes))
      socket.on('data', (part) => parts.push(part))
      socket.on('error', () => {})
      socket.on('close', () => resolve(Buffer.concat(parts).toString()))
    })
  }
  const alive = async () => {
    assert.equal((await gateway.ask('GET', '/readyz')).status, 200)
    assert.equal(await gateway.metric('gatehouse_open_holds'), 0)
  }

  it('of random bytes', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), async (bytes) => {
        const text = await shoot(Buffer.from(bytes))
        assert.ok(text === '' || text.startsWith('HTTP/1.1 4'), text)
      }),
      { numRuns: 150 },
    )
    await alive()
  })

  it('of requests that are almost right', async () => {
    const path = fc.constantFrom(
      '/v1/chat/completions',
      '/v1/embeddings',
      '/v1/sessions',
      '/v1/sessions/current',
      '/v1/models/x',
      '/admin/v1/keys',
      '/mcp',
      '/mcp/x',
      '/%',
      '/?a=%zz',
      '/healthz?x',
    )
    const name = fc.constantFrom(
      'content-type',
      'x-gatehouse-labels',
      'x-gatehouse-timeout-ms',
      'x-gatehouse-step',
      'traceparent',
      'accept',
      'expect',
      'upgrade',
      'mcp-session-id',
      'mcp-protocol-version',
    )
    const value = fc.oneof(
      fc.constantFrom(
        'application/json',
        'Upgrade',
        'websocket',
        '100-continue',
        '-1',
        'a=b,c',
        '2026-07-28',
        'text/event-stream',
        'close',
      ),
      fc.string({ unit: 'grapheme-ascii', maxLength: 40 }),
    )
    const body = fc.oneof(
      fc.json(),
      fc
        .record(
          {
            model: fc.constantFrom('vendor/ok', 'vendor/cut-300', 'x'),
            stream: fc.boolean(),
            max_tokens: fc.option(fc.integer()),
            n: fc.integer({ min: -1, max: 3 }),
            messages: fc.jsonValue(),
          },
          { requiredKeys: [] },
        )
        .map((value) => JSON.stringify(value)),
      fc
        .record({
          jsonrpc: fc.constant('2.0'),
          id: fc.jsonValue(),
          method: fc.constantFrom('initialize', 'tools/list', 'tools/call', 'ping', 'x'),
          params: fc.jsonValue(),
        })
        .map((value) => JSON.stringify(value)),
      fc.string({ maxLength: 50 }),
    )
    let good = 0
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom('GET', 'POST', 'PATCH', 'DELETE', 'PUT', 'HEAD', 'OPTIONS'),
        path,
        fc.array(fc.tuple(name, value), { maxLength: 4 }),
        body,
        fc.boolean(),
        async (method, target, headers, content, known) => {
          const bytes = Buffer.from(content)
          const lines = [
            ...[
              `${method} ${target} HTTP/1.1`,
              'host: localhost',
              'connection: close',
              `content-length: ${bytes.length}`,
            ],
            ...(known ? [`authorization: Bearer ${key}`] : []),
            ...headers.map(([one, text]) => `${one}: ${text}`),
          ]
          const text = await exchangeRaw(
            gateway.port,
            Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`), bytes]),
          )
          if (/^HTTP\/1\.1 200 /.test(text)) good++
          assert.ok(!/^HTTP\/1\.1 500 /.test(text) && !text.includes('internal_error'), text)
          assert.ok(!/\n\s+at .+:\d+:\d+/.test(text), text)
        },
      ),
      { numRuns: 1200 },
    )
    assert.ok(good > 20, `only ${good} were answered well, so little was tried`)
    assert.ok(
      !gateway.log().includes('a stage failed') && !gateway.log().includes('a door failed'),
      gateway.log().slice(-2000),
    )
    await alive()
  })
})
