import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Account } from '../../src/call.ts'
import { modelAllowed } from '../../src/policy/models.ts'

function account(id: string, models: string[] | null, parent: Account | null = null): Account {
  return {
    id,
    parent,
    kind: 'key',
    name: id,
    limits: [],
    models,
    tools: null,
    roles: [],
    labels: {},
    expiresAt: null,
    revokedAt: null,
    createdAt: 0,
    version: 1,
  }
}

test('a key without any models list may use every model', () => {
  assert.deepEqual(modelAllowed(account('k', null, account('org', null)), ['openai/gpt-5']), {
    allowed: true,
    rule: 'models-open',
  })
})

test('an empty models list is nothing', () => {
  assert.deepEqual(modelAllowed(account('k', []), ['fast']), { allowed: false, rule: 'models-list:k' })
})

test('a list may name what the caller writes or what it means', () => {
  const names = ['gpt-5', 'openai/gpt-5']
  assert.equal(modelAllowed(account('k', ['gpt-5']), names).allowed, true)
  assert.equal(modelAllowed(account('k', ['openai/*']), names).allowed, true)
  assert.equal(modelAllowed(account('k', ['anthropic/*', '']), names).allowed, false)
})

test('every list up to the root has to agree, and the one that refuses is named', () => {
  const org = account('org', ['openai/*'])
  const key = account('key', null, org)
  const session = account('ses', ['openai/gpt-5', 'anthropic/*'], key)
  assert.deepEqual(modelAllowed(session, ['openai/gpt-5']), { allowed: true, rule: 'models-list:ses' })
  assert.deepEqual(modelAllowed(session, ['anthropic/claude']), { allowed: false, rule: 'models-list:org' })
  assert.deepEqual(modelAllowed(session, ['openai/gpt-4o']), { allowed: false, rule: 'models-list:ses' })
  assert.deepEqual(modelAllowed(key, ['openai/gpt-4o']), { allowed: true, rule: 'models-list:org' })
})
