/** Headers copied from bodies, results shaped per revision, event streams, definitions at ingest. @module */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { Target, Tool } from '../../src/call.ts'
import { createCatalogue } from '../../src/mcp/catalogue.ts'
import { ingest, maxDefinition } from '../../src/mcp/ingest.ts'
import { quoted } from '../../src/mcp/upstream/explain.ts'
import {
  decodeHeaderValue,
  encodeHeaderValue,
  headerParams,
  paramHeaders,
  paramMismatch,
} from '../../src/mcp/wire/headers.ts'
import { portableMeta } from '../../src/mcp/wire/meta.ts'
import { codecOf, codecs, legacyRevisions } from '../../src/mcp/wire/revision.ts'
import { type SseEvent, sseReader } from '../../src/mcp/wire/sse.ts'

describe('a header value', () => {
  it('carries any text there and back', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) => {
        const value = encodeHeaderValue(text)
        assert.match(value, /^[\x20-\x7e]*$/)
        assert.equal(decodeHeaderValue(value), text)
      }),
    )
  })

  it('is literal without the exact markers', () => {
    assert.equal(decodeHeaderValue('=?BASE64?YQ==?='), '=?BASE64?YQ==?=')
    assert.equal(decodeHeaderValue(' plain '), 'plain')
  })

  it('is no value when its Base64 is broken or is no UTF-8', () => {
    assert.equal(decodeHeaderValue('=?base64?YQ?='), null)
    assert.equal(decodeHeaderValue('=?base64?/w==?='), null)
    assert.equal(decodeHeaderValue('=?base64??=?='), null)
  })
})

describe('a parameter that travels as a header', () => {
  const schema = (properties: object) => ({ type: 'object', properties })
  it('is found at any depth of properties', () => {
    const found = headerParams(
      schema({
        a: { type: 'string', 'x-mcp-header': 'A' },
        b: schema({ c: { type: 'integer', 'x-mcp-header': 'C' } }),
      }),
    )
    assert.deepEqual(found, [
      { name: 'A', path: ['a'], type: 'string' },
      { name: 'C', path: ['b', 'c'], type: 'integer' },
    ])
  })

  const invalid: [string, object][] = [
    ['empty', schema({ a: { type: 'string', 'x-mcp-header': '' } })],
    ['no token', schema({ a: { type: 'string', 'x-mcp-header': 'A B' } })],
    ['a line break', schema({ a: { type: 'string', 'x-mcp-header': 'A\r\nB' } })],
    ['on a number', schema({ a: { type: 'number', 'x-mcp-header': 'A' } })],
    ['on an object', schema({ a: { type: 'object', 'x-mcp-header': 'A' } })],
    ['under items', schema({ a: { type: 'array', items: { type: 'string', 'x-mcp-header': 'A' } } })],
    ['under anyOf', { ...schema({}), anyOf: [schema({ a: { type: 'string', 'x-mcp-header': 'A' } })] }],
    ['at the root', { type: 'string', 'x-mcp-header': 'A' }],
    [
      'a duplicate but for case',
      schema({ a: { type: 'string', 'x-mcp-header': 'A' }, b: { type: 'string', 'x-mcp-header': 'a' } }),
    ],
  ]
  for (const [title, inputSchema] of invalid) {
    it(`makes a definition invalid when its annotation is ${title}, and costs that tool only`, () => {
      assert.equal(typeof headerParams(inputSchema), 'string')
      const { tools, refused } = ingest('s', [
        { name: 'bad', inputSchema: { ...inputSchema, type: 'object' } },
        { name: 'good', inputSchema: { type: 'object' } },
      ])
      assert.deepEqual([tools.map(({ name }) => name), refused.length], [['good'], 1])
    })
  }

  const params = headerParams(
    schema({ region: { type: 'string', 'x-mcp-header': 'Region' }, n: { type: 'integer', 'x-mcp-header': 'N' } }),
  ) as Exclude<ReturnType<typeof headerParams>, string>
  const check = (args: object, headers: Record<string, string>) =>
    paramMismatch(params, { ...args }, (name) => headers[name]) === null

  it('must be in the header as it is in the arguments', () => {
    assert.ok(check({ region: 'eu', n: 42 }, { 'mcp-param-region': 'eu', 'mcp-param-n': '42.0', 'mcp-param-x': 'any' }))
    assert.ok(!check({ region: 'eu', n: 42 }, { 'mcp-param-region': 'eu' }))
    assert.ok(!check({ region: 'eu' }, { 'mcp-param-region': 'us' }))
    assert.ok(check({ region: null }, {}))
    assert.ok(!check({ region: null }, { 'mcp-param-region': 'eu' }))
    assert.ok(!check({}, { 'mcp-param-region': 'eu' }))
  })

  it('is written so that it passes its own check', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), fc.integer(), (region, n) => {
        const headers = Object.fromEntries(paramHeaders(params, { region, n }))
        assert.ok(check({ region, n }, headers))
      }),
    )
  })
})

