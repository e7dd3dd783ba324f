/**
 * The arithmetic of one counter: a sliding window, or calls at work. Pure: time comes in as monotonic milliseconds.
 * `stores/redis-scripts.ts` says the same in Lua for windows that processes share.
 * @module
 */
import type { RateCount } from './limit.ts'

/** What was taken, to be corrected later. Taken close together, amounts share a slot. */
export interface Slot {
  readonly first: number
  /** Everything in the slot counts until one window after this. */
  last: number
  amount: number
  gone: boolean
}

/** What is left. */
export interface Room {
  readonly remaining: number
  /** Ms until everything is free again when nothing more is taken. */
  readonly resetMs: number
}

/** A window remembers at most about this many slots; within one, amounts are kept a little longer than they must be. */
export const slotsPerWindow = 64
/** When a place at work will be free nobody knows; asking once a second is polite. */
export const concurrentRetryMs = 1000
/** Keeps a wait that was computed exactly from failing by rounding. */
const epsilon = 1e-6

/** What a counter may come to; `share` divides it among processes that cannot see each other. */
export function capOf(count: RateCount, share: number): number {
  const cap = count.max + count.burst
  return share === 1 ? cap : Math.max(1, Math.floor(cap / share))
}

export interface Counter {
  /** Ms until the amount fits, 0 when it does now. More than fits at all is waited for until nothing else is there. */
  wait(count: RateCount, amount: number, now: number, share: number): number
  take(count: RateCount, amount: number, now: number): Slot
  /** Changes what was taken by `delta`. */
  correct(count: RateCount, slot: Slot, delta: number, now: number): void
  room(count: RateCount, now: number, share: number): Room
  /** It can be forgotten. */
  idle(count: RateCount, now: number): boolean
}

/**
 * Never more than `max + burst` in any window, wherever it begins. With a burst there is a second rule, so that it is no
 * higher limit under another name: a debt that rises with what is taken and falls by `max` per window stays below
 * `max + burst`; over time a caller gets `max`, and the burst comes back while it is quiet.
 */
export class SlidingWindow implements Counter {
  readonly #slots: Slot[] = []
  #total = 0
  #debt = 0
  #debtAt = 0

  wait(count: RateCount, asked: number, now: number, share: number): number {
    this.#expire(count, now)
    const cap = capOf(count, share)
    const amount = Math.min(asked, cap)
    let wait = 0
    let over = this.#total + amount - cap
    for (const slot of this.#slots) {
      if (over <= 0) break
      over -= slot.amount
      wait = slot.last + count.windowMs - now
    }
    if (count.burst === 0) return wait
    const deep = this.#debtNow(count, now) + amount - cap
    return deep <= epsilon ? wait : Math.max(wait, (deep * count.windowMs) / count.max)
  }

  take(count: RateCount, amount: number, now: number): Slot {
    this.#debt = this.#debtNow(count, now) + amount
    this.#debtAt = now
    this.#total += amount
    const newest = this.#slots.at(-1)
    if (newest !== undefined && now - newest.first < count.windowMs / slotsPerWindow) {
      newest.last = now
      newest.amount += amount
      return newest
    }
    const slot = { first: now, last: now, amount, gone: false }
    this.#slots.push(slot)
    return slot
  }

  correct(count: RateCount, slot: Slot, delta: number, now: number): void {
    this.#debt = Math.max(0, this.#debtNow(count, now) + delta)
    this.#debtAt = now
    if (slot.gone) return
    slot.amount += delta
    this.#total += delta
  }

  room(count: RateCount, now: number, share: number): Room {
    this.#expire(count, now)
    const debt = count.burst === 0 ? 0 : this.#debtNow(count, now)
    const last = this.#total === 0 ? undefined : this.#slots.at(-1)?.last
    const emptyIn = last === undefined ? 0 : last + count.windowMs - now
    return {
      remaining: Math.max(0, Math.floor(capOf(count, share) - Math.max(this.#total, debt) + epsilon)),
      resetMs: Math.ceil(Math.max(emptyIn, (debt * count.windowMs) / count.max)),
    }
  }

  idle(count: RateCount, now: number): boolean {
    this.#expire(count, now)
    return this.#slots.length === 0 && this.#debtNow(count, now) === 0
  }

  #expire({ windowMs }: RateCount, now: number): void {
    for (let oldest = this.#slots[0]; oldest !== undefined && oldest.last + windowMs <= now; oldest = this.#slots[0]) {
      this.#slots.shift()
      oldest.gone = true
      this.#total -= oldest.amount
    }
  }

  #debtNow({ max, windowMs }: RateCount, now: number): number {
    return Math.max(0, this.#debt - ((now - this.#debtAt) * max) / windowMs)
  }
}

/** Calls at work. */
export class Gauge implements Counter {
  #held = 0

  wait(count: RateCount, amount: number, _now: number, share: number): number {
    return this.#held + amount <= capOf(count, share) ? 0 : concurrentRetryMs
  }

  take(_count: RateCount, amount: number, now: number): Slot {
    this.#held += amount
    return { first: now, last: now, amount, gone: false }
  }

  correct(_count: RateCount, _slot: Slot, delta: number): void {
    this.#held += delta
  }

  room(count: RateCount, _now: number, share: number): Room {
    return { remaining: Math.max(0, capOf(count, share) - this.#held), resetMs: 0 }
  }

  idle(): boolean {
    return this.#held === 0
  }
}
