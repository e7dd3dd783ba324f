import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type Candidate, strategies } from '../../src/strategies/strategies.ts'

function target(model: string, weight?: number): Candidate {
  return { provider: 'p', model, timeoutMs: null, ...(weight === undefined ? {} : { weight }) }
}

test('fallback tries targets as they are written', () => {
  const targets = [target('a'), target('b')]
  assert.deepEqual(strategies.fallback(targets, { random: () => 0.9 }), targets)
})

test('weighted draws by share and keeps the others as fallbacks', () => {
  const targets = [target('a', 3), target('b', 1), target('c', 0)]
  const first = (draw: number) => strategies.weighted(targets, { random: () => draw }).map(({ model }) => model)
  assert.deepEqual(first(0), ['a', 'b', 'c'])
  assert.deepEqual(first(0.74), ['a', 'b', 'c'])
  assert.deepEqual(first(0.76), ['b', 'a', 'c'])
})

test('every strategy returns every target exactly once', () => {
  const weights = fc.array(fc.oneof(fc.constant(0), fc.double({ min: 0, max: 1e6, noNaN: true })), { maxLength: 8 })
  const draw = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })
  fc.assert(
    fc.property(weights, draw, (shares, random) => {
      const targets = shares.map((share, index) => target(String(index), share))
      for (const strategy of Object.values(strategies)) {
        const order = strategy(targets, { random: () => random })
        assert.deepEqual(
          [...order].sort((a, b) => Number(a.model) - Number(b.model)),
          targets,
        )
      }
    }),
  )
})
