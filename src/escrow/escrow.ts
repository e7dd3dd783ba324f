/**
 * The arithmetic of budgets: what is free, held and used on every level of an account's path. A hold is taken on all
 * levels or on none, in one synchronous step, so nothing can come between the check and the taking. The counters are
 * the durable balances plus what this process holds; the ledger writes every settlement back in one transaction with
 * its row.
 * @module
 */
import type { Account, Amounts, Hold, Limit, Window } from '../call.ts'
import { type Fault, fault } from '../fault.ts'
import type { BalanceKey, BalanceRow } from '../stores/store.ts'
import { windowEnd, windowStart } from './window.ts'

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

/** A hold and the counters its settlement goes to, for the ledger. */
export interface EscrowHold extends Hold {
  readonly balances: readonly BalanceKey[]
}

export interface Escrow {
  /** Makes an account known with its durable balances. Its ancestors must be known. */
  attach(account: Account, balances: readonly BalanceRow[]): void
  /**
   * Windows of the account's limits that nothing has counted so far start from the ledger: after a load, and after the
   * limits changed. What is used meanwhile may be counted twice in such a window, never less than once.
   * @param sumSince what the account and everything below it used since a time
   * @returns the balances found, to be made durable
   */
  refresh(account: Account, sumSince: (since: number) => Promise<Amounts>): Promise<readonly BalanceRow[]>
  /** Least free amount per unit over the path; a unit without a stopping limit is absent. */
  free(account: Account): Partial<Amounts>
  hold(account: Account, amounts: Readonly<Amounts>): EscrowHold | Fault
  /** Limits of one account, in order. */
  states(account: Account): readonly LimitState[]
  /** What an account has used in all, its whole subtree included. */
  used(account: Account): Readonly<Amounts>
  /** Open holds in this process. */
  open(): number
}

interface Counter {
  readonly key: BalanceKey
  readonly endsAt: number
  readonly used: Amounts
  readonly held: Amounts
}

interface Node {
  readonly account: Account
  readonly counters: Map<Window, Counter>
  /** How often a window of this account gave way to the next: what was made of its counters before is stale. */
  rolls: number
}

/** A limit that stops, with the counter it is held against. */
interface Stop {
  readonly account: Account
  readonly limit: Limit
  readonly counter: Counter
}

interface Level {
  readonly node: Node
  readonly limits: readonly Limit[]
  readonly rolls: number
}

/** Everything between an account and the root that a hold touches, as it is until a window ends or a limit changes. */
interface Way {
  readonly counters: readonly Counter[]
  /** The counters' keys, for the ledger. */
  readonly balances: readonly BalanceKey[]
  readonly stops: readonly Stop[]
  /** What it was made of, leaf first: other limits or another window are another way. */
  readonly levels: readonly Level[]
  readonly until: number
}

/**
 * @param now wall clock, ms since the epoch
 */
