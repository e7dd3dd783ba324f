/** Which era a message claims, and the one answer each malformed request has. @module */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { classifyInboundRequest } from '@modelcontextprotocol/server'
import fc from 'fast-check'
import { classify, maxBatch, negotiated } from '../../src/mcp/wire/inbound.ts'
import { WireError } from '../../src/mcp/wire/jsonrpc.ts'

const version = 'io.modelcontextprotocol/protocolVersion'
const capabilities = 'io.modelcontextprotocol/clientCapabilities'
const meta = { [version]: '2026-07-28', [capabilities]: {} }
const call = (params: object = {}, id: unknown = 7) => ({
  jsonrpc: '2.0',
  id,
  method: 'tools/call',
  params: { name: 'echo', arguments: {}, _meta: meta, ...params },
})
const headers = { 'mcp-protocol-version': '2026-07-28', 'mcp-method': 'tools/call', 'mcp-name': 'echo' }
const without = (name: string) => Object.fromEntries(Object.entries(headers).filter(([key]) => key !== name))

describe('a request of the current revision', () => {
  it('is accepted when its headers say what its body says', () => {
    const inbound = classify(call(), headers)
    assert.ok(!(inbound instanceof WireError))
    assert.equal(inbound.era, 'modern')
  })

  const refused: [title: string, body: unknown, headers: Record<string, string>, status: number, code: number][] = [
    ['lacks the version header', call(), without('mcp-protocol-version'), 400, -32020],
    ['has another version in the header', call(), { ...headers, 'mcp-protocol-version': '2025-11-25' }, 400, -32020],
    ['claims a version that is no text', call({ _meta: { ...meta, [version]: 1 } }), headers, 400, -32020],
    ['lacks the capabilities', call({ _meta: { [version]: '2026-07-28' } }), headers, 400, -32602],
    ['claims its version in the header alone', call({ _meta: {} }), headers, 400, -32602],
    [
      'claims a version that is not served',
      call({ _meta: { ...meta, [version]: '2031-01-01' } }),
      { ...headers, 'mcp-protocol-version': '2031-01-01' },
      400,
      -32022,
    ],
    ['lacks Mcp-Method', call(), without('mcp-method'), 400, -32020],
    ['has another method in the header', call(), { ...headers, 'mcp-method': 'tools/list' }, 400, -32020],
    ['has the method in capitals', call(), { ...headers, 'mcp-method': 'TOOLS/CALL' }, 400, -32020],
    ['lacks Mcp-Name', call(), without('mcp-name'), 400, -32020],
    ['has another name in the header', call(), { ...headers, 'mcp-name': 'other' }, 400, -32020],
    ['has a name with raw bytes in the header', call({ name: 'é' }), { ...headers, 'mcp-name': 'é' }, 400, -32020],
    ['has broken Base64 in the header', call(), { ...headers, 'mcp-name': '=?base64?ZWN?o?=' }, 400, -32020],
    [
      'asks for a method of an older revision',
      { ...call(), method: 'ping' },
      { ...headers, 'mcp-method': 'ping' },
      404,
      -32601,
    ],
    [
      'asks for a method with a space behind it',
      { ...call(), method: 'tools/call ' },
      { ...headers, 'mcp-method': '=?base64?dG9vbHMvY2FsbCA=?=' },
      404,
      -32601,
    ],
  ]
  for (const [title, body, sent, status, code] of refused) {
    it(`is refused with ${code} under HTTP ${status} when it ${title}, and its id is repeated`, () => {
      const inbound = classify(body, sent)
      assert.ok(inbound instanceof WireError)
      assert.deepEqual([inbound.status, inbound.body.code, inbound.id], [status, code, 7])
    })
  }

  it('may encode its name as Base64', () => {
    const name = `=?base64?${Buffer.from('grüße').toString('base64')}?=`
    assert.ok(!(classify(call({ name: 'grüße' }), { ...headers, 'mcp-name': name }) instanceof WireError))
  })

  it('is told the versions that are served', () => {
    const claim = { ...meta, [version]: '2031-01-01' }
    const inbound = classify(call({ _meta: claim }), { ...headers, 'mcp-protocol-version': '2031-01-01' })
    assert.ok(inbound instanceof WireError)
    assert.deepEqual(inbound.body.data, {
      supported: ['2026-07-28', '2025-11-25', '2025-06-18', '2025-03-26'],
      requested: '2031-01-01',
    })
  })

  it('is refused wherever the reference implementation refuses it', () => {
    for (const [title, body, sent] of [['is well formed', call(), headers], ...refused] as const) {
      const request = {
        httpMethod: 'POST',
        body,
        protocolVersionHeader: sent['mcp-protocol-version'],
        mcpMethodHeader: sent['mcp-method'],
        mcpNameHeader: sent['mcp-name'],
      }
      const reference = classifyInboundRequest(request as Parameters<typeof classifyInboundRequest>[0])
      if (reference.kind === 'reject') assert.ok(classify(body, sent) instanceof WireError, title)
    }
  })
})

