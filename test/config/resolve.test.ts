import assert from 'node:assert/strict'
import { test } from 'node:test'
import { listModels, resolveModel } from '../../src/config/resolve.ts'
import { loaded, makeHome } from './home.ts'

const files = {
  'registry/providers.yaml': `
openai: { base_url: https://api.openai.com/v1, speaks: [openai-chat], credential: { scheme: bearer, secret: env:OPENAI_API_KEY } }
openrouter: { base_url: https://openrouter.ai/api/v1, speaks: [openai-chat], credential: { scheme: bearer, secret: env:OPENROUTER_API_KEY } }
house: { base_url: https://llm.example.com, speaks: [openai-chat], credential: none, prefix: models/ }
`,
  'registry/models.yaml': 'llama: { provider: house, upstream: meta/llama-3.3, price: { input: 0, output: 0 } }\n',
  'policies/routes.yaml': 'fast: { to: [ { provider: openai, model: gpt-5-mini } ] }\n',
}

test('a name is a route, then a model of ours, then provider/model, then a name the catalogue knows', async (t) => {
  const config = await loaded(makeHome(t, files))
  const meant = (name: string) => {
    const found = resolveModel(config, name)
    return found === null ? null : 'route' in found ? `route ${found.route.id}` : found.canonical
  }
  assert.equal(meant('fast'), 'route fast')
  assert.equal(meant('llama'), 'house/meta/llama-3.3')
  assert.equal(meant('openai/some-new-model'), 'openai/some-new-model')
  assert.equal(meant('openrouter/openai/gpt-4o'), 'openrouter/openai/gpt-4o')
  assert.equal(meant('house/x'), 'house/models/x')
  assert.equal(meant('house/models/x'), 'house/models/x')
  assert.equal(meant('gpt-4o'), 'openai/gpt-4o')
  for (const unknown of ['', '/', 'openai/', '/gpt-4o', 'nowhere/gpt-4o', 'no-such-model', 'toString']) {
    assert.equal(meant(unknown), null, unknown)
  }
})

test('what we say about a model goes with it, by whatever name it was asked for', async (t) => {
  const config = await loaded(makeHome(t, files))
  for (const name of ['llama', 'openrouter/x']) {
    const found = resolveModel(config, name)
    assert.ok(found !== null && 'targets' in found)
    assert.equal(found.row?.id, name === 'llama' ? 'llama' : undefined)
  }
})

test('a bare name is only known while a provider of it has its key', async (t) => {
  const home = makeHome(t, files)
  assert.equal(resolveModel(await loaded(home, []), 'gpt-4o'), null)
  assert.notEqual(resolveModel(await loaded(home, ['env:OPENAI_API_KEY']), 'gpt-4o'), null)
})

test('the list of models holds what can be called now, and every name in it resolves', async (t) => {
  const home = makeHome(t, files)
  const dark = listModels(await loaded(home, [])).map(({ id }) => id)
  assert.deepEqual(dark, ['llama'])
  const config = await loaded(home, ['env:OPENAI_API_KEY'])
  const lit = listModels(config)
  assert.deepEqual(lit.slice(0, 2), [
    { id: 'fast', owner: 'gatehouse', names: ['fast'] },
    { id: 'llama', owner: 'house', names: ['llama', 'house/meta/llama-3.3'] },
  ])
  assert.ok(lit.some(({ id }) => id === 'openai/gpt-4o'))
  for (const { id } of lit) assert.notEqual(resolveModel(config, id), null, id)
})
