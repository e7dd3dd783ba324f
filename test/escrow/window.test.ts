/** When budget windows begin and end. @module */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { windows } from '../../src/call.ts'
import { periodOf, windowEnd, windowStart } from '../../src/escrow/window.ts'

const times = fc.integer({ min: 0, max: Date.UTC(2200, 0, 1) })
/** Whole and odd offsets, changes of an hour and of half an hour, at midnight and not, and a day left out. */
const zones = [
  'UTC',
  'Europe/Berlin',
  'America/New_York',
  'Asia/Kolkata',
  'Australia/Lord_Howe',
  'America/Santiago',
  'Asia/Beirut',
  'Pacific/Apia',
] as const
const periods = fc
  .record({ window: fc.constantFrom(...windows), zone: fc.constantFrom(...zones) })
  .map((limit) => periodOf(limit))
const hour = 3_600_000

it('every moment lies in exactly one window of each length, in every zone', () => {
  fc.assert(
    fc.property(times, periods, (now, period) => {
      const start = windowStart(period, now)
      const end = windowEnd(period, start)
      assert.ok(start <= now && now < end, `${start} <= ${now} < ${end}`)
      if (period === 'total') return
      assert.equal(windowStart(period, start), start)
      assert.equal(windowStart(period, end - 1), start)
      assert.equal(windowStart(period, end), end)
    }),
    { numRuns: 3000 },
  )
})

it('windows follow each other without a gap around every change of the clocks', () => {
  for (const zone of zones) {
    for (const window of ['minute', 'hour', 'day', 'week', 'month'] as const) {
      const period = periodOf({ window, zone })
      const steps = window === 'minute' ? 200 : 2 * 366
      // From a day before the clocks go forward in Europe, and so through the changes of a year where windows are long.
      let at = windowStart(period, Date.UTC(2026, 2, 28))
      for (let step = 0; step < steps; step++) {
        const end = windowEnd(period, at)
        assert.ok(end > at, `${period} at ${at}`)
        assert.equal(windowStart(period, end - 1), at, period)
        assert.equal(windowStart(period, end), end, period)
        at = end
      }
    }
  }
})

it('weeks begin on Monday and months on the first, in UTC', () => {
  const now = Date.UTC(2026, 10, 22, 23, 59, 59)
  assert.equal(windowStart('week', now), Date.UTC(2026, 10, 16))
  assert.equal(windowStart('month', now), Date.UTC(2026, 10, 1))
  assert.equal(windowEnd('month', Date.UTC(2026, 11, 1)), Date.UTC(2027, 0, 1))
  assert.equal(windowStart('day', now), Date.UTC(2026, 10, 22))
  fc.assert(fc.property(times, (at) => assert.equal(new Date(windowStart('week', at)).getUTCDay(), 1)))
})

describe('a window in a named zone', () => {
  it('begins at midnight there', () => {
    const noon = Date.UTC(2026, 0, 15, 12)
    assert.equal(windowStart('day@Europe/Berlin', noon), Date.UTC(2026, 0, 14, 23))
    assert.equal(windowStart('day@America/New_York', noon), Date.UTC(2026, 0, 15, 5))
    assert.equal(windowStart('day@Asia/Kolkata', noon), Date.UTC(2026, 0, 14, 18, 30))
    assert.equal(windowStart('month@Europe/Berlin', noon), Date.UTC(2025, 11, 31, 23))
    // 2026-01-15 is a Thursday.
    assert.equal(windowStart('week@Europe/Berlin', noon), Date.UTC(2026, 0, 11, 23))
    assert.equal(windowStart('week@America/New_York', noon), Date.UTC(2026, 0, 12, 5))
  })

  it('has 23 hours on the day the clocks go forward and 25 on the day they go back', () => {
    const spring = windowStart('day@Europe/Berlin', Date.UTC(2026, 2, 29, 12))
    const autumn = windowStart('day@Europe/Berlin', Date.UTC(2026, 9, 25, 12))
    assert.equal(windowEnd('day@Europe/Berlin', spring) - spring, 23 * hour)
    assert.equal(windowEnd('day@Europe/Berlin', autumn) - autumn, 25 * hour)
    const week = windowStart('week@America/New_York', Date.UTC(2026, 2, 8, 12))
    assert.equal(windowEnd('week@America/New_York', week) - week, (7 * 24 - 1) * hour)
    const half = windowStart('day@Australia/Lord_Howe', Date.UTC(2026, 3, 4, 20))
    assert.equal(windowEnd('day@Australia/Lord_Howe', half) - half, 24.5 * hour)
  })

  it('begins at one where there is no midnight', () => {
    // Beirut and Santiago go from 00:00 to 01:00.
    const start = windowStart('day@America/Santiago', Date.UTC(2026, 8, 6, 12))
    assert.equal(start, Date.UTC(2026, 8, 6, 4))
    assert.equal(windowEnd('day@America/Santiago', start) - start, 23 * hour)
  })

  it('keeps the repeated hour of autumn apart', () => {
    const first = windowStart('hour@Europe/Berlin', Date.UTC(2026, 9, 25, 0, 30))
    const second = windowStart('hour@Europe/Berlin', Date.UTC(2026, 9, 25, 1, 30))
    assert.equal(second - first, hour)
    assert.equal(windowEnd('hour@Europe/Berlin', first), second)
  })

  it('is refused where nobody knows the zone', () => {
    assert.throws(() => windowStart('day@Mars/Olympus', 0), RangeError)
  })
})
