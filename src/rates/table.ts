/** The counters of this process: all wants of a call are taken in one synchronous step, or none. @module */
import type { Want } from './match.ts'
import { type Counter, Gauge, type Room, SlidingWindow, type Slot } from './window.ts'

export interface Taken {
  readonly want: Want
  readonly counter: Counter
  readonly slot: Slot
}

export interface Refused {
  readonly want: Want
  readonly waitMs: number
}

export interface Table {
  take(wants: readonly Want[], now: number, share: number): readonly Taken[] | Refused
  /** Changes one that was taken; `-amount` gives it back. */
  change(taken: Taken, delta: number, now: number): void
  room(want: Want, now: number, share: number): Room
  /** Counters in memory. */
  size(): number
}

const leastBeforeSweep = 1024

/** @param most counters in memory; what comes on top shares one counter per limit, which errs on the strict side */
export function createTable(most = 100_000): Table {
  const counters = new Map<string, { readonly counter: Counter; want: Want }>()
  let newBeforeSweep = leastBeforeSweep

  function counterOf(want: Want, now: number): Counter {
    const known = counters.get(want.key)
    if (known !== undefined) {
      known.want = want
      return known.counter
    }
    // As rarely as new ones come: a full table must not be walked for every call.
    if (--newBeforeSweep <= 0) sweep(now)
    const { limit, count } = want
    const key = counters.size < most ? want.key : `${limit.name}|${count.unit}|and others`
    const there = counters.get(key)
    if (there !== undefined) return there.counter
    const counter = count.unit === 'concurrent' ? new Gauge() : new SlidingWindow()
    counters.set(key, { counter, want })
    return counter
  }

  /** Forgets what is empty. */
  function sweep(now: number): void {
    for (const [key, { counter, want }] of counters) if (counter.idle(want.count, now)) counters.delete(key)
    newBeforeSweep = Math.max(leastBeforeSweep, counters.size)
  }

  return {
    take(wants, now, share) {
      let refused: Refused | null = null
      const found: Counter[] = []
      for (const want of wants) {
        const counter = counterOf(want, now)
        const waitMs = counter.wait(want.count, want.amount, now, share)
        if (waitMs > (refused?.waitMs ?? 0)) refused = { want, waitMs }
        found.push(counter)
      }
      if (refused !== null) return refused
      return wants.map((want, index) => {
        const counter = found[index] as Counter
        return { want, counter, slot: counter.take(want.count, want.amount, now) }
      })
    },
    change({ want, counter, slot }, delta, now) {
      counter.correct(want.count, slot, delta, now)
    },
    room: (want, now, share) => counterOf(want, now).room(want.count, now, share),
    size: () => counters.size,
  }
}
