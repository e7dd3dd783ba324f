/**
 * Budgets as one thread would count them: no leases, no processes, no database. What the escrow admits, refuses and books
 * is held against this.
 * @module
 */
import { type Amounts, type Limit, units } from '../../src/call.ts'
import { periodOf, windowStart } from '../../src/escrow/window.ts'
import { none } from './rig.ts'

/** `account period start` */
export type Key = string

export interface Level {
  readonly account: string
  readonly limits: readonly Limit[]
}

export class Reference {
  readonly used = new Map<Key, Amounts>()
  readonly held = new Map<Key, Amounts>()
  /** Held by processes that were taken for dead and go on: nothing is leased for it. */
  readonly orphaned = new Map<Key, Amounts>()

  static add(to: Map<Key, Amounts>, keys: readonly Key[], amounts: Readonly<Amounts>, sign: 1 | -1): void {
    for (const key of keys) {
      const sum = to.get(key) ?? { ...none }
      for (const unit of units) sum[unit] += sign * amounts[unit]
      to.set(key, sum)
    }
  }

  /** The counters of a path, leaf first, at a moment. */
  static keys(path: readonly Level[], at: number): Key[] {
    return path.flatMap(({ account, limits }) =>
      [...new Set(['total', ...limits.map(periodOf)])].map(
        (period) => `${account} ${period} ${windowStart(period, at)}`,
      ),
    )
  }

  /**
   * By how much each stopping limit of the path would be passed.
   *
   * @param orphans whether what is held by processes taken for dead counts
   */
  excess(path: readonly Level[], at: number, wanted: Readonly<Amounts>, orphans: boolean) {
    const over: { readonly key: Key; readonly unit: keyof Amounts; readonly max: number; readonly by: number }[] = []
    for (const { account, limits } of path) {
      for (const limit of limits) {
        const { unit, max } = limit
        if (limit.action !== 'stop' || wanted[unit] === 0) continue
        const key = `${account} ${periodOf(limit)} ${windowStart(periodOf(limit), at)}`
        const of = (map: ReadonlyMap<Key, Amounts>) => map.get(key)?.[unit] ?? 0
        const by = of(this.used) + of(this.held) + (orphans ? of(this.orphaned) : 0) + wanted[unit] - max
        if (by > 0) over.push({ key, unit, max, by })
      }
    }
    return over
  }
}
