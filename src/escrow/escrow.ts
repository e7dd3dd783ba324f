/**
 * The arithmetic of budgets: what is free, held and used on every level of an account's path. A hold is taken on all
 * levels or on none, in one synchronous step, against what this process has leased of each budget; where that is not
 * enough the store is asked (refill.ts). Leases, and everything used, are SQL; what happens in between is memory.
 * @module
 */
import { type Account, type Amounts, add, units, zero } from '../call.ts'
import { type Fault, fault } from '../fault.ts'
import {
  type BalanceRow,
  type BalanceStore,
  type LeaseAnswer,
  type LeaseStore,
  type Posting,
  unleased,
  type WriterStore,
} from '../stores/store.ts'
import { type Alarm, alarmOf, type Changed, ChangedCounters } from './alarm.ts'
import { type Counter, load, newCounter, own, update } from './counter.ts'
import { type EscrowHold, type HoldKeeper, OpenHold } from './hold.ts'
import { type Looks, looksAt } from './look.ts'
import { createRefill, hasRoom, type Stop } from './refill.ts'
import { isBusy, isCurrent, type KnownWay, type Level, type Node, postingOf, tighten } from './way.ts'
import { type Period, periodOf, windowStart } from './window.ts'

export type { EscrowHold } from './hold.ts'

export interface EscrowDeps {
  /** Wall clock, ms since the epoch. */
  readonly now: () => number
  /** Monotonic clock, ms. */
  readonly mono: () => number
  readonly leases: LeaseStore
  readonly balances: BalanceStore
  readonly writers: Pick<WriterStore, 'id' | 'mark' | 'unmark' | 'announce'>
  /** Reads an account again, because the store says that it has changed. */
  readonly reload: (account: string) => Promise<void>
  /** Whether this process may still spend what it leased; see Presence. */
  readonly current: () => boolean
  readonly recallMs?: number
}

export interface Escrow extends Looks {
  /** Makes an account known with its durable balances. Its ancestors must be known. */
  attach(account: Account, balances: readonly BalanceRow[]): void
  /** @returns the hold or why there is none; a promise only where the store has to be asked */
  hold(account: Account, amounts: Readonly<Amounts>): EscrowHold | Fault | Promise<EscrowHold | Fault>
  /** Open holds in this process. */
  open(): number
  /** How often the store was asked for leases. */
  refills(): number
  /** The limits of an account have changed: what is set aside of them and not held goes back. */
  changed(account: Account): Promise<void>
  /** Another process asks for what is not held of a counter. */
  recall(subject: string): Promise<void>
  /** Something was given back elsewhere. */
  kick(): void
  /** This process was taken for dead: what it had leased is gone. */
  fenced(): void
  /** What the store's clock says, and how many processes share the budgets. */
  beat(now: number, processes: number): void
  /** How a line of a dead process is booked: on every counter of the path that was running then. */
  postingsAt(account: Account, booked: number): readonly Posting[]
  /** The counters with limits that have changed since they were last asked for. */
  takeChanged(): readonly Changed[]
  /** What the store says is used of a counter in all. `again`: it has to be looked at once more. */
  looked(changed: Changed, used: Readonly<Amounts> | null, again: boolean): void
  /**
   * Forgets accounts that have ended, after giving back what is set aside for them.
   * @returns those forgotten: nothing of them is held or on its way to the ledger
   */
  detach(accounts: readonly Account[]): Promise<readonly Account[]>
}

