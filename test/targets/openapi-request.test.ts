import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { explain, Fault } from '../../src/fault.ts'
import { buildRequest, type Parameter, type RequestPlan } from '../../src/targets/openapi-request.ts'
import { call, open, operation, service, spec } from './openapi-house.ts'

const base = new URL('https://api.example.com/v1')
const wire = (name: string, place: Parameter['in'], more: Partial<Parameter> = {}): Parameter => ({
  property: name,
  name,
  in: place,
  style: place === 'query' || place === 'cookie' ? 'form' : 'simple',
  explode: place === 'query' || place === 'cookie',
  json: false,
  ...more,
})
const plan = (parameters: Parameter[], more: Partial<RequestPlan> = {}): RequestPlan => ({
  method: 'GET',
  segments: [['users'], [{ parameter: 'id' }], ['posts']],
  parameters: [wire('id', 'path'), ...parameters],
  bodyType: null,
  ...more,
})
const url = (parameters: Parameter[], args: object): string => {
  const request = buildRequest(base, plan(parameters), { id: '1', ...args })
  assert.ok(!(request instanceof Fault), request instanceof Fault ? explain(request.body) : '')
  return request.url.slice('https://api.example.com/v1/users/1/posts'.length)
}
const why = (parameters: Parameter[], args: object): string => {
  const request = buildRequest(base, plan(parameters), { id: '1', ...args })
  assert.ok(request instanceof Fault, JSON.stringify(request))
  return explain(request.body)
}

describe('a path argument', () => {
  it('fills exactly one segment, encoded', () => {
    for (const [value, encoded] of [
      ['a b', 'a%20b'],
      ['a?b#c', 'a%3Fb%23c'],
      ['ä', '%C3%A4'],
      ['a&b=c', 'a%26b%3Dc'],
      ['...', '...'],
      ['a..b', 'a..b'],
      ['%', '%25'],
      ['50%', '50%25'],
      [7, '7'],
      [true, 'true'],
      ['user@example.com', 'user%40example.com'],
      ['{id}', '%7Bid%7D'],
    ] as const) {
      const request = buildRequest(base, plan([]), { id: value })
      assert.ok(!(request instanceof Fault))
      assert.equal(request.url, `https://api.example.com/v1/users/${encoded}/posts`)
    }
  })

  it('that could be read as more, or as less, is refused in every spelling', () => {
    for (const value of [
      '..',
      '.',
      '',
      '%2e%2e',
      '%2E',
      '..%2f',
      '%2e%2e%2f',
      '..;',
      '.;x',
      '%252e%252e',
      '\\',
      '%5c',
      'a%5Cb',
      '//',
      '/',
      'a/b',
      '../admin',
      'a\\b',
      'a\0',
      'a\r\nb',
      'a\tb',
      'a\u0085',
      '．．',
      '／',
      '‥',
      '%00',
      'a;admin=1',
      '\ud800',
      '%c0%ae',
    ]) {
      assert.match(why([], { id: value }), /^argument "id": must/, JSON.stringify(value))
    }
    for (const value of [null, {}, [], [[]], ['..'], ['a', 'b,c'], Number.NaN]) {
      assert.match(why([], { id: value }), /^argument "id"/, JSON.stringify(value))
    }
  })

  it('shares its segment with fixed text and other arguments', () => {
    const segments = [
      [{ parameter: 'a' }, '.', { parameter: 'b' }],
      [{ parameter: 'a' }, { parameter: 'b' }],
    ]
    const whole = { method: 'GET', segments, parameters: [wire('a', 'path'), wire('b', 'path')], bodyType: null }
    const request = buildRequest(base, whole, { a: 'x', b: 'y' })
    assert.ok(!(request instanceof Fault))
    assert.equal(request.url, 'https://api.example.com/v1/x.y/xy')
    assert.ok(buildRequest(base, whole, { a: '.', b: '.' }) instanceof Fault)
  })

  it('that is a list is joined with commas', () => {
    const request = buildRequest(base, plan([]), { id: ['a', 'b'] })
    assert.ok(!(request instanceof Fault))
    assert.equal(request.url, 'https://api.example.com/v1/users/a,b/posts')
  })
})

