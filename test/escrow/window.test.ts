/** When budget windows begin and end. @module */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import fc from 'fast-check'
import { windows } from '../../src/call.ts'
import { windowEnd, windowStart } from '../../src/escrow/window.ts'

const times = fc.integer({ min: 0, max: Date.UTC(2200, 0, 1) })

it('every moment lies in exactly one window of each length', () => {
  fc.assert(
    fc.property(times, fc.constantFrom(...windows), (now, window) => {
      const start = windowStart(window, now)
      const end = windowEnd(window, start)
      assert.ok(start <= now && now < end)
      if (window === 'total') return
      assert.equal(windowStart(window, start), start)
      assert.equal(windowStart(window, end - 1), start)
      assert.equal(windowStart(window, end), end)
    }),
  )
})

it('weeks begin on Monday and months on the first, in UTC', () => {
  const now = Date.UTC(2026, 10, 22, 23, 59, 59)
  assert.equal(windowStart('week', now), Date.UTC(2026, 10, 16))
  assert.equal(windowStart('month', now), Date.UTC(2026, 10, 1))
  assert.equal(windowEnd('month', Date.UTC(2026, 11, 1)), Date.UTC(2027, 0, 1))
  assert.equal(windowStart('day', now), Date.UTC(2026, 10, 22))
  fc.assert(fc.property(times, (at) => assert.equal(new Date(windowStart('week', at)).getUTCDay(), 1)))
})
