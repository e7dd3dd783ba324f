/**
 * One hold: what it took on every level, how it grows, and how it is booked. It stays in the windows it was taken in,
 * whatever ends, changes or dies while its call runs.
 * @module
 */
import { type Account, type Amounts, add, type Hold, zero } from '../call.ts'
import type { Fault } from '../fault.ts'
import { type LedgerEntry, type Mark, type Posting, unleased, type WriterStore } from '../stores/store.ts'
import { addTo, type Counter, of } from './counter.ts'
import { hasRoom, type Stop, type Waiting } from './refill.ts'
import { postingOf, type Way } from './way.ts'

/** A hold, and what its ledger line needs of it. */
export interface EscrowHold extends Hold {
  /** When it was taken, by the store's clock: the moment that decides its windows. */
  readonly booked: number
  /** The beginning of its ledger line, once it is about to leave. */
  readonly head: string | null
  /**
   * The attempt is about to leave: what is held is kept, so that it counts even if this process dies.
   *
   * @param line the beginning of its ledger line
   * @throws (or rejects) when that cannot be kept, or when this process was or may be taken for dead since the hold was
   * taken, so that nothing is held any more; the attempt must not leave then
   */
  dispatch(line: { readonly id: string; readonly at: number; readonly head: string }): void | Promise<void>
  /** How the settled attempt is booked. */
  entry(): Pick<LedgerEntry, 'postings' | 'short' | 'lessee' | 'posted'>
}

/** What a hold needs of the escrow it was taken from. */
export interface HoldKeeper {
  /** The name this process leases under; null while it may be taken for dead. */
  lease(): string | null
  /** Counters of a hold may be of windows that have ended, which nobody else looks after. */
  lookAtName(counters: readonly Counter[]): void
  wayOf(account: Account): Way
  readonly writers: Pick<WriterStore, 'mark' | 'unmark'>
  more<T>(waiting: Waiting<T>): Promise<T | Fault>
  /** @returns whose leases it is taken from, and how many counters had begun by now */
  settled(account: Account): { readonly lessee: string; readonly begun: number }
  /** Its line is in the ledger, added to what is `counted`. @param before how many counters had begun when it was settled */
  posted(account: Account, booked: number, counted: (counter: Counter) => boolean, before: number): void
}

/** A class, because one of these is made for every attempt: see HttpReply. */
export class OpenHold implements EscrowHold {
  open = true
  readonly amounts: Amounts
  readonly booked: number
  readonly #escrow: HoldKeeper
  readonly #account: Account
  /** The name this process had when the hold was taken. */
  readonly #lessee: string
  #way: Way
  /** What the account's way was when the hold last looked. */
  #seen: Way
  #mark: (Omit<Mark, 'line'> & { readonly id: string; readonly at: number }) | null = null
  #settled = { lessee: '', begun: 0 }
  /** What was used, once settled, until its line is durable. */
  #actual: Readonly<Amounts> | null = null
  #short: LedgerEntry['short'] = null
  /** Counters that began to count after the hold was taken. */
  #late: readonly Counter[] = none

  constructor(
    escrow: HoldKeeper,
    account: Account,
    way: Way,
    amounts: Readonly<Amounts>,
    booked: number,
    lessee: string,
  ) {
    this.#escrow = escrow
    this.#account = account
    this.#lessee = lessee
    this.#way = way
    this.#seen = way
    this.amounts = { ...amounts }
    this.booked = booked
  }

  get head(): string | null {
    return this.#mark === null ? null : this.#mark.head
  }

