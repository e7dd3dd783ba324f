/** The text of a key. @module */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { it } from 'node:test'
import fc from 'fast-check'
import { digestOf, isToken, newId, newToken, storedDigest } from '../../src/identity/token.ts'

it('a fresh key has the documented form, and any change to it is seen without a store', () => {
  for (let i = 0; i < 200; i++) {
    const { token, digest } = newToken(newId('k_', randomBytes), randomBytes)
    assert.match(token, /^sk-gate-k_[0-9a-hjkmnp-tv-z]{16}_[0-9a-hjkmnp-tv-z]{32}[0-9a-f]{6}$/)
    assert.ok(isToken(token))
    assert.equal(digest, digestOf(token))
    const at = i % token.length
    const changed = `${token.slice(0, at)}${token[at] === '0' ? '1' : '0'}${token.slice(at + 1)}`
    assert.ok(!isToken(changed), changed)
    for (const wrong of [
      token.slice(1),
      token.slice(0, -1),
      `${token} `,
      `${token}\n`,
      token.toUpperCase(),
      `x${token}`,
    ])
      assert.ok(!isToken(wrong), wrong)
  }
})

it('keys do not repeat and use their whole alphabet', () => {
  const seen = new Set<string>()
  const letters = new Set<string>()
  for (let i = 0; i < 500; i++) {
    const { token } = newToken('k_0000000000000000', randomBytes)
    seen.add(token)
    for (const letter of token.slice(27, 59)) letters.add(letter)
  }
  assert.equal(seen.size, 500)
  assert.equal(letters.size, 32)
})

it('no other text is taken for a key', () => {
  fc.assert(fc.property(fc.string(), (text) => assert.ok(!isToken(text) && !isToken(`sk-gate-${text}`))))
})

it('what is stored depends on the pepper and is no digest of the key itself', () => {
  const digest = digestOf('sk-gate-x')
  const one = storedDigest(digest, Buffer.alloc(32, 1))
  assert.match(one, /^[0-9a-f]{64}$/)
  assert.notEqual(one, digest)
  assert.notEqual(one, storedDigest(digest, Buffer.alloc(32, 2)))
  assert.equal(one, storedDigest(digest, Buffer.alloc(32, 1)))
})
