import assert from 'node:assert/strict'
import { readdir, unlink } from 'node:fs/promises'
import { describe, it } from 'node:test'
import { matches, toolName } from '../../src/targets/openapi-operations.ts'
import { call, home, logged, open, operation, resultOf, service, spec, textOf } from './openapi-house.ts'

const base = 'https://api.example.com/v2'
type Definition = {
  inputSchema: { properties: Record<string, unknown>; required?: string[]; $defs?: Record<string, unknown> }
}

async function imported(paths: object, components: object = {}, row: object = {}, version?: string) {
  const target = await open(base, spec(paths, components, version), row)
  return {
    target,
    names: target.tools().map((tool) => tool.name),
    definition: (name: string) =>
      target.tools().find((tool) => tool.name === name)?.definition as unknown as Definition,
  }
}

/** Why the operation at this path was left out. */
async function reason(paths: object, components: object = {}, row: object = {}): Promise<string> {
  const from = logged.length
  const { names } = await imported(paths, components, row)
  assert.deepEqual(names, [])
  const line = logged.slice(from).find((one) => one.message === 'operation left out')
  return String(line?.fields.why)
}

const parameter = (name: string, place: string, more: object = {}) => ({
  name,
  in: place,
  schema: { type: 'string' },
  ...(place === 'path' && { required: true }),
  ...more,
})
const body = (schema: object, type = 'application/json') => ({ required: true, content: { [type]: { schema } } })

describe('a tool name', () => {
  it('is the operation id, made fit, or the method and the path', () => {
    assert.equal(toolName('listPets', 'get', '/pets'), 'listPets')
    assert.equal(toolName('pets.list all', 'get', '/pets'), 'pets_list_all')
    assert.equal(toolName(null, 'get', '/pets/{petId}/photos'), 'get_pets_petId_photos')
    assert.equal(toolName('.', 'get', '/'), 'get_root')
  })
  it('is never longer than 64, and long ones stay apart', () => {
    const long = ['a', 'b'].map((end) => toolName(`operation${'x'.repeat(80)}${end}`, 'get', '/'))
    for (const name of long) assert.match(name, /^[A-Za-z0-9_-]{64}$/)
    assert.notEqual(long[0], long[1])
  })
  it('that two operations would share goes to the first; names settles it', async () => {
    const paths = {
      '/a': { get: operation({ operationId: 'get.it' }) },
      '/b': { get: operation({ operationId: 'get_it' }) },
    }
    assert.deepEqual((await imported(paths)).names, ['get_it'])
    assert.match(String(logged.at(-1)?.fields.why), /taken by GET \/a/)
    assert.deepEqual((await imported(paths, {}, { names: { get_it: 'other' } })).names, ['get_it', 'other'])
    assert.deepEqual((await imported(paths, {}, { names: { 'GET /b': 'third' } })).names, ['get_it', 'third'])
  })
})

describe('include and exclude', () => {
  it('choose by operation id or by method and path', async () => {
    const paths = {
      '/orders': { get: operation({ operationId: 'listOrders' }), post: operation({ operationId: 'makeOrder' }) },
      '/orders/old': { get: operation() },
      '/pets': { get: operation({ operationId: 'listPets' }) },
    }
    assert.deepEqual((await imported(paths, {}, { include: ['list*'] })).names, ['listOrders', 'listPets'])
    assert.deepEqual((await imported(paths, {}, { include: ['GET /orders*'] })).names, ['listOrders', 'get_orders_old'])
    assert.deepEqual((await imported(paths, {}, { exclude: ['* /orders*'] })).names, ['listPets'])
    assert.deepEqual((await imported(paths, {}, { include: ['*'], exclude: ['makeOrder'] })).names.length, 3)
  })
  it('match with any number of stars', () => {
    assert.ok(matches('a*b*c', 'aXbYc'))
    assert.ok(matches('*', ''))
    assert.ok(!matches('a*b*c', 'acb'))
    assert.ok(!matches('ab*ba', 'aba'))
    assert.ok(!matches(`${'*a'.repeat(50)}b`, 'a'.repeat(10_000)))
  })
})

