/** What no request may be like, on any door: told from the bytes that were sent. @module */
import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import { type Client, exchangeRaw, hello, openVendor, startGateway } from '../gateway.ts'
import type { Vendor } from '../upstreams/vendor.ts'

describe('a request at the door', () => {
  let gateway: Client
  let vendor: Vendor
  let key: string

  before(async () => {
    vendor = await openVendor()
    gateway = await startGateway({ vendor, env: { GATEHOUSE_PUBLIC_URL: 'https://gate.example.com' } })
    key = (await gateway.mintKey()).key
  })

  const send = async (bytes: string) => {
    const text = await exchangeRaw(gateway.port, bytes)
    return { status: Number(text.slice(9, 12)), text }
  }
  /** A request whose connection closes with the answer. `lines` are header lines. */
  const get = (target: string, lines: readonly string[] = ['host: localhost'], close = true) =>
    send(`GET ${target} HTTP/1.1\r\n${[...lines, ...(close ? ['connection: close'] : [])].join('\r\n')}\r\n\r\n`)
  const withKey = (...lines: string[]) => ['host: localhost', `authorization: Bearer ${key}`, ...lines]

  it('has one Host that this gateway answers to', async () => {
    for (const good of [
      'localhost',
      '127.0.0.1',
      `127.0.0.1:${gateway.port}`,
      '[::1]:80',
      'gate.example.com',
      'LOCALHOST',
    ])
      assert.equal((await get('/healthz', [`host: ${good}`])).status, 200, good)
    for (const bad of [
      'a b',
      'localhost/x',
      'localhost#',
      'x@localhost',
      'localhost:99999',
      'localhost:',
      '',
      '[::1',
      'ex\\ample',
    ])
      assert.equal((await get('/healthz', [`host: ${bad}`])).status, 400, bad)
    assert.equal((await get('/healthz', ['host: localhost', 'Host: localhost'])).status, 400)
    assert.equal((await get('/healthz', ['x-nothing: 1'])).status, 400)
  })

  it('cannot come through a name that somebody else points here, on any path', async () => {
    for (const path of ['/healthz', '/readyz', '/metrics', '/v1/models', '/mcp', '/admin/v1/keys', '/', '/connect/x']) {
      const answered = await get(path, ['host: evil.example', `authorization: Bearer ${key}`])
      assert.equal(answered.status, 403, path)
      const port = await get(path, [`host: evil.example:${gateway.port}`])
      assert.equal(port.status, 403, path)
    }
  })

  it('comes from an origin that is known, or from none', async () => {
    const own = `http://127.0.0.1:${gateway.port}`
    for (const origin of [own, 'https://gate.example.com'])
      assert.equal((await get('/v1/models', withKey(`origin: ${origin}`))).status, 200, origin)
    for (const origin of [
      'https://evil.example',
      'null',
      `${own}.evil.example`,
      'http://gate.example.com',
      'http://127.0.0.1',
    ])
      assert.equal((await get('/v1/models', withKey(`origin: ${origin}`))).status, 403, origin)
  })

  it('has one spelling of its path', async () => {
    const odd = [
      ...['//admin/v1/keys', '/./admin/v1/keys', '/x/../admin/v1/keys', '/admin/v1/keys/.', '/admin/v1/keys/..'],
      ...['/admin%2fv1/keys', '/admin/v1/%2e%2e/keys', '/admin/v1;x/keys', '/admin\\v1\\keys', '/admin/v1/keys%00'],
      ...['/v1/models/..%2f..%2fadmin', '/v1/models/%2e%2e/sessions', '/v1/chat%5ccompletions', '/admin#/v1'],
    ]
    for (const path of odd) {
      const { status } = await get(path, withKey())
      assert.equal(status, 400, path)
    }
    for (const path of ['/%61dmin/v1/keys', '/ADMIN/v1/keys', '/admin/v1/keys/', '/admin/v1//']) {
      const { status } = await get(path, ['host: localhost'])
      assert.ok([400, 401, 404].includes(status), `${path}: ${status}`)
      const holder = await get(path, withKey())
      assert.ok([400, 403, 404].includes(holder.status), `${path}: ${holder.status}`)
    }
    assert.equal((await get('http://localhost/healthz')).status, 200)
    assert.equal((await get('http://evil.example/healthz')).status, 400)
    assert.equal((await get('*')).status, 400)
  })

  it('carries no header twice that decides something', async () => {
    for (const name of [
      'authorization',
      'content-type',
      'content-encoding',
      'mcp-name',
      'mcp-protocol-version',
      'mcp-session-id',
      'x-api-key',
      'origin',
    ]) {
      const { status } = await get('/v1/models', [...withKey(), `${name}: a`, `${name.toUpperCase()}: a`])
      assert.equal(status, 400, name)
    }
    const twice = await get('/v1/models', withKey('Authorization: Bearer sk-gate-other'))
    assert.equal(twice.status, 400)
  })

  it('carries at most 128 header fields, and none is dropped silently', async () => {
    for (const count of [126, 127, 990, 998, 1000, 1001, 1040, 2100]) {
      const many = Array.from({ length: count - 3 }, (_, i) => `x-${i}: 1`)
      const { status } = await get('/v1/models', ['host: localhost', ...many, `authorization: Bearer ${key}`])
      assert.equal(status, count <= 127 ? 200 : 431, String(count))
    }
  })

  it('carries one credential in one of three headers; two that differ are refused', async () => {
    for (const name of ['x-api-key', 'x-goog-api-key'])
      assert.equal((await get('/v1/models', ['host: localhost', `${name}: ${key}`])).status, 200, name)
    assert.equal((await get('/v1/models', withKey(`x-api-key: ${key}`))).status, 200)
    const other = (await gateway.mintKey()).key
    assert.equal((await get('/v1/models', withKey(`x-api-key: ${other}`))).status, 400)
    assert.equal((await get('/v1/models', withKey('x-api-key: '))).status, 401)
    assert.equal((await get(`/v1/models?key=${key}`, withKey())).status, 400)
    assert.equal((await get(`/v1/models/${key}`, withKey())).status, 400)
  })

  it('is judged by the credential it carries itself, whatever its connection carried before', async () => {
    const revoked = await gateway.mintKey()
    assert.equal((await gateway.admin('DELETE', `/keys/${revoked.id}`)).status, 200)
    const sent: readonly (readonly [readonly string[], number])[] = [
      [[`authorization: Bearer ${key}`], 200],
      [[`authorization: Bearer ${key}`], 200],
      [[`authorization: Bearer ${revoked.key}`], 401],
      [[], 401],
      [[`x-api-key: ${key}`], 200],
      [[`x-goog-api-key: ${key}`], 200],
      [[`x-goog-api-key: ${revoked.key}`], 401],
      [[`authorization: Bearer ${key}`], 200],
      [[`authorization: Bearer ${key}`, `x-api-key: ${revoked.key}`], 400],
    ]
    const requests = sent.map(
      ([lines]) => `GET /v1/models HTTP/1.1\r\n${['host: localhost', ...lines].join('\r\n')}\r\n\r\n`,
    )
    const { text } = await send(requests.join(''))
    const statuses = [...text.matchAll(/HTTP\/1\.1 (\d+) /g)].map(([, status]) => Number(status))
    assert.deepEqual(
      statuses,
      sent.map(([, status]) => status),
    )
  })

  it('without a good key gets one and the same answer, whatever it tried', async () => {
    const bodies = new Set<string>()
    const mangled = `${key.slice(0, -1)}${key.endsWith('0') ? '1' : '0'}`
    const lines = [
      ...['authorization:', 'authorization: Bearer', 'authorization: Bearer ', `authorization: Basic ${key}`],
      ...[
        `authorization: Token ${key}`,
        `authorization: Bearer  ${key}`,
        `authorization: Bearer\t${key}`,
        `authorization: ${key}`,
      ],
      ...[
        `authorization: Bearer ${key} x`,
        `authorization: Bearer ${mangled}`,
        `authorization: Bearer ${key.toUpperCase()}`,
      ],
      ...[
        "authorization: Bearer ' OR '1'='1",
        'authorization: Bearer %',
        'authorization: Bearer *',
        'authorization: Bearer {"$gt":""}',
      ],
      ...[
        `authorization: Bearer ${'a'.repeat(8192)}`,
        `authorization: Bearer ${key}%00`,
        'authorization: Bearer schl\xc3\xbcssel',
      ],
      ...[
        `x-api-key: Bearer ${key}`,
        'authorization: Bearer sk-gate-k_0000000000000000_00000000000000000000000000000000000000',
      ],
    ]
    for (const line of ['x-none: 1', ...lines]) {
      const { status, text } = await get('/v1/models', ['host: localhost', line])
      assert.equal(status, 401, line)
      assert.match(text, /www-authenticate: Bearer/i, line)
      bodies.add(text.slice(text.indexOf('\r\n\r\n')).replace(/req_\w+/, 'req_N'))
    }
    assert.equal(bodies.size, 1, [...bodies].join('\n'))
    assert.equal(vendor.requests.length, 0)
  })

  it('is refused when its framing can be read in two ways', async () => {
    const body = JSON.stringify(hello)
    const post = (lines: string[]) =>
      send(
        `POST /v1/chat/completions HTTP/1.1\r\n${[...withKey('connection: close'), ...lines].join('\r\n')}\r\n\r\n${body}`,
      )
    for (const lines of [
      [`content-length: ${body.length}`, 'transfer-encoding: chunked'],
      [`content-length: ${body.length}`, 'content-length: 1'],
      [`content-length: +${body.length}`],
      ['transfer-encoding: xchunked'],
      [`content-length : ${body.length}`],
      [`x-a: b\r\n folded`, `content-length : ${body.length}`],
    ])
      assert.equal((await post(lines)).status, 400, lines.join())
    assert.equal(vendor.requests.length, 0)
  })
})
