/** Request ids and trace context: one each, of the form they promise, in order. @module */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { it } from 'node:test'
import { createIds } from '../../src/edge/ids.ts'

const many = 70_000

it('no two requests have the same id, and ids sort as requests came', () => {
  const ids = createIds(randomBytes)
  const made = Array.from({ length: many }, (_, i) => ids.request(1_700_000_000_000 + (i >> 4)))
  assert.equal(new Set(made).size, many)
  for (const id of made) assert.match(id, /^req_[0-9A-HJKMNP-TV-Z]{26}$/)
  const stamps = made.map((id) => id.slice(4, 14))
  assert.deepEqual(stamps, [...stamps].sort())
})

it('every span is another, also where the count runs over its last digits', () => {
  // Every count starts at its end.
  const ids = createIds((bytes) => Buffer.alloc(bytes, 0xff))
  const made = Array.from({ length: many }, () => ids.trace(undefined))
  assert.equal(new Set(made).size, many)
  for (const trace of made) assert.match(trace, /^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/)
  assert.equal(made[0], '00-ffffffffffffffff0000000100000000-0000000100000000-01')
})

it("a caller's trace goes on with a span of ours; what is no trace is replaced", () => {
  const ids = createIds(randomBytes)
  const trace = '4bf92f3577b34da6a3ce929d0e0e4736'
  assert.match(
    ids.trace(`00-${trace}-00f067aa0ba902b7-00`),
    new RegExp(`^00-${trace}-(?!00f067aa0ba902b7)[0-9a-f]{16}-00$`),
  )
  assert.match(ids.trace(`00-${trace.toUpperCase()}-00f067aa0ba902b7-00`), /^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/)
})
