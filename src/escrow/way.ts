/** The parts of a way through the tree: which limits stop on it, how its lines are posted, whether it still holds. @module */
import { type Account, type Amounts, type Limit, units } from '../call.ts'
import type { Posting } from '../stores/store.ts'
import type { Alarm } from './alarm.ts'
import type { Counter } from './counter.ts'
import type { Stop } from './refill.ts'
import type { Period } from './window.ts'

/** Everything between an account and the root that a hold touches. */
export interface Way {
  readonly counters: readonly Counter[]
  readonly postings: readonly Posting[]
  readonly stops: readonly Stop[]
}

export interface Node {
  readonly account: Account
  readonly counters: Map<Period, Counter>
  /** How often a window of this account gave way to the next: what was made of its counters before is stale. */
  rolls: number
  /** What its limits count in; everything else is not counted, whatever stands in its counters. */
  limited: ReadonlySet<Period>
  /** Holds of the account itself that are not settled. */
  open: number
}

export interface Level {
  readonly node: Node
  readonly limits: readonly Limit[]
  readonly rolls: number
}

/** The way of an account, as it is until a window ends or a limit changes. */
export interface KnownWay extends Way {
  /** Limits with thresholds, warning ones too. */
  readonly alarms: readonly Alarm[]
  /** What it was made of, leaf first: other limits or another window are another way. */
  readonly levels: readonly Level[]
  readonly until: number
}

/** Something of it is held, on its way to the ledger or back, or has to be looked at. */
export function isBusy({ held, unposted, returning, unpostedLease, changed }: Counter): boolean {
  if (changed) return true
  return units.some(
    (unit) => held[unit] !== 0 || unposted[unit] !== 0 || returning[unit] !== 0 || unpostedLease[unit] !== 0,
  )
}

/** Of two limits on one unit of one counter the lower one says everything. */
export function tighten(stops: Stop[], stop: Stop): void {
  const at = stops.findIndex(({ counter, limit }) => counter === stop.counter && limit.unit === stop.limit.unit)
  if (at === -1) stops.push(stop)
  else if (stop.limit.max < (stops[at] as Stop).limit.max) stops[at] = stop
}

/** The same object as long as the same units are limited: a group of lines adds up by it. */
export function postingOf(counter: Counter, stops: readonly Stop[]): Posting {
  const limited = (unit: keyof Amounts) => (stops.some((s) => s.counter === counter && s.limit.unit === unit) ? 1 : 0)
  const leased = {
    usd: limited('usd'),
    tokens: limited('tokens'),
    requests: limited('requests'),
    tool_calls: limited('tool_calls'),
  } as const
  if (units.some((unit) => counter.posting.leased[unit] !== leased[unit]))
    counter.posting = { key: counter.key, leased }
  return counter.posting
}

export function isCurrent(way: KnownWay, account: Account): boolean {
  let depth = 0
  for (let level: Account | null = account; level !== null; level = level.parent) {
    const known = way.levels[depth++]
    if (known === undefined || known.limits !== level.limits || known.rolls !== known.node.rolls) return false
  }
  return true
}
