/** Where accounts stand: what is free, used and held, by what this process knows or by what the store says. @module */
import { type Account, type Amounts, add, type Limit } from '../call.ts'
import type { BalanceStore } from '../stores/store.ts'
import { shareLeft, type Tightness, tightest } from './alarm.ts'
import { type Counter, of, usedOf } from './counter.ts'
import type { KnownWay, Node } from './way.ts'
import { type Period, periodOf } from './window.ts'

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

export interface Looks {
  /** Least free amount per unit over the path, as far as this process knows; a unit without a stopping limit is absent. */
  free(account: Account): Partial<Amounts>
  /** Limits of one account, in order, over all processes; held is what this process holds. */
  states(account: Account): Promise<readonly LimitState[]>
  /** The same as far as this process knows it, at once. */
  near(account: Account): readonly LimitState[]
  /** What an account has used in all, its whole subtree included, over all processes. */
  used(account: Account): Promise<Readonly<Amounts>>
  /** The tightest limit on the path that is past one of its thresholds, as far as this process knows. */
  tightest(account: Account): Tightness | null
  /** The least share (0 to 1) left of what model calls of the account may use; 1 where nothing is limited. */
  shareLeft(account: Account): number
}

/** What looking needs of the escrow. */
export interface Looked {
  readonly balances: BalanceStore
  now(): number
  nodeOf(account: Account): Node
  counterOf(node: Node, period: Period, at: number): Counter
  wayOf(account: Account): KnownWay
  /** Lets the store count what a new window began with. */
  count(): Promise<void>
}

export function looksAt({ balances, now, nodeOf, counterOf, wayOf, count }: Looked): Looks {
  return {
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
      const rows = await balances.of(account.id)
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
      const rows = await balances.of(account.id)
      const sum = { ...counterOf(nodeOf(account), 'total', now()).unposted }
      for (const row of rows) if (row.period === 'total') add(sum, row.used, 1)
      return sum
    },

    tightest: (account) => tightest(wayOf(account).alarms),

    shareLeft(account) {
      let least = 1
      const at = now()
      for (let level: Account | null = account; level !== null; level = level.parent) {
        for (const limit of level.limits) {
          if (limit.unit === 'tool_calls') continue
          least = Math.min(least, shareLeft(counterOf(nodeOf(level), periodOf(limit), at), limit))
        }
      }
      return least
    },
  }
}

function stateOf(account: Account, limit: Limit, counter: Counter, used: number): LimitState {
  const held = counter.held[limit.unit]
  const resetsAt = Number.isFinite(counter.endsAt) ? counter.endsAt : null
  return { account: account.id, limit, used, held, remaining: Math.max(0, limit.max - used - held), resetsAt }
}
