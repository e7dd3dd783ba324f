/** The histogram of durations says what the Prometheus client itself would say. @module */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import fc from 'fast-check'
import { Histogram, Registry } from 'prom-client'
import type { CallKind } from '../../src/call.ts'
import { createDurations } from '../../src/record/durations.ts'

const kind = fc.constantFrom<CallKind>('chat', 'embedding', 'tool-call')
// Bounds themselves are where counting goes wrong.
const ms = fc.oneof(
  fc.constantFrom(0, 5, 20, 100, 500, 300_000, 300_000.001),
  fc.double({ min: 0, max: 1e6, noNaN: true }),
)

it('counts into the same buckets, line by line', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(kind, ms)), async (calls) => {
      const registry = new Registry()
      const known = new Histogram({
        name: 'gatehouse_call_seconds',
        help: 'Time from entry to the recorded end, upstream included',
        labelNames: ['kind'] as const,
        buckets: [0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300],
        registers: [registry],
      })
      const own = createDurations()
      for (const [kind, ms] of calls) {
        known.observe({ kind }, ms / 1000)
        own.observe(kind, ms)
      }
      assert.equal(own.render(), await registry.metrics())
    }),
  )
})
