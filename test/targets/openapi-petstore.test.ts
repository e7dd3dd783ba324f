import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { parse } from 'yaml'
import { type Petstore, startPetstore } from '../../examples/petstore/server.ts'
import type { Target } from '../../src/call.ts'
import { explain } from '../../src/fault.ts'
import { openapiTarget } from '../../src/targets/openapi.ts'
import { openapiRowSchema } from '../../src/targets/openapi-row.ts'
import { call, deps, resultOf, rowOf, textOf } from './openapi-house.ts'

const root = path.resolve(import.meta.dirname, '../..')

describe('the petstore example', () => {
  let store: Petstore
  let target: Target
  const open = async (url: string, auth: object = { kind: 'header', name: 'X-Api-Key', secret: 'env:PETS_KEY' }) => {
    const opened = openapiTarget('petstore', rowOf(url, { spec: './examples/petstore/openapi.yaml', auth }), {
      ...deps,
      home: root,
    })
    await opened.refresh()
    return opened
  }
  before(async () => {
    store = await startPetstore(0)
    target = await open(store.url)
  })
  after(() => store.close())

  it('shows its four operations as tools with schemas and hints', () => {
    assert.deepEqual(
      target.tools().map((tool) => tool.outward),
      ['petstore__listPets', 'petstore__createPet', 'petstore__getPet', 'petstore__deletePet'],
    )
    assert.deepEqual(target.state(), { status: 'healthy', lastFailure: null, era: null, tools: 4 })
    const shown = (name: string) => {
      const tool = target.tools().find((one) => one.name === name)
      assert.ok(tool !== undefined)
      return tool.definition as {
        inputSchema: { required: unknown }
        outputSchema?: { type: unknown }
        annotations: object
      }
    }
    assert.deepEqual(shown('getPet').inputSchema, {
      type: 'object',
      properties: { petId: { type: 'string', minLength: 1, maxLength: 64, description: 'The id of the pet.' } },
      required: ['petId'],
      additionalProperties: false,
    })
    const hints = (name: string) => shown(name).annotations as Record<string, unknown>
    assert.equal(hints('listPets').readOnlyHint, true)
    assert.equal(hints('createPet').readOnlyHint, false)
    assert.equal(hints('deletePet').destructiveHint, true)
    assert.equal(hints('deletePet').idempotentHint, true)
    assert.deepEqual(shown('createPet').inputSchema.required, ['body'])
    assert.equal(shown('getPet').outputSchema?.type, 'object')
    assert.equal(shown('deletePet').outputSchema, undefined)
  })

  it('has a row in the registry that holds, with the key the service asks for', async () => {
    const row = openapiRowSchema.parse(parse(await readFile(path.join(root, 'registry/servers/petstore.yaml'), 'utf8')))
    assert.deepEqual(row.allow_private, [`127.0.0.1/32:${new URL(row.base_url).port}`])
    assert.ok(row.auth.kind === 'header' && row.auth.secret.startsWith('file:'))
    const key = await readFile(path.join(root, row.auth.secret.slice('file:'.length)), 'utf8')
    assert.equal(key.trim(), 'petstore-demo-key')
  })

  it('lists, adds, shows and removes pets', async () => {
    const listed = resultOf(await call(target, 'listPets', { tag: 'dog' }))
    assert.deepEqual(listed.structuredContent, { pets: [{ id: '1', name: 'Rex', tag: 'dog' }] })
    assert.equal(listed.content[0]?.text, JSON.stringify(listed.structuredContent))
    const made = resultOf(await call(target, 'createPet', { body: { name: 'Ada' } }))
    assert.deepEqual(made.structuredContent, { id: '4', name: 'Ada' })
    assert.deepEqual(resultOf(await call(target, 'getPet', { petId: '4' })).structuredContent, { id: '4', name: 'Ada' })
    const gone = await call(target, 'deletePet', { petId: '4' })
    assert.match(textOf(gone), /204/)
    assert.notEqual(resultOf(gone).isError, true)
    const missing = await call(target, 'getPet', { petId: '4' })
    assert.equal(resultOf(missing).isError, true)
    assert.match(textOf(missing), /^HTTP 404 Not Found\n.*no such pet/)
    const sent = store.requests.at(-1)
    assert.equal(sent?.url, '/pets/4')
    assert.equal(sent?.headers['x-api-key'], 'petstore-demo-key')
    assert.equal(store.requests.find((one) => one.method === 'POST')?.headers['content-type'], 'application/json')
  })

  it('refuses arguments that do not fit, naming the argument and what was expected, and sends nothing', async () => {
    const before = store.requests.length
    for (const [name, args, pattern] of [
      ['listPets', { limit: '5' }, /"limit".*string.*integer/],
      ['listPets', { limit: 1000 }, /"limit".*1000.*100/],
      ['listPets', { color: 'red' }, /"color" is not known; this tool takes: limit, tag/],
      ['listPets', { 'x-api-key': 'mine' }, /not known/],
      ['getPet', {}, /required property "petId"/],
      ['createPet', { body: {} }, /"body".*required property "name"/],
      ['createPet', { body: { name: 'x', admin: true } }, /"body.admin" is not known there/],
      ['createPet', { name: 'x' }, /./],
      ['getPet', { petId: '..' }, /"petId".*path/],
    ] as const) {
      const outcome = await call(target, name, args)
      assert.equal(resultOf(outcome).isError, true)
      assert.match(textOf(outcome), pattern)
    }
    assert.equal(store.requests.length, before)
  })

  it('keeps its tools while the service is down and says to start it when one is called', async () => {
    const own = await startPetstore(0)
    await own.close()
    const down = await open(own.url)
    assert.equal(down.tools().length, 4)
    const outcome = await call(down, 'listPets', {})
    assert.ok('fault' in outcome)
    assert.equal(outcome.fault.code, 'upstream_error')
    assert.match(explain(outcome.fault.body), /^petstore failed: .*start it/)
    assert.equal(down.state().status, 'unstable')
  })

  it('tells of a missing credential in its state and never calls without it', async () => {
    const before = store.requests.length
    const bare = await open(store.url, { kind: 'bearer', secret: 'env:MISSING' })
    assert.equal(bare.state().status, 'needs_auth')
    assert.match(bare.state().lastFailure ?? '', /env:MISSING/)
    const outcome = await call(bare, 'listPets', {})
    assert.ok('fault' in outcome)
    assert.equal(store.requests.length, before)
  })

  it('answers a wrong key with the status of the service', async () => {
    const outcome = await call(await open(store.url, { kind: 'none' }), 'listPets', {})
    assert.match(textOf(outcome), /^HTTP 401/)
    assert.equal(resultOf(outcome).isError, true)
  })
})