describe('the arguments of a tool', () => {
  it('are the parameters of path and operation, and the body', async () => {
    const { definition } = await imported({
      '/x/{id}': {
        parameters: [parameter('id', 'path'), parameter('q', 'query')],
        put: operation({
          operationId: 'x',
          parameters: [
            parameter('q', 'query', { schema: { type: 'integer' }, description: 'how many' }),
            parameter('id', 'query'),
          ],
          requestBody: body({ type: 'object', properties: { a: { type: 'string' } } }),
        }),
      },
    })
    const { properties, required } = definition('x').inputSchema
    assert.deepEqual(Object.keys(properties).sort(), ['body', 'id', 'id_query', 'q'])
    assert.deepEqual(properties.q, { type: 'integer', description: 'how many' })
    assert.deepEqual(properties.body, {
      type: 'object',
      properties: { a: { type: 'string' } },
      additionalProperties: false,
    })
    assert.deepEqual(required?.sort(), ['body', 'id'])
  })

  it('have names that models may use, whatever the wire name', async () => {
    const api = await service()
    const target = await open(
      api.url,
      spec({
        '/x': {
          get: operation({
            operationId: 'x',
            parameters: [parameter('filter[name]', 'query'), parameter('body', 'query')],
          }),
        },
      }),
    )
    await call(target, 'x', { filter_name_: 'a', body: 'b' })
    assert.equal(api.seen[0]?.url, '/x?filter%5Bname%5D=a&body=b')
  })

  it('follow references and their cycles, and 3.0 spellings', async () => {
    const components = {
      parameters: { Id: parameter('id', 'path') },
      requestBodies: { Tree: body({ $ref: '#/components/schemas/Tree' }) },
      schemas: {
        Tree: {
          type: 'object',
          required: ['id', 'name'],
          properties: {
            id: { type: 'string', readOnly: true },
            name: { type: 'string', nullable: true, example: { id: 5 }, 'x-mark': 1 },
            size: { type: 'integer', minimum: 0, exclusiveMinimum: true },
            children: { type: 'array', items: { $ref: '#/components/schemas/Tree' } },
          },
        },
      },
    }
    const { definition, target } = await imported(
      {
        '/t/{id}': {
          parameters: [{ $ref: '#/components/parameters/Id' }],
          post: operation({ operationId: 't', requestBody: { $ref: '#/components/requestBodies/Tree' } }),
        },
      },
      components,
      {},
      '3.0.3',
    )
    assert.deepEqual(definition('t').inputSchema.$defs, {
      Tree: {
        type: 'object',
        required: ['name'],
        properties: {
          name: { type: ['string', 'null'] },
          size: { type: 'integer', exclusiveMinimum: 0 },
          children: { type: 'array', items: { $ref: '#/$defs/Tree' } },
        },
        additionalProperties: false,
      },
    })
    const bad = await call(target, 't', { id: 'a', body: { name: 'r', children: [{ name: 'c', size: 0 }] } })
    assert.equal(resultOf(bad).isError, true)
    assert.match(textOf(bad), /"body.children.0.size"/)
  })

  it('of composed bodies tolerate the members of every part', async () => {
    const components = {
      schemas: {
        A: { type: 'object', properties: { a: { type: 'string' } } },
        B: { type: 'object', required: ['b'], properties: { b: { type: 'string' } } },
      },
    }
    const api = await service()
    const both = { allOf: [{ $ref: '#/components/schemas/A' }, { $ref: '#/components/schemas/B' }] }
    const target = await open(
      api.url,
      spec({ '/x': { post: operation({ operationId: 'x', requestBody: body(both) }) } }, components),
    )
    assert.notEqual(resultOf(await call(target, 'x', { body: { a: '1', b: '2' } })).isError, true)
    assert.equal(resultOf(await call(target, 'x', { body: { a: '1' } })).isError, true)
    assert.equal(api.seen[0]?.body, '{"a":"1","b":"2"}')
  })

  it('that only refer to themselves are refused at the call instead of running forever', async () => {
    const components = { schemas: { A: { allOf: [{ $ref: '#/components/schemas/A' }] } } }
    const { target } = await imported(
      { '/x': { post: operation({ operationId: 'x', requestBody: body({ $ref: '#/components/schemas/A' }) }) } },
      components,
    )
    const outcome = await call(target, 'x', { body: {} })
    assert.equal(resultOf(outcome).isError, true)
  })
})