describe('a message of an older revision', () => {
  const list = { jsonrpc: '2.0', id: 'a', method: 'tools/list' }
  it('is not taken for a current one because of its headers', () => {
    const inbound = classify(list, { 'mcp-protocol-version': '2025-06-18', 'mcp-method': 'tools/list' })
    assert.ok(!(inbound instanceof WireError))
    assert.equal(inbound.era, 'legacy')
  })

  it('may lack the version header', () => {
    const inbound = classify(list, {})
    assert.ok(!(inbound instanceof WireError))
    assert.equal(inbound.era, 'legacy')
  })

  it('is refused when its version header names nothing that is served', () => {
    const inbound = classify(list, { 'mcp-protocol-version': '1999-01-01' })
    assert.ok(inbound instanceof WireError)
    assert.equal(inbound.status, 400)
  })

  it('may come in a batch in 2025-03-26 only', () => {
    for (const [revision, refused] of [
      ['2025-03-26', false],
      ['2025-06-18', true],
      ['2025-11-25', true],
      ['2026-07-28', true],
      ['constructor', true],
    ] as const) {
      const inbound = classify([list, list], { 'mcp-protocol-version': revision })
      assert.equal(inbound instanceof WireError, refused, revision)
    }
  })

  it('is refused in a batch that is empty or too long', () => {
    assert.ok(classify([], {}) instanceof WireError)
    assert.ok(classify(Array(maxBatch + 1).fill(list), {}) instanceof WireError)
  })

  it('cannot begin a session from within a batch, nor claim the current revision there', () => {
    const inbound = classify([{ ...list, method: 'initialize' }, call()], {})
    assert.ok(!(inbound instanceof WireError) && inbound.era === 'legacy')
    assert.deepEqual(
      inbound.messages.map((one) => one instanceof WireError && one.body.code),
      [-32600, -32600],
    )
  })

  it('gets the version it asks for in the handshake, or else our newest older one', () => {
    assert.equal(negotiated('2025-06-18').revision, '2025-06-18')
    assert.equal(negotiated('2024-01-01').revision, '2025-11-25')
    assert.equal(negotiated('2026-07-28').revision, '2025-11-25')
    assert.equal(negotiated(undefined).revision, '2025-11-25')
  })
})

describe('what is no JSON-RPC message', () => {
  it('is refused and never breaks anything, whatever it is', () => {
    const keys = fc.constantFrom('jsonrpc', 'id', 'method', 'params', 'result', 'error', '_meta', version, 'name')
    const values = fc.letrec((tie) => ({
      any: fc.oneof(
        { depthSize: 'small' },
        fc.constantFrom('2.0', 'tools/call', 'initialize', '2026-07-28', null, 1, 1.5, true),
        fc.jsonValue(),
        fc.array(tie('any'), { maxLength: 3 }),
        fc.dictionary(keys, tie('any'), { maxKeys: 5 }),
      ),
    })).any
    const sent = fc.dictionary(fc.constantFrom('mcp-protocol-version', 'mcp-method', 'mcp-name'), fc.string())
    fc.assert(
      fc.property(values, sent, (body, some) => {
        const inbound = classify(body, some)
        assert.ok(inbound instanceof WireError ? inbound.status >= 400 : ['modern', 'legacy'].includes(inbound.era))
      }),
    )
  })

  for (const body of [
    null,
    'text',
    {},
    { jsonrpc: '1.0', id: 1, method: 'ping' },
    { jsonrpc: '2.0', id: null, method: 'ping' },
    { jsonrpc: '2.0', id: 1.5, method: 'ping' },
    { jsonrpc: '2.0', id: 1, method: 'ping', params: [] },
    { jsonrpc: '2.0', id: 1, method: 7 },
    { jsonrpc: '2.0', id: 1, result: {}, error: 'no', method: null },
  ]) {
    it(`is refused with -32600: ${JSON.stringify(body)}`, () => {
      const inbound = classify(body, {})
      assert.ok(inbound instanceof WireError)
      assert.deepEqual([inbound.status, inbound.body.code], [400, -32600])
    })
  }
})
