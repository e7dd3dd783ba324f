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
  /** Forgets an account that has no open hold. @returns whether it is gone */
  detach(id: string): boolean
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
  holds: number
}

/**
 * @param now wall clock, ms since the epoch
 */
export function createEscrow(now: () => number): Escrow {
  const nodes = new Map<string, Node>()
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
    return fresh
  }

  return {
    attach(account, balances) {
      const node: Node = { account, counters: new Map(), holds: 0 }
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

    detach(id) {
      const node = nodes.get(id)
      if (node !== undefined && node.holds > 0) return false
      return nodes.delete(id)
    },

    free(account) {
      const at = now()
      const free: Partial<Amounts> = {}
      for (let level: Account | null = account; level !== null; level = level.parent) {
        if (level.limits.length === 0) continue
        const node = nodeOf(level)
        for (const limit of level.limits) {
          if (limit.action !== 'stop') continue
          const counter = counterOf(node, limit.window, at)
          const left = Math.max(0, limit.max - counter.used[limit.unit] - counter.held[limit.unit])
          const least = free[limit.unit]
          if (least === undefined || left < least) free[limit.unit] = left
        }
      }
      return free
    },

    hold(account, amounts) {
      const at = now()
      const taken: Counter[] = []
      const path: Node[] = []
      for (let level: Account | null = account; level !== null; level = level.parent) {
        const node = nodeOf(level)
        path.push(node)
        taken.push(counterOf(node, 'total', at))
        for (const limit of level.limits) {
          const counter = counterOf(node, limit.window, at)
          if (!taken.includes(counter)) taken.push(counter)
          if (limit.action !== 'stop') continue
          const refused = check(level, limit, counter, amounts[limit.unit])
          if (refused !== null) return refused
        }
      }
      for (const counter of taken) add(counter.held, amounts, 1)
      for (const node of path) node.holds++
      openHolds++
      return new OpenHold(amounts, taken, path, onSettled)
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
  readonly amounts: Readonly<Amounts>
  readonly balances: readonly BalanceKey[]
  readonly #counters: readonly Counter[]
  readonly #path: readonly Node[]
  readonly #onSettled: () => void

  constructor(amounts: Readonly<Amounts>, counters: readonly Counter[], path: readonly Node[], onSettled: () => void) {
    this.amounts = amounts
    this.balances = counters.map(keyOf)
    this.#counters = counters
    this.#path = path
    this.#onSettled = onSettled
  }

  settle(actual: Readonly<Amounts>): boolean {
    if (!this.open) return false
    this.open = false
    this.#onSettled()
    for (const node of this.#path) node.holds--
    for (const counter of this.#counters) {
      add(counter.held, this.amounts, -1)
      add(counter.used, actual, 1)
    }
    return true
  }
}

function keyOf(counter: Counter): BalanceKey {
  return counter.key
}

function check(account: Account, limit: Limit, counter: Counter, wanted: number): Fault | null {
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