describe('an operation is left out, with a reason,', () => {
  it('when an argument would set a reserved header', async () => {
    for (const name of [
      'Authorization',
      'host',
      'Content-Length',
      'Transfer-Encoding',
      'Cookie',
      'Connection',
      'X-Forwarded-For',
      'X-Forwarded-Host',
      'Proxy-Authorization',
      'Mcp-Session-Id',
      'Mcp-Param-X',
      'X-HTTP-Method-Override',
      'X-Real-IP',
      'Forwarded',
      'Upgrade',
      'TE',
    ]) {
      assert.match(
        await reason({ '/x': { get: operation({ parameters: [parameter(name, 'header')] }) } }),
        /reserved/,
        name,
      )
    }
    assert.match(
      await reason({ '/x': { get: operation({ parameters: [parameter('x_a', 'header')] }) } }),
      /plain header name/,
    )
    assert.match(
      await reason({ '/x': { get: operation({ parameters: [parameter('_method', 'query')] }) } }),
      /change the method/,
    )
  })

  it('but a header that the configured credential fills, Accept and Content-Type are only no arguments', async () => {
    const parameters = ['X-Api-Key', 'Accept', 'Content-Type', 'X-Trace'].map((name) => parameter(name, 'header'))
    const { definition } = await imported(
      { '/x': { get: operation({ operationId: 'x', parameters }) } },
      {},
      { auth: { kind: 'header', name: 'x-api-key', secret: 'env:PETS_KEY' } },
    )
    assert.deepEqual(Object.keys(definition('x').inputSchema.properties), ['X-Trace'])
  })

  it('when it refers to another document, which is never fetched', async () => {
    const other = await service()
    for (const ref of [
      `${other.url}/s.yaml`,
      './other.yaml#/A',
      'file:///etc/passwd',
      '#/components/schemas/Missing',
    ]) {
      const target = await open(base, spec({ '/x': { post: operation({ requestBody: body({ $ref: ref }) }) } }))
      assert.equal(target.tools().length, 0, ref)
    }
    assert.equal(other.seen.length, 0)
  })

  it('when its body is not JSON, or its path or parameters cannot be kept in place', async () => {
    assert.match(
      await reason({ '/x': { post: operation({ requestBody: body({}, 'multipart/form-data') }) } }),
      /multipart/,
    )
    assert.match(await reason({ '/x/../y': { get: operation() } }), /dot segment/)
    assert.match(await reason({ '/x//y': { get: operation() } }), /empty segment/)
    assert.match(await reason({ '/x?a=1': { get: operation() } }), /query in the path/)
    assert.match(await reason({ '/x%2e%2e': { get: operation() } }), /characters/)
    assert.match(
      await reason({ '/x/{id}': { get: operation({ parameters: [parameter('id', 'path', { style: 'matrix' })] }) } }),
      /style matrix/,
    )
  })
})

