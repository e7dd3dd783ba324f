/**
 * How near an account's path is to its limits: what answers warn of, what a route may go by, and which counters have to
 * be compared with their thresholds (which happens elsewhere, off the path of calls).
 * @module
 */
import type { Account, Limit } from '../call.ts'
import type { BalanceKey } from '../stores/store.ts'
import { type Counter, usedOf } from './counter.ts'

/** A limit on the path that has thresholds, and the amount at which the lowest of them is. */
export interface Alarm {
  readonly account: Account
  readonly limit: Limit
  readonly counter: Counter
  readonly from: number
}

/** The tightest limit of a path that is past a threshold. */
export interface Tightness {
  readonly account: string
  readonly limit: Limit
  /** As far as this process knows, in the unit's integer. */
  readonly used: number
  /** Ms since the epoch, or null when it never resets. */
  readonly resetsAt: number | null
}

/** A counter that has to be compared with the thresholds of its account. */
export interface Changed {
  readonly account: Account
  readonly key: BalanceKey
  readonly endsAt: number
  readonly counter: Counter
}

/** @returns null for a limit without thresholds, and for one of nothing: no part of it can be used */
export function alarmOf(account: Account, limit: Limit, counter: Counter): Alarm | null {
  if (limit.alertAt.length === 0 || limit.max === 0) return null
  return { account, limit, counter, from: thresholdAmount(limit.max, Math.min(...limit.alertAt)) }
}

/** The least amount that is at least `percent` of `max`. Exact: dollars are counted in integers. */
export function thresholdAmount(max: number, percent: number): number {
  return Number((BigInt(max) * BigInt(percent) + 99n) / 100n)
}

export function tightest(alarms: readonly Alarm[]): Tightness | null {
  let found: Alarm | null = null
  let most = 0
  for (const alarm of alarms) {
    const { counter, limit, from } = alarm
    const used = knownUse(counter, limit)
    if (used < from || used / limit.max <= most) continue
    found = alarm
    most = used / limit.max
  }
  if (found === null) return null
  const { account, limit, counter } = found
  const resetsAt = Number.isFinite(counter.endsAt) ? counter.endsAt : null
  return { account: account.id, limit, used: knownUse(counter, limit), resetsAt }
}

/** What is left of a limit and not held, as a share of it from 0 to 1. */
export function shareLeft(counter: Counter, limit: Limit): number {
  if (limit.max === 0) return 0
  return Math.max(0, limit.max - knownUse(counter, limit) - counter.held[limit.unit]) / limit.max
}

/** The store told of a warning limit only when it was last looked at: nothing is ever leased of it. */
function knownUse(counter: Counter, { unit }: Limit): number {
  return Math.max(usedOf(counter, unit), counter.seen[unit])
}

/** Counters with limits that have changed and were not looked at since, each once. */
export class ChangedCounters {
  #counters: Counter[] = []

  mark(counter: Counter): void {
    if (counter.changed) return
    counter.changed = true
    this.#counters.push(counter)
  }

  /** Hands over what has changed; what changes from now on comes with the next call. */
  take(): readonly Counter[] {
    const taken = this.#counters
    this.#counters = []
    for (const counter of taken) counter.changed = false
    return taken
  }
}
