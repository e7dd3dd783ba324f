import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { matches } from '../../src/policy/glob.ts'

test('a pattern matches whole names, byte for byte', () => {
  const cases: readonly (readonly [string, string, boolean])[] = [
    ['a__b', 'a__b', true],
    ['a__b', 'a__bc', false],
    ['a__b', 'xa__b', false],
    ['a__B', 'a__b', false],
    ['*', 'anything', true],
    ['*', '', true],
    ['**', 'x', true],
    ['', '', false],
    ['', 'x', false],
    ['a__*', 'a__', true],
    ['a__*', 'b__x', false],
    ['*__delete_*', 'db__delete_row', true],
    ['*__delete_*', 'db__undelete_row', false],
    ['*delete*', 'delete', true],
    ['a*a', 'a', false],
    ['a*a', 'aa', true],
    ['a*bc*bc', 'abcbc', true],
    ['a*bc*bc', 'abc', false],
    ['a.b', 'axb', false],
    ['a?', 'ab', false],
    ['[ab]', 'a', false],
  ]
  for (const [pattern, name, expected] of cases) assert.equal(matches(pattern, name), expected, `${pattern} on ${name}`)
})

test('a pattern matches exactly what the regular expression of the same meaning does', () => {
  const text = fc.string({ unit: fc.constantFrom('a', 'b', '_'), maxLength: 12 })
  const pattern = fc.string({ unit: fc.constantFrom('a', 'b', '_', '*'), minLength: 1, maxLength: 8 })
  fc.assert(
    fc.property(pattern, text, (glob, name) => {
      const expected = new RegExp(`^${glob.replaceAll('*', '.*')}$`).test(name)
      assert.equal(matches(glob, name), expected)
    }),
    { numRuns: 2000 },
  )
})

test('a pattern full of stars does not make a long name expensive', () => {
  assert.equal(matches(`${'*a'.repeat(200)}*b`, 'a'.repeat(5000)), false)
})