export function createEscrow(now: () => number): Escrow {
  const nodes = new Map<string, Node>()
  const ways = new Map<string, Way>()
  let openHolds = 0
  const onSettled = () => {
    openHolds--
  }

  function nodeOf(account: Account): Node {
    const node = nodes.get(account.id)
    if (node === undefined) throw new Error(`account ${account.id} is not attached`)
    return node
  }

  /** The counter of a window now; a window that has ended is replaced by an empty one. */
  function counterOf(node: Node, window: Window, at: number): Counter {
    const current = node.counters.get(window)
    if (current !== undefined && at < current.endsAt && at >= current.key.startsAt) return current
    const startsAt = windowStart(window, at)
    // A clock that steps back must not open an older window: what was used in the newer one would be spent again.
    if (current !== undefined && startsAt < current.key.startsAt) return current
    const fresh = newCounter(node.account.id, window, startsAt)
    node.counters.set(window, fresh)
    node.rolls++
    return fresh
  }

  function wayOf(account: Account): Way {
    const at = now()
    const known = ways.get(account.id)
    if (known !== undefined && at < known.until && isCurrent(known, account)) return known
    const counters: Counter[] = []
    const stops: Stop[] = []
    const levels: Level[] = []
    for (let level: Account | null = account; level !== null; level = level.parent) {
      const node = nodeOf(level)
      counters.push(counterOf(node, 'total', at))
      for (const limit of level.limits) {
        const counter = counterOf(node, limit.window, at)
        if (!counters.includes(counter)) counters.push(counter)
        if (limit.action === 'stop') stops.push({ account: level, limit, counter })
      }
      levels.push({ node, limits: level.limits, rolls: node.rolls })
    }
    const until = Math.min(...counters.map((counter) => counter.endsAt))
    const way = { counters, balances: counters.map((counter) => counter.key), stops, levels, until }
    ways.set(account.id, way)
    return way
  }

  return {
    attach(account, balances) {
      const node: Node = { account, counters: new Map(), rolls: 0 }
      const at = now()
      for (const row of balances) {
        if (row.startsAt !== windowStart(row.window, at)) continue
        const counter = newCounter(account.id, row.window, row.startsAt)
        add(counter.used, row, 1)
        node.counters.set(row.window, counter)
      }
      nodes.set(account.id, node)
    },

    async refresh(account, sumSince) {
      const node = nodeOf(account)
      const found: BalanceRow[] = []
      for (const { window } of account.limits) {
        if (window === 'total' || node.counters.has(window)) continue
        const counter = counterOf(node, window, now())
        const sum = await sumSince(counter.key.startsAt)
        add(counter.used, sum, 1)
        found.push({ ...counter.key, ...sum })
      }
      return found
    },

    free(account) {
      const free: Partial<Amounts> = {}
      for (const { limit, counter } of wayOf(account).stops) {
        const left = Math.max(0, limit.max - counter.used[limit.unit] - counter.held[limit.unit])
        const least = free[limit.unit]
        if (least === undefined || left < least) free[limit.unit] = left
      }
      return free
    },

    hold(account, amounts) {
      const way = wayOf(account)
      for (const stop of way.stops) {
        const refused = check(stop, amounts[stop.limit.unit])
        if (refused !== null) return refused
      }
      for (const counter of way.counters) add(counter.held, amounts, 1)
      openHolds++
      return new OpenHold(amounts, way, onSettled)
    },

    states(account) {
      const at = now()
      const node = nodeOf(account)
      return account.limits.map((limit) => {
        const counter = counterOf(node, limit.window, at)
        const used = counter.used[limit.unit]
        const held = counter.held[limit.unit]
        const resetsAt = Number.isFinite(counter.endsAt) ? counter.endsAt : null
        return { account: account.id, limit, used, held, remaining: Math.max(0, limit.max - used - held), resetsAt }
      })
    },

    used(account) {
      return counterOf(nodeOf(account), 'total', now()).used
    },

    open: () => openHolds,
  }
}

/** A class, not a literal with a getter: see HttpReply. */
class OpenHold implements EscrowHold {
  open = true
  readonly amounts: Amounts
  readonly #way: Way
  readonly #onSettled: () => void

  constructor(amounts: Readonly<Amounts>, way: Way, onSettled: () => void) {
    this.amounts = { ...amounts }
    this.#way = way
    this.#onSettled = onSettled
  }

  get balances(): readonly BalanceKey[] {
    return this.#way.balances
  }

  extend(more: Readonly<Amounts>): boolean {
    if (!this.open) return false
    for (const stop of this.#way.stops) if (check(stop, more[stop.limit.unit]) !== null) return false
    for (const counter of this.#way.counters) add(counter.held, more, 1)
    add(this.amounts, more, 1)
    return true
  }

  settle(actual: Readonly<Amounts>): boolean {
    if (!this.open) return false
    this.open = false
    this.#onSettled()
    for (const counter of this.#way.counters) {
      add(counter.held, this.amounts, -1)
      add(counter.used, actual, 1)
    }
    return true
  }
}

function isCurrent(way: Way, account: Account): boolean {
  let depth = 0
  for (let level: Account | null = account; level !== null; level = level.parent) {
    const known = way.levels[depth++]
    if (known === undefined || known.limits !== level.limits || known.rolls !== known.node.rolls) return false
  }
  return true
}

function check({ account, limit, counter }: Stop, wanted: number): Fault | null {
  if (wanted === 0) return null
  const { unit, max } = limit
  const used = counter.used[unit]
  const resetsAt = Number.isFinite(counter.endsAt) ? counter.endsAt : null
  if (used + counter.held[unit] + wanted <= max) return null
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
  return fault({ code: 'budget_contended', unit, account: account.id, retryAfterMs: 1000 })
}

function newCounter(account: string, window: Window, startsAt: number): Counter {
  return {
    key: { account, window, startsAt },
    endsAt: windowEnd(window, startsAt),
    used: { usd: 0, tokens: 0, requests: 0, tool_calls: 0 },
    held: { usd: 0, tokens: 0, requests: 0, tool_calls: 0 },
  }
}

function add(to: Amounts, amounts: Readonly<Amounts>, sign: 1 | -1): void {
  to.usd += sign * amounts.usd
  to.tokens += sign * amounts.tokens
  to.requests += sign * amounts.requests
  to.tool_calls += sign * amounts.tool_calls
}
