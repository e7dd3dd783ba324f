/**
 * Holds that this process has no room for at once: they wait while it asks the store for more of each budget on the
 * path. One question is under way at a time and answers everybody who waits. Where the rest is set aside for other
 * processes they are asked to give back what they do not use; only when that brings nothing is a call refused.
 * @module
 */
import { type Account, type Amounts, type Limit, units, zero } from '../call.ts'
import { type Fault, fault } from '../fault.ts'
import type { Change, LeaseAsk, LeaseStore } from '../stores/store.ts'
import { type Counter, of, update, usedOf } from './counter.ts'

/** A limit that stops, with the counter it is held against. */
export interface Stop {
  readonly account: Account
  readonly limit: Limit
  readonly counter: Counter
}

export interface RefillDeps {
  readonly leases: LeaseStore
  readonly mono: () => number
  /** The id of this process. */
  readonly writer: () => string
  readonly announce: (changes: readonly Omit<Change, 'seq'>[]) => Promise<void>
  /** Processes that share the budgets, this one included. */
  readonly processes: () => number
  /** Reads an account again, because the store says that it has changed. */
  readonly reload: (account: string) => Promise<void>
  /** How long a call waits for other processes to give back, ms. */
  readonly recallMs?: number
}

/** A call that waits. `take` holds when there is room; `stops` is the path as it is now. */
export interface Waiting<T> {
  readonly amounts: Readonly<Amounts>
  readonly stops: () => readonly Stop[]
  readonly take: () => T | null
}

export interface Refill {
  wait<T>(waiting: Waiting<T>): Promise<T | Fault>
  /** Something was given back elsewhere: look again at once. */
  kick(): void
  /** Another process waits for a counter: for a moment nothing of it is asked for here. */
  giveWay(counter: Counter): void
}

interface Entry<T> {
  readonly waiting: Waiting<T>
  readonly since: number
  readonly resolve: (end: T | Fault) => void
}

const defaultRecallMs = 1500
/** How often a waiting call looks again when nobody tells it to. */
const lookAgainMs = 50
/** How long a call asks on, beyond its waiting time, for what others take before it every time. */
const outrunMs = 1000
/**
 * How long a process does not ask for what it was asked to give back. Two processes that wait for the same rest, each
 * with a part of it, would otherwise give it back and take it again for ever.
 */
const giveWayMs = 2 * lookAgainMs
/** How many calls of this size are asked for beside the one that waits. */
const firstSlice = 8

