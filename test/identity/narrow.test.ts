/** Narrower always: what one list covers, and what an account may hand on. @module */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { Account } from '../../src/call.ts'
import { covers, depthOf, effective, expiry, isWithin, widening } from '../../src/identity/narrow.ts'
import { matches } from '../../src/policy/glob.ts'

// Few letters, so that stars and pieces meet often.
const pattern = fc.string({ unit: fc.constantFrom('a', 'b', '/', '*'), maxLength: 7 })
const name = fc.string({ unit: fc.constantFrom('a', 'b', '/'), maxLength: 9 })

describe('a pattern that covers another', () => {
  it('matches every name the other matches', () => {
    fc.assert(
      fc.property(pattern, pattern, name, (wide, narrow, some) => {
        if (covers(wide, narrow) && matches(narrow, some)) assert.ok(matches(wide, some), `${wide} ${narrow} ${some}`)
      }),
      { numRuns: 20_000 },
    )
  })

  it('is transitive, and every pattern covers itself', () => {
    fc.assert(
      fc.property(pattern, pattern, pattern, (a, b, c) => {
        assert.ok(covers(a, a), a)
        if (covers(a, b) && covers(b, c)) assert.ok(covers(a, c), `${a} ${b} ${c}`)
      }),
      { numRuns: 20_000 },
    )
  })

  it('covers a plain name exactly when it matches it', () => {
    fc.assert(
      fc.property(pattern, name, (wide, some) =>
        assert.equal(covers(wide, some) && wide !== '', matches(wide, some) && wide !== ''),
      ),
    )
    assert.ok(covers('*', 'anything') && covers('openai/*', 'openai/gpt-*') && covers('a*c', 'ab*bc'))
    for (const [wide, narrow] of [
      ['a', '*'],
      ['a*', '*a'],
      ['a*b', 'a*'],
      ['openai/*', 'openai*'],
      ['ab*ba', 'aba'],
      ['', 'a'],
    ] as const)
      assert.ok(!covers(wide, narrow), `${wide} ${narrow}`)
  })
})

function account(id: string, parent: Account | null, more: Partial<Account> = {}): Account {
  const plain = { limits: [], models: null, tools: null, roles: [], labels: {}, expiresAt: null, revokedAt: null }
  return { id, parent, kind: 'session', name: id, createdAt: 0, version: 1, ...plain, ...more }
}

describe('an account below others', () => {
  const root = account('root', null, { models: ['openai/*', 'house'], expiresAt: 500 })
  const middle = account('middle', root, { tools: [] })
  const leaf = account('leaf', middle, { models: ['openai/gpt-*'], expiresAt: 900 })

  it('is refused the first pattern that some list above does not cover', () => {
    assert.equal(widening(middle, ['openai/gpt-5', 'house'], 'models'), null)
    assert.deepEqual(widening(middle, ['house', 'groq/x'], 'models'), { pattern: 'groq/x', account: 'root' })
    assert.deepEqual(widening(leaf, ['house'], 'models'), { pattern: 'house', account: 'leaf' })
    assert.deepEqual(widening(leaf, ['files__read'], 'tools'), { pattern: 'files__read', account: 'middle' })
    assert.equal(widening(leaf, [], 'tools'), null)
    assert.equal(widening(account('free', null), ['*'], 'models'), null)
  })

  it('has the nearest list, the earliest end, and its place', () => {
    assert.deepEqual(effective(leaf, 'models'), ['openai/gpt-*'])
    assert.deepEqual(effective(leaf, 'tools'), [])
    assert.equal(effective(account('free', null), 'tools'), null)
    assert.equal(expiry(leaf), 500)
    assert.equal(expiry(account('free', null)), null)
    assert.ok(isWithin(leaf, root) && isWithin(leaf, leaf) && !isWithin(root, leaf))
    assert.equal(depthOf(leaf), 3)
  })
})
