/** One counter of a rate limit, against the history of what it let through. @module */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { RateCount } from '../../src/rates/limit.ts'
import { Gauge, SlidingWindow, slotsPerWindow } from '../../src/rates/window.ts'

function count(max: number, burst: number, windowMs: number): RateCount {
  return { unit: 'requests', max, burst, windowMs, said: '' }
}

interface Passed {
  readonly at: number
  amount: number
}

/** Most that ever fell into one window: only windows that end at something that passed can be the fullest. */
function fullest(history: readonly Passed[], windowMs: number): number {
  const sums = history.map(({ at: end }) =>
    history.filter(({ at }) => at <= end && at > end - windowMs).reduce((sum, { amount }) => sum + amount, 0),
  )
  return Math.max(0, ...sums)
}

const asked = fc.array(
  fc.record({
    after: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 40 }), fc.double({ min: 0, max: 900, noNaN: true })),
    amount: fc.integer({ min: 1, max: 6 }),
    correct: fc.option(fc.double({ min: 0, max: 1, noNaN: true }), { nil: null }),
  }),
  { maxLength: 120 },
)
const limits = fc.record({
  max: fc.integer({ min: 1, max: 25 }),
  burst: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 25 })),
  windowMs: fc.integer({ min: 1, max: 3000 }),
})

describe('a sliding window', () => {
  it('never lets more than limit and burst through, wherever the window begins, also after amounts were given back', () => {
    fc.assert(
      fc.property(limits, asked, ({ max, burst, windowMs }, steps) => {
        const rule = count(max, burst, windowMs)
        const window = new SlidingWindow()
        const history: Passed[] = []
        let now = 5
        for (const { after, amount, correct } of steps) {
          now += after
          if (amount > max + burst || window.wait(rule, amount, now, 1) > 0) continue
          const slot = window.take(rule, amount, now)
          const passed = { at: now, amount }
          history.push(passed)
          assert.ok(fullest(history, windowMs) <= max + burst)
          if (correct === null) continue
          const used = Math.floor(amount * correct)
          now += after
          window.correct(rule, slot, used - amount, now)
          passed.amount = used
        }
      }),
      { numRuns: 500 },
    )
  })

  it('lets a caller have no more than the limit over time, burst or not', () => {
    fc.assert(
      fc.property(limits, asked, ({ max, burst, windowMs }, steps) => {
        const rule = count(max, burst, windowMs)
        const window = new SlidingWindow()
        let now = 0
        let passed = 0
        for (const { after, amount } of steps) {
          now += after
          if (amount > max + burst || window.wait(rule, amount, now, 1) > 0) continue
          window.take(rule, amount, now)
          passed += amount
          assert.ok(passed <= max + burst + (now * max) / windowMs + 1e-3)
        }
      }),
    )
  })

  it('tells exactly how long to wait: then it passes, and a moment earlier it does not', () => {
    fc.assert(
      fc.property(limits, asked, ({ max, burst, windowMs }, steps) => {
        const rule = count(max, burst, windowMs)
        const window = new SlidingWindow()
        let now = 0
        for (const { after, amount } of steps) {
          now += after
          const wait = window.wait(rule, amount, now, 1)
          if (wait > 0) {
            if (wait > 0.01) assert.ok(window.wait(rule, amount, now + wait - 0.01, 1) > 0)
            now += wait + 1e-6
            assert.equal(window.wait(rule, amount, now, 1), 0)
          }
          window.take(rule, Math.min(amount, max + burst), now)
        }
      }),
    )
  })

  it('refuses nothing that an exact log of a window one slot longer would let through', () => {
    fc.assert(
      fc.property(limits, asked, ({ max, windowMs }, steps) => {
        const rule = count(max, 0, windowMs)
        const window = new SlidingWindow()
        const history: Passed[] = []
        const slack = windowMs / slotsPerWindow
        let now = 0
        for (const { after, amount } of steps) {
          now += after
          const inside = history.filter(({ at }) => at > now - windowMs - slack - 1e-6)
          const sum = inside.reduce((total, one) => total + one.amount, 0)
          const passes = window.wait(rule, amount, now, 1) === 0
          if (sum + amount <= max) assert.ok(passes)
          if (!passes) continue
          window.take(rule, Math.min(amount, max), now)
          history.push({ at: now, amount: Math.min(amount, max) })
        }
      }),
    )
  })

  it('gives a share of the limit, at least one, to a process that counts alone', () => {
    const rule = count(10, 0, 1000)
    const pass = (share: number) => {
      const window = new SlidingWindow()
      let passed = 0
      while (window.wait(rule, 1, 0, share) === 0) {
        window.take(rule, 1, 0)
        passed++
      }
      return passed
    }
    assert.deepEqual([1, 2, 3, 10, 50].map(pass), [10, 5, 3, 1, 1])
  })

  it('lets more than the limit alone through only when nothing else is there', () => {
    const rule = count(100, 0, 1000)
    const window = new SlidingWindow()
    window.take(rule, 1, 0)
    assert.equal(window.wait(rule, 500, 10, 1), 990)
    assert.equal(window.wait(rule, 500, 1000, 1), 0)
  })

  it('is forgotten only when it is as good as new', () => {
    const rule = count(10, 10, 1000)
    const window = new SlidingWindow()
    for (let i = 0; i < 20; i++) window.take(rule, 1, 0)
    assert.equal(window.idle(rule, 1500), false)
    assert.deepEqual(window.room(rule, 1000, 1), { remaining: 10, resetMs: 1000 })
    assert.equal(window.idle(rule, 2000), true)
  })
})

it('a gauge counts what is at work', () => {
  const rule = { ...count(2, 0, 0), unit: 'concurrent' as const }
  const gauge = new Gauge()
  const first = gauge.take(rule, 1, 0)
  gauge.take(rule, 1, 0)
  assert.equal(gauge.wait(rule, 1, 0, 1), 1000)
  gauge.correct(rule, first, -1)
  assert.equal(gauge.wait(rule, 1, 0, 1), 0)
})
