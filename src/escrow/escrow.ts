/**
 * The arithmetic of budgets: what is free, held and used on every level of an account's path. A hold is taken on all
 * levels or on none, in one synchronous step, against what this process has leased of each budget; where that is not
 * enough the store is asked (refill.ts). Leases, and everything used, are SQL; what happens in between is memory.
 * @module
 */
import { type Account, type Amounts, type Limit, units } from '../call.ts'
import { type Fault, fault } from '../fault.ts'
import type { BalanceRow, BalanceStore, LeaseAnswer, LeaseStore, Posting, WriterStore } from '../stores/store.ts'
import { add, type Counter, load, newCounter, of, own, update, usedOf, zero } from './counter.ts'
import { type EscrowHold, type HoldKeeper, OpenHold, postingOf, type Way } from './hold.ts'
import { createRefill, hasRoom, type Stop } from './refill.ts'
import { type Period, periodOf, windowStart } from './window.ts'

export type { EscrowHold } from './hold.ts'

/** State of one limit, for `GET /v1/sessions/current`. Amounts in the unit's integer. */
export interface LimitState {
  readonly account: string
  readonly limit: Limit
  readonly used: number
  readonly held: number
  readonly remaining: number
  /** Ms since the epoch, or null when it never resets. */
  readonly resetsAt: number | null
}

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

export interface Escrow {
  /** Makes an account known with its durable balances. Its ancestors must be known. */
  attach(account: Account, balances: readonly BalanceRow[]): void
  /** Least free amount per unit over the path, as far as this process knows; a unit without a stopping limit is absent. */
  free(account: Account): Partial<Amounts>
  /** @returns the hold or why there is none; a promise only where the store has to be asked */
  hold(account: Account, amounts: Readonly<Amounts>): EscrowHold | Fault | Promise<EscrowHold | Fault>
  /** Limits of one account, in order, over all processes; held is what this process holds. */
  states(account: Account): Promise<readonly LimitState[]>
  /** The same as far as this process knows it, at once. */
  near(account: Account): readonly LimitState[]
  /** What an account has used in all, its whole subtree included, over all processes. */
  used(account: Account): Promise<Readonly<Amounts>>
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
}

interface Node {
  readonly account: Account
  readonly counters: Map<Period, Counter>
  /** How often a window of this account gave way to the next: what was made of its counters before is stale. */
  rolls: number
  /** What its limits count in; everything else is not counted, whatever stands in its counters. */
  limited: ReadonlySet<Period>
}

interface Level {
  readonly node: Node
  readonly limits: readonly Limit[]
  readonly rolls: number
}

/** The way of an account, as it is until a window ends or a limit changes. */
interface KnownWay extends Way {
  /** What it was made of, leaf first: other limits or another window are another way. */
  readonly levels: readonly Level[]
  readonly until: number
}

export function createEscrow(deps: EscrowDeps): Escrow {
  const nodes = new Map<string, Node>()
  const ways = new WeakMap<Account, KnownWay>()
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
    const node = nodes.get(account.id)
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
    for (let level: Account | null = account; level !== null; level = level.parent) {
      const node = nodeOf(level)
      counters.push(counterOf(node, 'total', at))
      for (const limit of level.limits) {
        const counter = counterOf(node, periodOf(limit), at)
        if (!counters.includes(counter)) counters.push(counter)
        if (limit.action === 'stop') tighten(stops, { account: level, limit, counter })
      }
      // A window that has been counted is counted to its end, though its limit is gone: it stays the sum of its lines.
      for (const counter of node.counters.values())
        if (at < counter.endsAt && !counters.includes(counter)) counters.push(counter)
      levels.push({ node, limits: level.limits, rolls: node.rolls })
    }
    const until = Math.min(...counters.map((counter) => counter.endsAt))
    const way = { counters, postings: counters.map((counter) => postingOf(counter, stops)), stops, levels, until }
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
    settled() {
      openHolds--
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

  return {
    attach(account, balances) {
      const node: Node = { account, counters: new Map(), rolls: 0, limited: new Set(account.limits.map(periodOf)) }
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
    },

    free(account) {
      const free: Partial<Amounts> = {}
      for (const { limit, counter } of wayOf(account).stops) {
        const { unit, max } = limit
        const left = Math.max(0, max - usedOf(counter, unit) - of(counter.held, unit))
        const least = free[unit]
        if (least === undefined || left < least) free[unit] = left
      }
      return free
    },

    hold(account, amounts) {
      if (!deps.current()) return fault({ code: 'store_unavailable' })
      const taken = take(account, amounts)
      if (taken !== null) return taken
      return refill.wait({ amounts, stops: () => wayOf(account).stops, take: () => take(account, amounts) })
    },

    near(account) {
      const at = now()
      const node = nodeOf(account)
      return account.limits.map((limit) => {
        const counter = counterOf(node, periodOf(limit), at)
        return stateOf(account, limit, counter, usedOf(counter, limit.unit))
      })
    },

    async states(account) {
      await count()
      const rows = await deps.balances.of(account.id)
      const at = now()
      const node = nodeOf(account)
      return account.limits.map((limit) => {
        const counter = counterOf(node, periodOf(limit), at)
        const told = rows.filter(
          ({ period, startsAt }) => period === counter.key.period && startsAt === counter.key.startsAt,
        )
        const { unit } = limit
        const used = told.reduce((sum, row) => sum + row.used[unit], counter.unposted[unit])
        return stateOf(account, limit, counter, used)
      })
    },

    async used(account) {
      const rows = await deps.balances.of(account.id)
      const sum = { ...counterOf(nodeOf(account), 'total', now()).unposted }
      for (const row of rows) if (row.period === 'total') add(sum, row.used, 1)
      return sum
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
        for (const period of new Set(['total', ...level.limits.map(periodOf)])) {
          const key = { account: level.id, period, startsAt: windowStart(period, booked) }
          postings.push({ key, leased: { usd: 0, tokens: 0, requests: 0, tool_calls: 0 } })
        }
      }
      return postings
    },
  }
}

function stateOf(account: Account, limit: Limit, counter: Counter, used: number): LimitState {
  const held = counter.held[limit.unit]
  const resetsAt = Number.isFinite(counter.endsAt) ? counter.endsAt : null
  return { account: account.id, limit, used, held, remaining: Math.max(0, limit.max - used - held), resetsAt }
}

function negative({ usd, tokens, requests, tool_calls }: Amounts): Amounts {
  return { usd: -usd, tokens: -tokens, requests: -requests, tool_calls: -tool_calls }
}

/** Of two limits on one unit of one counter the lower one says everything. */
function tighten(stops: Stop[], stop: Stop): void {
  const at = stops.findIndex(({ counter, limit }) => counter === stop.counter && limit.unit === stop.limit.unit)
  if (at === -1) stops.push(stop)
  else if (stop.limit.max < (stops[at] as Stop).limit.max) stops[at] = stop
}

function isCurrent(way: KnownWay, account: Account): boolean {
  let depth = 0
  for (let level: Account | null = account; level !== null; level = level.parent) {
    const known = way.levels[depth++]
    if (known === undefined || known.limits !== level.limits || known.rolls !== known.node.rolls) return false
  }
  return true
}
