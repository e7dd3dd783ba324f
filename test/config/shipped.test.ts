import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { parse } from 'yaml'
import { describeFault } from '../../src/config/document.ts'
import { jsonSchemas } from '../../src/config/json-schemas.ts'
import { limitsSchema } from '../../src/config/limits.ts'
import { loadConfig, loadPolicyTests } from '../../src/config/load.ts'
import { resolveModel } from '../../src/config/resolve.ts'
import { routeSchema } from '../../src/config/route.ts'
import { runPolicyTests } from '../../src/policy/policy-tests.ts'
import { priceOf } from '../../src/price.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const result = await loadConfig(root, { secretExists: () => false, previousEpoch: 0 })

test('the configuration that ships loads without a fault', () => {
  assert.deepEqual('faults' in result ? result.faults.map(describeFault) : [], [])
})

test('the rate limits shown as comments load when they are no comments', () => {
  const text = readFileSync(`${root}/policies/limits.yaml`, 'utf8')
  const shown = text.slice(text.indexOf('# rates:')).replace(/^#( (?!With|limit)|$)/gm, '')
  const read = limitsSchema.safeParse(parse(shown))
  assert.equal(read.error, undefined)
  assert.equal(read.data?.rates?.limits.length, 7)
  assert.equal(read.data?.rates?.replicas, 2)
})

test('the defaults, webhooks and cheaper route shown as comments load when they are no comments', () => {
  const text = readFileSync(`${root}/policies/limits.yaml`, 'utf8')
  const part = (from: string) => text.slice(text.indexOf(from)).split('\n\n')[0]?.replace(/^# /gm, '') ?? ''
  const read = limitsSchema.safeParse(parse(`${part('# defaults:')}\n${part('# webhooks:')}`))
  assert.equal(read.error, undefined)
  assert.equal(read.data?.defaults.session?.length, 2)
  assert.deepEqual(read.data?.webhooks[0]?.events, ['budget_alert', 'overrun'])
  const routes = readFileSync(`${root}/policies/routes.yaml`, 'utf8')
  const route = routeSchema.safeParse(parse(routes.slice(routes.indexOf('# smart:')).replace(/^# /gm, '')).smart)
  assert.equal(route.data?.when_budget?.below, 0.2)
})

test('the policies that ship do what their tests expect', async () => {
  assert.ok('config' in result)
  const read = await loadPolicyTests(root)
  assert.ok('tests' in read)
  assert.ok(read.tests.length > 0)
  const wrong = runPolicyTests(result.config.policy, read.tests, new Map()).filter(({ passed }) => !passed)
  assert.deepEqual(wrong, [])
})

test('both routes that ship can answer without any key', () => {
  assert.ok('config' in result)
  const { routes, providers } = result.config
  for (const name of ['fast', 'smart']) {
    const route = routes.get(name)
    assert.deepEqual(
      route?.to.filter(({ provider }) => providers.get(provider)?.lit).map(({ model }) => model),
      ['demo'],
    )
  }
})

test('every target of a route that ships has a known price', () => {
  assert.ok('config' in result)
  for (const { to } of result.config.routes.values()) {
    for (const { provider, model } of to) {
      const found = resolveModel(result.config, `${provider}/${model}`)
      assert.ok(found !== null && 'targets' in found)
      assert.notEqual(priceOf(provider, model, found.row?.price ?? null), null, `${provider}/${model}`)
    }
  }
})

test('the JSON Schemas for editors are what `node scripts/schemas.ts` writes now', () => {
  const folder = new URL('../../registry/schema/', import.meta.url)
  const generated = jsonSchemas()
  assert.deepEqual(readdirSync(folder).sort(), [...generated.keys()].sort())
  for (const [name, text] of generated) assert.equal(readFileSync(new URL(name, folder), 'utf8'), text, name)
})