export function createRefill(deps: RefillDeps): Refill {
  const { leases, mono, recallMs = defaultRecallMs } = deps
  let queue: Entry<unknown>[] = []
  let running = false
  let pause: { readonly timer: NodeJS.Timeout; readonly end: () => void } | null = null
  const recalled = new Map<Counter, number>()
  const givesWay = new Map<Counter, number>()

  /** A call whose time is up asks a last time all the same. */
  function yields({ waiting, since }: Entry<unknown>): boolean {
    if (givesWay.size === 0) return false
    const now = mono()
    if (now - since >= recallMs) return false
    for (const [counter, until] of givesWay) if (until <= now) givesWay.delete(counter)
    return waiting.stops().some(({ counter }) => givesWay.has(counter))
  }

  async function run(): Promise<void> {
    running = true
    while (queue.length > 0) {
      try {
        await ask(queue.filter((entry) => !yields(entry)))
      } catch {
        for (const { resolve } of queue.splice(0)) resolve(fault({ code: 'store_unavailable' }))
        break
      }
      const left: Entry<unknown>[] = []
      let waits = false
      for (const entry of queue.splice(0)) {
        const end = endOf(entry)
        if (end === 'again' || end === 'wait') left.push(entry)
        else entry.resolve(end)
        waits ||= end === 'wait'
      }
      queue = [...left, ...queue]
      if (waits) await Promise.all([recall(left), rest()])
    }
    running = false
  }

  function endOf(entry: Entry<unknown>): unknown {
    const { waiting, since } = entry
    const end = waiting.take() ?? verdict(waiting, mono() - since - recallMs)
    return end === 'again' && yields(entry) ? 'wait' : end
  }

  async function ask(entries: readonly Entry<unknown>[]): Promise<void> {
    const wanted = new Map<Counter, { readonly stop: Stop; readonly want: Amounts; readonly max: Amounts }>()
    for (const { waiting } of entries) {
      for (const stop of waiting.stops()) {
        const { counter, limit } = stop
        let known = wanted.get(counter)
        if (known === undefined) {
          known = { stop, want: zero(), max: zero() }
          wanted.set(counter, known)
        }
        known.want[limit.unit] += waiting.amounts[limit.unit]
        known.max[limit.unit] = known.max[limit.unit] === 0 ? limit.max : Math.min(known.max[limit.unit], limit.max)
      }
    }
    const asks: LeaseAsk[] = []
    const counters: Counter[] = []
    for (const [counter, { stop, want, max }] of wanted) {
      asks.push({ key: counter.key, version: stop.account.version, want: withSlices(counter, want, max), max })
      counters.push(counter)
    }
    const answers = await leases.ask(asks)
    const stale = new Set<string>()
    for (const [index, answer] of answers.entries()) {
      const counter = counters[index] as Counter
      update(counter, answer)
      if (answer.stale) stale.add(counter.key.account)
    }
    for (const account of stale) await deps.reload(account)
  }

  /** What is missing now and a slice on top: larger while it is used up quickly, smaller as the budget nears its end. */
  function withSlices(counter: Counter, want: Readonly<Amounts>, max: Readonly<Amounts>): Amounts {
    const out = zero()
    const quickly = mono() - counter.askedAt < 1000
    counter.askedAt = mono()
    for (const unit of units) {
      if (want[unit] === 0) continue
      const missing = Math.max(0, want[unit] - (counter.lease[unit] - counter.held[unit]))
      const before = counter.slice[unit]
      const wish = quickly ? before * 2 : Math.floor(before / 2)
      const left = max[unit] - usedOf(counter, unit) - counter.leasedByAll[unit] - missing
      const fair = Math.max(0, Math.floor(left / (2 * Math.max(1, deps.processes()))))
      counter.slice[unit] = Math.min(Math.max(wish, firstSlice * want[unit]), fair)
      out[unit] = missing + counter.slice[unit]
    }
    return out
  }

  /** Asks the other processes for what they have set aside and do not use. */
  async function recall(entries: readonly Entry<unknown>[]): Promise<void> {
    const changes: Omit<Change, 'seq'>[] = []
    for (const { waiting } of entries) {
      for (const { counter, limit } of waiting.stops()) {
        if (
          hasRoom(counter, limit, waiting.amounts) ||
          givesWay.has(counter) ||
          (recalled.get(counter) ?? Number.NEGATIVE_INFINITY) > mono() - 500
        )
          continue
        recalled.set(counter, mono())
        counter.slice[limit.unit] = 0
        const { account, period, startsAt } = counter.key
        changes.push({ kind: 'recall', subject: `${account} ${period} ${startsAt} ${deps.writer()}` })
      }
    }
    if (recalled.size > 10_000) recalled.clear()
    await deps.announce(changes).catch(() => undefined)
  }

  function rest(): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        if (pause === null) return
        clearTimeout(pause.timer)
        pause = null
        resolve()
      }
      pause = { timer: setTimeout(end, lookAgainMs), end }
    })
  }

  return {
    wait<T>(waiting: Waiting<T>): Promise<T | Fault> {
      return new Promise((resolve) => {
        queue.push({ waiting, since: mono(), resolve: resolve as Entry<unknown>['resolve'] })
        if (!running) void run()
      })
    },
    kick: () => pause?.end(),
    giveWay(counter) {
      givesWay.set(counter, mono() + giveWayMs)
    },
  }
}

export function hasRoom(counter: Counter, { unit, max }: Limit, amounts: Readonly<Amounts>): boolean {
  const wanted = of(amounts, unit)
  if (wanted === 0) return true
  const held = of(counter.held, unit)
  // The second half matters where a limit was lowered: what was leased before may be more than is allowed now.
  return of(counter.lease, unit) - held >= wanted && usedOf(counter, unit) + held + wanted <= max
}

/**
 * What becomes of a call without room, after the store has been asked.
 *
 * @param late ms since other processes had their time to give back; negative while they have it
 * @returns why it is refused; `again` where the store has more than was asked for, because others took it meanwhile;
 * `wait` where other processes may give back
 */
function verdict({ amounts, stops }: Waiting<unknown>, late: number): Fault | 'again' | 'wait' {
  let end: 'again' | 'wait' = 'again'
  for (const { account, limit, counter } of stops()) {
    if (hasRoom(counter, limit, amounts)) continue
    const { unit, max } = limit
    const wanted = amounts[unit]
    const used = usedOf(counter, unit)
    const resetsAt = Number.isFinite(counter.endsAt) ? counter.endsAt : null
    if (used >= max) return fault({ code: 'budget_exhausted', unit, account: account.id, max, resetsAt })
    if (used + wanted > max) {
      return fault({
        code: 'budget_too_small',
        unit,
        account: account.id,
        remaining: max - used,
        needed: wanted,
        resetsAt,
      })
    }
    const { told, leasedByAll, lease, held, unpostedLease } = counter
    const there = max - told[unit] - leasedByAll[unit] >= wanted - (lease[unit] - held[unit])
    if (there && late < outrunMs) continue
    const elsewhere = leasedByAll[unit] - lease[unit] - unpostedLease[unit] > 0
    if (late >= 0 || !elsewhere)
      return fault({ code: 'budget_contended', unit, account: account.id, retryAfterMs: 1000 })
    end = 'wait'
  }
  return end
}