describe('a query argument', () => {
  it('stays one name with one value', () => {
    assert.equal(url([wire('q', 'query')], { q: 'a&admin=true' }), '?q=a%26admin%3Dtrue')
    assert.equal(url([wire('q', 'query')], { q: 'a#b+c d' }), '?q=a%23b%2Bc%20d')
    assert.equal(url([wire('q', 'query')], { q: "it's (1)*!" }), '?q=it%27s%20%281%29%2A%21')
    assert.equal(url([wire('q', 'query')], { q: '' }), '?q=')
    assert.equal(url([wire('q', 'query')], {}), '')
    assert.equal(url([wire('a&b=', 'query')], { 'a&b=': 'x' }), '?a%26b%3D=x')
  })

  it('that is a list is written in its style', () => {
    assert.equal(url([wire('q', 'query')], { q: ['a', 'b&c'] }), '?q=a&q=b%26c')
    assert.equal(url([wire('q', 'query', { explode: false })], { q: ['a', 'b'] }), '?q=a,b')
    assert.equal(url([wire('q', 'query', { style: 'pipeDelimited', explode: false })], { q: ['a', 'b'] }), '?q=a%7Cb')
    assert.equal(url([wire('q', 'query', { style: 'spaceDelimited', explode: false })], { q: [1, 2] }), '?q=1%202')
    assert.equal(url([wire('q', 'query')], { q: [] }), '')
    assert.match(why([wire('q', 'query', { explode: false })], { q: ['a,b'] }), /","/)
    assert.match(why([wire('q', 'query')], { q: [['a']] }), /only texts/)
  })

  it('that is an object is written below its own name or refused', () => {
    assert.equal(
      url([wire('f', 'query', { style: 'deepObject' })], { f: { a: 1, b: 'x&y' } }),
      '?f%5Ba%5D=1&f%5Bb%5D=x%26y',
    )
    assert.equal(url([wire('f', 'query', { explode: false })], { f: { a: 1 } }), '?f=a,1')
    assert.equal(url([wire('f', 'query', { json: true })], { f: { a: [1] } }), '?f=%7B%22a%22%3A%5B1%5D%7D')
    assert.match(why([wire('f', 'query')], { f: { admin: 'true' } }), /must not be an object/)
    assert.match(why([wire('f', 'query', { style: 'deepObject' })], { f: { 'a]&x[': 1 } }), /plain keys/)
    assert.match(why([wire('f', 'query')], { f: null }), /null/)
    assert.match(why([wire('f', 'query')], { f: '\ud800' }), /Unicode/)
    assert.match(why([wire('f', 'query')], { f: 'x'.repeat(9000) }), /longer than/)
  })
})

describe('a header or cookie argument', () => {
  const headers = (parameters: Parameter[], args: object) => {
    const request = buildRequest(base, plan(parameters), { id: '1', ...args })
    assert.ok(!(request instanceof Fault), request instanceof Fault ? explain(request.body) : '')
    return request.headers.slice(2)
  }
  it('is sent as it is or not at all', () => {
    assert.deepEqual(headers([wire('X-A', 'header')], { 'X-A': 'v 1' }), ['x-a', 'v 1'])
    assert.deepEqual(headers([wire('X-A', 'header')], { 'X-A': [1, 2] }), ['x-a', '1,2'])
    assert.deepEqual(headers([wire('a', 'cookie'), wire('b', 'cookie')], { a: 1, b: 'x' }), ['cookie', 'a=1; b=x'])
    for (const value of [
      'a\r\nx-evil: 1',
      'a\nb',
      'a\0',
      '\u007f',
      'é',
      '日本',
      ' a',
      'a ',
      'a\t',
      ['a,b', 'c'],
      {},
      null,
    ]) {
      assert.match(why([wire('X-A', 'header')], { 'X-A': value }), /argument "X-A"/, JSON.stringify(value))
    }
    for (const value of ['a;b', 'a; admin=1', 'a,b', 'a b', '"a"', 'a\\b', 'a\r\n', 'é', {}, ['a']]) {
      assert.match(why([wire('c', 'cookie')], { c: value }), /argument "c"/, JSON.stringify(value))
    }
  })
})

describe('a JSON body', () => {
  it('is written anew with the content type of the operation', () => {
    const request = buildRequest(base, plan([], { method: 'POST', bodyType: 'application/json' }), {
      id: '1',
      body: { a: [1, '"'] },
    })
    assert.ok(!(request instanceof Fault))
    assert.equal(request.body, '{"a":[1,"\\""]}')
    assert.deepEqual(request.headers.slice(2), ['content-type', 'application/json'])
  })
})

// Values as an attacker or a confused model would send them, besides arbitrary ones.
const nasty = fc.constantFrom(
  '..',
  '.',
  '../',
  '..%2f',
  '%2e%2e',
  '%252e',
  '..;',
  '/',
  '\\',
  '//evil.example',
  'http://evil.example/',
  '@evil.example',
  '?x=1',
  '#x',
  '&admin=true',
  'a\r\nx-evil: 1',
  '\0',
  '．．',
  ':',
  '',
  ' ',
  '%',
  '%00',
  "';--",
  '\ud800',
  '[]',
  '{}',
  '..\\..',
  '.%00.',
  '%u002e',
  '+',
)
const text = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 12 }),
  fc.string({ unit: 'grapheme', maxLength: 12 }),
  nasty,
  fc.array(nasty, { minLength: 2, maxLength: 3 }).map((parts) => parts.join('')),
)