describe('a result', () => {
  const modern = codecs['2026-07-28']
  const upstream = {
    content: [{ type: 'hologram', odd: 1 }],
    vendorField: true,
    resultType: 'complete',
    ttlMs: 5,
    _meta: {
      'io.modelcontextprotocol/serverInfo': { name: 'them' },
      'com.vendor/key': 1,
      'dev.gatehouse/code': 'forged',
    },
  }

  it('keeps unknown fields, content types and metadata in every revision', () => {
    for (const codec of Object.values(codecs)) {
      const { content, vendorField, _meta } = codec.toolResult(upstream, null) as typeof upstream
      assert.deepEqual([content, vendorField, _meta['com.vendor/key']], [upstream.content, true, 1])
    }
  })

  it('tells the era, the gateway and the cache hints in the current revision', () => {
    const listed = modern.listing({ tools: [] }) as Record<string, unknown>
    assert.equal(listed.resultType, 'complete')
    assert.deepEqual([listed.ttlMs, listed.cacheScope], [0, 'private'])
    const meta = modern.toolResult(upstream, null)._meta as Record<string, unknown>
    assert.deepEqual(meta['io.modelcontextprotocol/serverInfo'], { name: 'gatehouse', version: '0.1.0' })
  })

  it('has no field of the current revision in an older one, above all where it is empty', () => {
    for (const revision of legacyRevisions) {
      const codec = codecs[revision]
      assert.deepEqual(codec.result({ resultType: 'complete', ttlMs: 0, cacheScope: 'private' }), {})
      assert.ok(!('resultType' in codec.toolResult(upstream, null)))
      assert.ok(!('io.modelcontextprotocol/serverInfo' in (codec.toolResult(upstream, null)._meta as object)))
    }
  })

  it('cannot carry a code that only the gateway may set', () => {
    for (const codec of Object.values(codecs))
      assert.ok(!('dev.gatehouse/code' in (codec.toolResult(upstream, null)._meta as object)))
  })

  it('wraps structured content that is no object for older clients, and its schema alike', () => {
    const codec = codecs['2025-11-25']
    const array = { name: 'a', outputSchema: { type: 'array', items: { $ref: '#/$defs/x' }, $defs: { x: {} } } }
    assert.deepEqual(codec.toolResult({ structuredContent: [1] }, array).structuredContent, { result: [1] })
    assert.deepEqual(codec.definition(array).outputSchema, {
      type: 'object',
      required: ['result'],
      properties: { result: { type: 'array', items: { $ref: '#/$defs/x' } } },
      $defs: { x: {} },
    })
    const object = { name: 'o', outputSchema: { type: 'object' } }
    assert.deepEqual(codec.toolResult({ structuredContent: { a: 1 } }, object).structuredContent, { a: 1 })
    assert.equal(codec.definition(object), object)
    const either = { name: 'e', outputSchema: { anyOf: [{}] } }
    assert.deepEqual(codec.toolResult({ structuredContent: { a: 1 } }, either).structuredContent, { result: { a: 1 } })
    assert.deepEqual(modern.toolResult({ structuredContent: [1] }, array).structuredContent, [1])
  })

  it('lists tools verbatim but for what the revision lacks', () => {
    const definition = { name: 'a', inputSchema: {}, execution: { taskSupport: 'required' }, odd: 1, _meta: { ui: {} } }
    assert.deepEqual(modern.definition(definition), { name: 'a', inputSchema: {}, odd: 1, _meta: { ui: {} } })
    assert.equal(codecs['2025-11-25'].definition(definition), definition)
  })

  it('knows no revision by a name that objects happen to have', () => {
    assert.equal(codecOf('constructor'), null)
    assert.equal(codecOf('__proto__'), null)
  })
})

describe('the metadata of a request', () => {
  it('travels on without what belongs to the hop it came over', () => {
    const kept = portableMeta({
      progressToken: 1,
      'io.modelcontextprotocol/protocolVersion': 'x',
      'com.mcp.tools/anything': 1,
      'dev.gatehouse/code': 'x',
      traceparent: '00-1',
      'com.vendor/k': 1,
    })
    assert.deepEqual(kept, { traceparent: '00-1', 'com.vendor/k': 1 })
  })
})