describe('a document', () => {
  const failure = async (document: object | string) => {
    const target = await open(base, document)
    assert.equal(target.state().status, 'error')
    assert.equal(target.tools().length, 0)
    return String(target.state().lastFailure)
  }

  it('that is no OpenAPI 3.0 or 3.1, or breaks its rules, is a state and not a crash', async () => {
    assert.match(await failure('just text'), /not an object/)
    assert.match(await failure('a: [1'), /./)
    assert.match(await failure('a: 1\na: 2'), /unique/)
    assert.match(
      await failure({ swagger: '2.0', info: { title: 't', version: '1' }, paths: {} }),
      /only OpenAPI 3.0 and 3.1/,
    )
    assert.match(await failure({ openapi: '3.1.0', paths: {} }), /info/)
  })

  it('with nested aliases or foreign tags does no harm', async () => {
    const bomb = [
      'a: &a [x,x,x,x,x,x,x,x,x,x]',
      ...'bcdefghi'.split('').map((name, i) => `${name}: &${name} [${Array(10).fill(`*${'abcdefgh'[i]}`)}]`),
    ]
    assert.match(await failure(bomb.join('\n')), /alias/i)
    assert.match(await failure('openapi: !!js/function "function(){ process.exit(1) }"'), /./)
  })

  it('at an address that is not allowed is not fetched, and a missing file is told', async () => {
    const target = await open(base, {}, { spec: 'https://127.0.0.1:9/spec.json' })
    assert.equal(target.state().status, 'error')
    assert.match(target.state().lastFailure ?? '', /not allowed/)
    const missing = await open(base, {}, { spec: './nowhere.yaml' })
    assert.match(missing.state().lastFailure ?? '', /nowhere\.yaml cannot be read \(ENOENT\)/)
  })

  it('whose servers point elsewhere still leads to base_url only', async () => {
    const other = await service()
    const api = await service()
    const servers = [
      { url: 'http://169.254.169.254/' },
      { url: other.url },
      { url: '{host}', variables: { host: { default: other.url } } },
    ]
    const target = await open(`${api.url}/v2`, {
      ...spec({ '/x': { servers, get: operation({ operationId: 'x', servers }) } }),
      servers,
    })
    await call(target, 'x', {})
    assert.equal(api.seen[0]?.url, '/v2/x')
    assert.equal(other.seen.length, 0)
  })

  it('that goes missing after it was read leaves the tools as they were', async () => {
    const { target } = await imported({ '/x': { get: operation({ operationId: 'x' }) } })
    const last = (await readdir(home)).sort((a, b) => Number(a.match(/\d+/)) - Number(b.match(/\d+/))).at(-1) as string
    await unlink(`${home}/${last}`)
    await target.refresh()
    assert.equal(target.tools().length, 1)
    assert.equal(target.state().status, 'unstable')
    assert.match(target.state().lastFailure ?? '', /ENOENT/)
  })

  it('of a thousand operations is read; one more asks to choose', async () => {
    const paths = (n: number) =>
      Object.fromEntries(Array.from({ length: n }, (_, i) => [`/p${i}`, { get: operation({ operationId: `o${i}` }) }]))
    assert.equal((await imported(paths(1000))).names.length, 1000)
    assert.match(await failure(spec(paths(1001))), /include/)
    assert.equal((await imported(paths(1001), {}, { include: ['o1*'] })).names.length, 112)
  })

  it('of a disabled server is not read', async () => {
    const { target } = await imported({ '/x': { get: operation() } }, {}, { disabled: true })
    assert.deepEqual(target.state(), { status: 'disabled', lastFailure: null, era: null, tools: 0 })
  })

  it('that moves an operation changes the definition, so that a pin notices', async () => {
    const binding = async (path: string, row: object = {}) => {
      const { target } = await imported({ [path]: { get: operation({ operationId: 'x', summary: 's' }) } }, {}, row)
      return JSON.stringify(target.tools()[0]?.definition)
    }
    assert.equal(await binding('/a'), await binding('/a'))
    assert.notEqual(await binding('/a'), await binding('/b'))
    assert.notEqual(await binding('/a'), await binding('/a', { auth: { kind: 'bearer', secret: 'env:PETS_KEY' } }))
  })
})