// Most arguments are tame, so that most requests are sent and the odd one out is alone.
const tame = fc.stringMatching(/^[A-Za-z0-9_-]{1,8}$/)

describe('whatever the arguments', () => {
  it('the service sees the operation it was called for, each argument where it belongs, and nothing else', async () => {
    const api = await service()
    const parameters = [
      { name: 'id', in: 'path', required: true, schema: {} },
      { name: 'part', in: 'path', required: true, schema: {} },
      { name: 'q', in: 'query', schema: {} },
      { name: 'list', in: 'query', explode: false, schema: {} },
      { name: 'deep', in: 'query', style: 'deepObject', schema: {} },
      { name: 'X-Note', in: 'header', schema: {} },
      { name: 'mark', in: 'cookie', schema: {} },
    ]
    const requestBody = { content: { 'application/json': { schema: {} } } }
    const paths = { '/users/{id}/v-{part}.json': { post: operation({ operationId: 'x', parameters, requestBody }) } }
    const target = await open(`${api.url}/base`, spec(paths), { auth: { kind: 'bearer', secret: 'env:PETS_KEY' } })
    assert.equal(target.tools().length, 1)
    const value = fc.oneof(
      { weight: 12, arbitrary: tame },
      { weight: 4, arbitrary: text },
      { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 2 }) },
    )
    const args = fc.record(
      {
        id: value,
        part: value,
        q: value,
        list: fc.array(value, { maxLength: 3 }),
        deep: fc.dictionary(fc.oneof({ weight: 9, arbitrary: tame }, { weight: 1, arbitrary: text }), text, {
          maxKeys: 3,
        }),
        'X-Note': value,
        mark: value,
        body: fc.jsonValue({ maxDepth: 3 }),
      },
      { requiredKeys: ['id', 'part'] },
    )
    let received = 0
    await fc.assert(
      fc.asyncProperty(args, async (given) => {
        const before = api.seen.length
        await call(target, 'x', given)
        assert.ok(api.seen.length <= before + 1)
        const seen = api.seen[before]
        if (seen === undefined) return
        received += 1
        const one = (item: unknown) => (Array.isArray(item) ? item : [item]).map(String).join(',')
        assert.equal(seen.method, 'POST')
        const [path, query = '', ...rest] = seen.url.split('?')
        assert.equal(rest.length, 0)
        const segments = (path as string).split('/')
        assert.equal(segments.length, 5)
        assert.deepEqual([segments[1], segments[2]], ['base', 'users'])
        // Read as a careless service might: decoded a second time, folded, cut at ";".
        for (const segment of segments.slice(1)) {
          const once = decodeURIComponent(segment)
          for (const reading of [once, once.normalize('NFKC'), once.split(';')[0] as string, twice(once)]) {
            assert.doesNotMatch(reading, /^\.{0,2}$|[/\\]/)
          }
        }
        const last = decodeURIComponent(segments[4] as string)
        assert.ok(last.startsWith('v-') && last.endsWith('.json'))
        if (typeof given.id === 'string') assert.equal(decodeURIComponent(segments[3] as string), given.id)
        if (typeof given.part === 'string') assert.equal(last.slice(2, -5), given.part)
        assert.equal(new URL(seen.url, api.url).pathname, path)
        const pairs = query === '' ? [] : query.split('&').map((pair) => pair.split('='))
        for (const pair of pairs) {
          assert.equal(pair.length, 2)
          assert.match(pair[0] as string, /^(q|list|deep%5B[A-Za-z0-9_.-]+%5D)$/)
        }
        if (typeof given.q === 'string') assert.deepEqual(new URLSearchParams(query).getAll('q'), [given.q])
        const names = seen.rawHeaders.filter((_, i) => i % 2 === 0).map((name) => name.toLowerCase())
        assert.equal(new Set(names).size, names.length)
        for (const name of names) {
          assert.match(
            name,
            /^(host|connection|accept|accept-encoding|user-agent|content-type|content-length|x-note|cookie|authorization)$/,
          )
        }
        assert.equal(seen.headers.authorization, 'Bearer petstore-demo-key')
        if (given['X-Note'] !== undefined) assert.equal(seen.headers['x-note'] ?? '', one(given['X-Note']))
        if (given.mark !== undefined) assert.equal(seen.headers.cookie, `mark=${String(given.mark)}`)
        if (given.body === undefined) assert.equal(seen.body, '')
        else assert.deepEqual(JSON.parse(seen.body), JSON.parse(JSON.stringify(given.body)))
      }),
      { numRuns: 1500 },
    )
    assert.ok(received > 150, `only ${received} requests were sent`)
  })
})

function twice(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