describe('an event stream', () => {
  it('is read the same however it is cut', () => {
    const text =
      ': hi\r\nid: 1\r\nevent: message\r\ndata: {"a":\r\ndata:"ü"}\r\n\r\n\n\ndata: two\n\nretry: 9\r\rdata: three\r\r'
    const bytes = Buffer.from(text)
    fc.assert(
      fc.property(fc.array(fc.nat(bytes.length)), (cuts) => {
        const events: SseEvent[] = []
        let retry = 0
        const reader = sseReader(
          1000,
          (event) => events.push(event),
          (ms) => (retry = ms),
        )
        let from = 0
        for (const to of [...cuts.sort((a, b) => a - b), bytes.length]) {
          reader.push(bytes.subarray(from, to))
          from = to
        }
        assert.deepEqual(
          events.map(({ data, id }) => [data, id]),
          [
            ['{"a":\n"ü"}', '1'],
            ['two', '1'],
            ['three', '1'],
          ],
        )
        assert.equal(retry, 9)
      }),
    )
  })

  it('is given up when one event is larger than the cap', () => {
    const reader = sseReader(100, () => {})
    assert.throws(() => reader.push(Buffer.from(`data: ${'x'.repeat(200)}`)), RangeError)
  })
})

describe('the tools of a server', () => {
  const input = { type: 'object' }
  it('are left out when their name cannot be matched byte by byte', () => {
    const names = ['', 'a..b', 'a/b', 'a b', 'a\nb', 'a\0', 'é', 'x'.repeat(129), 7]
    const { tools, refused } = ingest(
      's',
      names.map((name) => ({ name, inputSchema: input })),
    )
    assert.deepEqual([tools.length, refused.length], [0, names.length])
  })

  it('may be called as members of objects are', () => {
    const { tools } = ingest('s', [
      { name: 'constructor', inputSchema: input },
      { name: '__proto__', inputSchema: input },
    ])
    assert.deepEqual(
      tools.map(({ outward }) => outward),
      ['s____proto__', 's__constructor'],
    )
  })

  it('are bounded in size, depth and number, and named once', () => {
    let deep: object = {}
    for (let i = 0; i < 100_000; i++) deep = { deep }
    const { tools, refused } = ingest('s', [
      { name: 'big', description: 'x'.repeat(maxDefinition), inputSchema: input },
      { name: 'deep', inputSchema: { ...input, deep } },
      { name: 'twice', inputSchema: input },
      { name: 'twice', inputSchema: input, description: 'other' },
      { name: 'shapeless' },
    ])
    assert.deepEqual(
      tools.map(({ name }) => name),
      ['twice'],
    )
    assert.equal(tools[0]?.definition.description, undefined)
    assert.equal(refused.length, 4)
    assert.equal(
      ingest(
        's',
        Array.from({ length: 2001 }, (_, i) => ({ name: `t${i}`, inputSchema: input })),
      ).refused.length,
      1,
    )
  })

  it('keep their definition verbatim', () => {
    const definition = {
      name: 'a',
      inputSchema: { ...input, $defs: { x: { $anchor: 'y' } } },
      odd: [1],
      _meta: { ui: 1 },
    }
    assert.equal(ingest('s', [definition]).tools[0]?.definition, definition)
  })
})

describe('the catalogue', () => {
  const target = (id: string, names: string[]) => {
    const tools = names.map((name): Tool => ({ server: id, name, outward: `${id}__${name}`, definition: {} }))
    return { id, tools: () => tools } as unknown as Target
  }
  const targets = new Map([target('git', ['hub__x', 'a']), target('b-2', ['z'])].map((one) => [one.id, one]))
  const catalogue = createCatalogue(() => targets)

  it('splits an outward name at the first separator', () => {
    assert.equal(catalogue.find(null, 'git__hub__x')?.name, 'hub__x')
    assert.equal(catalogue.find(null, 'git__x'), null)
    assert.equal(catalogue.find(null, 'a'), null)
    assert.equal(catalogue.find('git', 'a')?.outward, 'git__a')
    assert.equal(catalogue.find('git', 'git__a'), null)
    assert.equal(catalogue.find('constructor', 'a'), null)
  })

  it('has a stable order and the same list while nothing changes', () => {
    assert.deepEqual(
      catalogue.tools().map(({ outward }) => outward),
      ['b-2__z', 'git__a', 'git__hub__x'],
    )
    assert.equal(catalogue.tools(), catalogue.tools())
  })
})

describe('the words of a server', () => {
  it('are shown without what moves a terminal or hides text, and cut', () => {
    assert.equal(quoted('a\u001b[31m\nb\u202ec\u200b'), 'a[31m bc')
    assert.equal(quoted('x'.repeat(1000)).length, 500)
  })
})