  dispatch({
    id,
    at,
    head,
  }: {
    readonly id: string
    readonly at: number
    readonly head: string
  }): void | Promise<void> {
    if (this.#escrow.lease() !== this.#lessee)
      throw new Error('what was held is gone: this process was silent too long')
    this.#mark = { id, at, head }
    return this.#keep()
  }

  extend(more: Readonly<Amounts>): boolean | Promise<boolean> {
    if (!this.open) return false
    if (this.#grow(more)) return this.#kept()
    const stops = () => this.#lookAtLimits().stops
    const grow = () => (this.open ? this.#grow(more) || null : false)
    return this.#escrow.more({ amounts: more, stops, take: grow }).then((end) => end === true && this.#kept())
  }

  settle(actual: Readonly<Amounts>): boolean {
    if (!this.open) return false
    const way = this.#lookAtLimits()
    this.open = false
    this.#actual = actual
    this.#escrow.lookAtName(this.#way.counters)
    this.#settled = this.#escrow.settled(this.#account)
    for (const counter of this.#way.counters) {
      add(counter.held, this.amounts, -1)
      add(counter.fresh, actual, 1)
      add(counter.unposted, actual, 1)
    }
    for (const stop of way.stops) this.#takeFromLease(stop, actual)
    if (this.#seen !== way) this.#countLate(this.#seen, actual)
    return true
  }

  entry(): Pick<LedgerEntry, 'postings' | 'short' | 'lessee' | 'posted'> {
    const { postings } = this.#way
    // Whatever began to count since it was settled: a line that is written without it would be missing there.
    const way = this.#escrow.wayOf(this.#account)
    if (this.#actual !== null && way !== this.#way) this.#countLate(way, this.#actual)
    const late = this.#late.map(({ key }) => ({ key, leased: unleased }))
    const { lessee } = this.#settled
    const all = late.length === 0 ? postings : [...postings, ...late]
    return { postings: all, short: this.#short, lessee, posted: this.#posted }
  }

  readonly #posted = (): void => {
    const actual = this.#actual
    if (actual === null) return
    // A line may be written again after it is durable; it is taken off what is on its way once.
    this.#actual = null
    for (const counter of this.#way.counters) add(counter.unposted, actual, -1)
    for (const counter of this.#late) add(counter.unposted, actual, -1)
    for (const { counter, limit } of this.#way.stops) {
      addTo(counter.unpostedLease, limit.unit, this.#shortOf(counter, limit.unit) - of(actual, limit.unit))
    }
    if (this.#mark !== null) this.#escrow.writers.unmark([this.#mark.id])
    this.#escrow.posted(this.#account, this.booked, this.#counts, this.#settled.begun)
  }

  readonly #counts = ({ key }: Counter): boolean =>
    [...this.#way.counters, ...this.#late].some(
      (one) => one.key.account === key.account && one.key.period === key.period,
    )

  #grow(more: Readonly<Amounts>): boolean {
    const { stops, counters } = this.#lookAtLimits()
    this.#escrow.lookAtName(counters)
    for (const { counter, limit } of stops) if (!hasRoom(counter, limit, more)) return false
    for (const counter of counters) add(counter.held, more, 1)
    add(this.amounts, more, 1)
    return true
  }

  /** A hold stays in the windows it was taken in, under the limits as they are now. */
  #lookAtLimits(): Way {
    const now = this.open ? this.#escrow.wayOf(this.#account) : this.#seen
    if (now === this.#seen) return this.#way
    this.#seen = now
    const { counters } = this.#way
    const stops: Stop[] = []
    for (const stop of now.stops) {
      const { account, period } = stop.counter.key
      const counter = counters.find(({ key }) => key.account === account && key.period === period)
      if (counter !== undefined) stops.push({ ...stop, counter })
    }
    this.#way = { counters, stops, postings: counters.map((counter) => postingOf(counter, stops)) }
    return this.#way
  }

  /** A hold that has grown is kept as it is now. */
  #kept(): boolean | Promise<boolean> {
    if (this.#mark === null) return true
    const kept = this.#keep()
    return kept instanceof Promise ? kept.then(() => true) : true
  }

  #keep(): void | Promise<void> {
    const { id, at, head } = this.#mark as { id: string; at: number; head: string }
    const line = { id, account: this.#account.id, at, booked: this.booked, ...this.amounts }
    return this.#escrow.writers.mark([{ line, head }])
  }

  #takeFromLease({ counter, limit }: Stop, actual: Readonly<Amounts>): void {
    const { unit } = limit
    // What other holds have is not touched: used beyond its own, the hold takes what is free and then from nobody.
    const used = of(actual, unit)
    if (used === 0) return
    const taken = Math.min(used, Math.max(0, of(counter.lease, unit) - of(counter.held, unit)))
    addTo(counter.lease, unit, -taken)
    addTo(counter.unpostedLease, unit, taken)
    if (taken === used) return
    const amounts = { ...zero(), [unit]: actual[unit] - taken }
    const posting = this.#way.postings[this.#way.counters.indexOf(counter)] as Posting
    this.#short = [...(this.#short ?? []), { posting, amounts }]
  }

  #shortOf(counter: Counter, unit: keyof Amounts): number {
    if (this.#short === null) return 0
    return this.#short.reduce((sum, { posting, amounts }) => sum + (posting.key === counter.key ? amounts[unit] : 0), 0)
  }

  /** Limits that came while the call ran, or in another window of it: they count it as well, by when it was held. */
  #countLate(way: Way, actual: Readonly<Amounts>): void {
    const known = new Set([...this.#way.counters, ...this.#late].map(({ key }) => `${key.account} ${key.period}`))
    const more = way.counters.filter(
      ({ key, endsAt }) =>
        !known.has(`${key.account} ${key.period}`) && key.startsAt <= this.booked && this.booked < endsAt,
    )
    for (const counter of more) {
      add(counter.fresh, actual, 1)
      add(counter.unposted, actual, 1)
    }
    if (more.length > 0) this.#late = [...this.#late, ...more]
  }
}

const none: readonly Counter[] = Object.freeze([])
