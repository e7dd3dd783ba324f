/** One counter of an account: what a window has used, and what this process has set aside of it. @module */
import { type Amounts, add, type Unit, units, zero } from '../call.ts'
import { type BalanceKey, type BalanceRow, type LeaseAnswer, type Posting, unleased } from '../stores/store.ts'
import { type Period, windowEnd } from './window.ts'

export interface Counter {
  readonly key: BalanceKey
  readonly endsAt: number
  /** Used by all processes, as the store last said. */
  readonly told: Amounts
  /** Leased to all processes, as the store last said. */
  readonly leasedByAll: Amounts
  /** Used by this process and not in `told`. */
  readonly fresh: Amounts
  /** Part of `fresh` whose ledger lines are not committed yet. */
  readonly unposted: Amounts
  /** Of `unposted`, what comes out of the lease. */
  readonly unpostedLease: Amounts
  /** Set aside for this process: held or free. */
  lease: Amounts
  /** The name this process had when it leased. */
  lessee: string
  readonly held: Amounts
  /** Given back, and the store has not confirmed it yet. */
  readonly returning: Amounts
  /** How much more than needed was last asked for, by unit. */
  slice: Amounts
  /** When that was, ms on the monotonic clock. */
  askedAt: number
  /** Used in all when its thresholds were last looked at. */
  readonly seen: Amounts
  /** Something was settled on it since. */
  changed: boolean
  /** How ledger lines add to it; replaced when other units of it are limited. */
  posting: Posting
}

export function newCounter(account: string, period: Period, startsAt: number, lessee: string): Counter {
  const key: BalanceKey = { account, period, startsAt }
  return {
    key,
    endsAt: windowEnd(period, startsAt),
    told: zero(),
    leasedByAll: zero(),
    fresh: zero(),
    unposted: zero(),
    unpostedLease: zero(),
    lease: zero(),
    lessee,
    held: zero(),
    returning: zero(),
    slice: zero(),
    askedAt: Number.NEGATIVE_INFINITY,
    seen: zero(),
    changed: false,
    posting: { key, leased: unleased },
  }
}

/** Under another name this process was taken for dead meanwhile: what it had leased is not its own any more. */
export function own(counter: Counter, name: string): void {
  if (counter.lessee === name) return
  Object.assign(counter, { lease: zero(), slice: zero(), lessee: name })
}

/** Takes in what the store has of a counter. `own` is this process's part. */
export function load(counter: Counter, rows: readonly BalanceRow[], own: string): void {
  for (const row of rows) {
    add(counter.told, row.used, 1)
    add(counter.leasedByAll, row.leased, 1)
    if (row.writer === own) add(counter.lease, row.leased, 1)
  }
}

/** Takes in an answer of the store; what was asked or posted meanwhile is still on its way and counted here. */
export function update(counter: Counter, answer: LeaseAnswer): void {
  for (const unit of units) {
    counter.told[unit] = answer.used[unit]
    counter.leasedByAll[unit] = answer.leasedByAll[unit]
    counter.fresh[unit] = counter.unposted[unit]
    counter.lease[unit] = Math.max(0, answer.leased[unit] - counter.unpostedLease[unit] - counter.returning[unit])
  }
}

/** Used in all, as far as this process knows. */
export function usedOf(counter: Counter, unit: Unit): number {
  return of(counter.told, unit) + of(counter.fresh, unit)
}

/** `amounts[unit]`, which in the hot path is several times as dear as asking for a name. */
export function of(amounts: Readonly<Amounts>, unit: Unit): number {
  switch (unit) {
    case 'usd':
      return amounts.usd
    case 'tokens':
      return amounts.tokens
    case 'requests':
      return amounts.requests
    case 'tool_calls':
      return amounts.tool_calls
  }
}

/** `amounts[unit] += more`, likewise. */
export function addTo(amounts: Amounts, unit: Unit, more: number): void {
  switch (unit) {
    case 'usd':
      amounts.usd += more
      return
    case 'tokens':
      amounts.tokens += more
      return
    case 'requests':
      amounts.requests += more
      return
    case 'tool_calls':
      amounts.tool_calls += more
      return
  }
}