export function createEscrow(deps: EscrowDeps): Escrow {
  const nodes = new Map<string, Node>()
  /** Accounts that have ended and were forgotten: whoever still has one may look at it, and holds nothing. */
  const ended = new WeakMap<Account, Node>()
  const ways = new WeakMap<Account, KnownWay>()
  const changed = new ChangedCounters()
  const { writers } = deps
  let openHolds = 0
  let refills = 0
  let skew = 0
  let latest = 0
  let processes = 1
  let lessee = writers.id
  /** Counters that began after lines they have to count: the store counts them before it gives anything of them. */
  const uncounted = new Set<Counter>()
  let begun = 0
  const leases: LeaseStore = {
    async ask(asks) {
      refills++
      await count()
      const answers = await deps.leases.ask(asks)
      lookAtName()
      return answers
    },
  }
  const refill = createRefill({
    ...deps,
    leases,
    writer: () => writers.id,
    announce: writers.announce,
    processes: () => processes,
  })

  /** The store's clock. It does not step back: what was used in a newer window must not be spent again in an older. */
  function now(): number {
    latest = Math.max(latest, deps.now() + skew)
    return latest
  }

  function lookAtName(): void {
    if (writers.id === lessee) return
    lessee = writers.id
    for (const node of nodes.values()) for (const counter of node.counters.values()) own(counter, lessee)
  }

  function beginToCount(counter: Counter): void {
    uncounted.add(counter)
    begun++
  }

  async function count(): Promise<void> {
    for (const counter of uncounted) {
      uncounted.delete(counter)
      try {
        await deps.balances.recount(counter.key, counter.endsAt)
      } catch (error) {
        uncounted.add(counter)
        throw error
      }
    }
  }

  function nodeOf(account: Account): Node {
    const node = nodes.get(account.id) ?? ended.get(account)
    if (node === undefined) throw new Error(`account ${account.id} is not attached`)
    return node
  }

  /** The counter of a window now; a window that has ended is replaced by an empty one. */
  function counterOf(node: Node, period: Period, at: number): Counter {
    const current = node.counters.get(period)
    if (current !== undefined && at < current.endsAt) return current
    const fresh = newCounter(node.account.id, period, windowStart(period, at), lessee)
    node.counters.set(period, fresh)
    node.rolls++
    return fresh
  }

  function wayOf(account: Account, at = now()): KnownWay {
    const known = ways.get(account)
    if (known !== undefined && at < known.until && isCurrent(known, account)) return known
    const counters: Counter[] = []
    const stops: Stop[] = []
    const levels: Level[] = []
    const alarms: Alarm[] = []
    for (let level: Account | null = account; level !== null; level = level.parent) {
      const node = nodeOf(level)
      counters.push(counterOf(node, 'total', at))
      for (const limit of level.limits) {
        const counter = counterOf(node, periodOf(limit), at)
        if (!counters.includes(counter)) counters.push(counter)
        if (limit.action === 'stop') tighten(stops, { account: level, limit, counter })
        const alarm = alarmOf(level, limit, counter)
        if (alarm !== null) alarms.push(alarm)
      }
      // A window that has been counted is counted to its end, though its limit is gone: it stays the sum of its lines.
      for (const counter of node.counters.values())
        if (at < counter.endsAt && !counters.includes(counter)) counters.push(counter)
      levels.push({ node, limits: level.limits, rolls: node.rolls })
    }
    const until = Math.min(...counters.map((counter) => counter.endsAt))
    const way = {
      counters,
      postings: counters.map((counter) => postingOf(counter, stops)),
      stops,
      alarms,
      levels,
      until,
    }
    ways.set(account, way)
    return way
  }

  function take(account: Account, amounts: Readonly<Amounts>): EscrowHold | null {
    lookAtName()
    const at = now()
    const way = wayOf(account, at)
    for (const { counter, limit } of way.stops) if (!hasRoom(counter, limit, amounts)) return null
    for (const counter of way.counters) add(counter.held, amounts, 1)
    openHolds++
    nodeOf(account).open++
    return new OpenHold(inner, account, way, amounts, at, lessee)
  }

  /** Gives back what is set aside of counters and not held: what is known here, and then what the store knows more. */
  async function giveBack(counters: readonly Counter[]): Promise<void> {
    let idle = counters
    for (let round = 0; round < 2 && idle.length > 0; round++) {
      await giveIdle(idle)
      idle = idle.filter((counter) => units.some((unit) => counter.lease[unit] > counter.held[unit]))
    }
  }

  async function giveIdle(counters: readonly Counter[]): Promise<void> {
    lookAtName()
    const given = counters.map((counter) => {
      const idle = zero()
      for (const unit of units) idle[unit] = Math.max(0, counter.lease[unit] - counter.held[unit])
      add(counter.lease, idle, -1)
      add(counter.returning, idle, 1)
      counter.slice = zero()
      return { counter, idle }
    })
    let answers: readonly LeaseAnswer[] = []
    try {
      answers = await deps.leases.ask(
        given.map(({ counter, idle }) => ({ key: counter.key, version: 0, want: negative(idle), max: zero() })),
      )
    } finally {
      // Where the outcome is not known, the next answer of the store tells how much is still leased.
      for (const { counter, idle } of given) add(counter.returning, idle, -1)
    }
    lookAtName()
    for (const [index, { counter }] of given.entries()) update(counter, answers[index] as LeaseAnswer)
  }

  const inner: HoldKeeper = {
    lease: () => (deps.current() ? writers.id : null),
    lookAtName(counters) {
      lookAtName()
      for (const counter of counters) own(counter, lessee)
    },
    wayOf: (account) => wayOf(account),
    writers,
    more: refill.wait,
    settled(account) {
      openHolds--
      nodeOf(account).open--
      for (const { counter } of wayOf(account).alarms) changed.mark(counter)
      return { lessee, begun }
    },
    posted(account, booked, counted, before) {
      if (before === begun) return
      // A limit came while the line was on its way: what the store counted for it may not have seen the line yet.
      for (const counter of wayOf(account).counters) {
        const { startsAt } = counter.key
        if (startsAt <= booked && booked < counter.endsAt && !counted(counter)) beginToCount(counter)
      }
    },
  }

  /** Its thresholds are looked at, whatever was or was not used. */
  function markAll({ account, counters }: Node): void {
    for (const limit of account.limits) {
      const counter = limit.alertAt.length === 0 ? undefined : counters.get(periodOf(limit))
      if (counter !== undefined) changed.mark(counter)
    }
  }

  const looks = looksAt({ balances: deps.balances, now, nodeOf, counterOf, wayOf, count })

  return {
    ...looks,

    attach(account, balances) {
      const node: Node = {
        account,
        counters: new Map(),
        rolls: 0,
        limited: new Set(account.limits.map(periodOf)),
        open: 0,
      }
      const at = now()
      for (const { period, startsAt } of balances) {
        if (node.counters.has(period) || startsAt !== windowStart(period, at)) continue
        const counter = newCounter(account.id, period, startsAt, lessee)
        load(
          counter,
          balances.filter((row) => row.period === period && row.startsAt === startsAt),
          writers.id,
        )
        node.counters.set(period, counter)
      }
      nodes.set(account.id, node)
      ways.delete(account)
      // What was used before the last process ended may not have been looked at.
      markAll(node)
    },

    hold(account, amounts) {
      const node = nodes.get(account.id)
      if (node === undefined) return fault({ code: 'invalid_key', reason: 'ended' })
      // A process that was not heard of may have been taken for dead, and its leases given to others.
      if (!deps.current()) return fault({ code: 'store_unavailable' })
      const taken = take(account, amounts)
      if (taken !== null) return taken
      // It waits, so the account stays.
      node.open++
      return refill
        .wait({ amounts, stops: () => wayOf(account).stops, take: () => take(account, amounts) })
        .finally(() => node.open--)
    },

    open: () => openHolds,
    refills: () => refills,

    async changed(account) {
      const node = nodes.get(account.id)
      if (node === undefined) return
      // A window nobody counted so far, or not all the time, begins with what the ledger has.
      const limited = new Set(account.limits.map(periodOf))
      for (const period of limited) {
        if (period !== 'total' && !node.limited.has(period)) beginToCount(counterOf(node, period, now()))
      }
      node.limited = limited
      await count()
      // What the new limits leave is asked for anew.
      await giveBack([...node.counters.values()])
      markAll(node)
    },

    async recall(subject) {
      const [account = '', period = '', start, by] = subject.split(' ')
      const counter = nodes.get(account)?.counters.get(period)
      if (counter === undefined || counter.key.startsAt !== Number(start) || by === writers.id) return
      refill.giveWay(counter)
      await giveBack([counter])
    },

    kick: () => refill.kick(),

    fenced: lookAtName,

    beat(at, others) {
      skew = at - deps.now()
      processes = others
    },

    postingsAt(account, booked) {
      const postings: Posting[] = []
      for (let level: Account | null = account; level !== null; level = level.parent) {
        markAll(nodeOf(level))
        for (const period of new Set(['total', ...level.limits.map(periodOf)])) {
          const key = { account: level.id, period, startsAt: windowStart(period, booked) }
          postings.push({ key, leased: unleased })
        }
      }
      return postings
    },

    takeChanged() {
      const found: Changed[] = []
      for (const counter of changed.take()) {
        const { key, endsAt } = counter
        const account = nodes.get(key.account)?.account
        if (account !== undefined) found.push({ account, key, endsAt, counter })
      }
      return found
    },

    looked({ counter }, used, again) {
      if (used !== null) Object.assign(counter.seen, used)
      if (again || units.some((unit) => counter.unposted[unit] !== 0)) changed.mark(counter)
    },

    async detach(accounts) {
      const isIdle = ({ open, counters }: Node) => open === 0 && ![...counters.values()].some(isBusy)
      const idle = accounts.map(nodeOf).filter(isIdle)
      await giveBack(idle.flatMap(({ counters }) => [...counters.values()]))
      // Something may have happened meanwhile.
      const gone = idle.filter(isIdle)
      for (const node of gone) {
        nodes.delete(node.account.id)
        ended.set(node.account, node)
      }
      return gone.map(({ account }) => account)
    },
  }
}

function negative({ usd, tokens, requests, tool_calls }: Amounts): Amounts {
  return { usd: -usd, tokens: -tokens, requests: -requests, tool_calls: -tool_calls }
}
