/**
 * Budget alerts: counters that have changed are compared with the thresholds of their limits, by what the store says is
 * used over all processes. Each crossing is told once for each account, unit, window, threshold and limit, whoever sees
 * it first: a line of the log, a metric, a message to the webhooks. Nothing here is waited for by a call.
 * @module
 */
import type { Account, Amounts, Limit } from '../account.ts'
import { units } from '../account.ts'
import type { Changed } from '../escrow/alarm.ts'
import type { Escrow } from '../escrow/escrow.ts'
import { periodOf, windowEnd, windowStart } from '../escrow/window.ts'
import { amount } from '../fault.ts'
import type { AccountRow, BalanceKey, BalanceStore, Crossing, Page, Store } from '../stores/store.ts'
import { type Courier, createCourier, type DeliveryDeps } from './delivery.ts'
import type { WebhookEvent } from './webhook.ts'

export interface AlertDeps extends Omit<DeliveryDeps, 'store' | 'log' | 'chance'> {
  readonly escrow: Pick<Escrow, 'takeChanged' | 'looked'>
  readonly balances: BalanceStore
  readonly accounts: Pick<Store['accounts'], 'list'>
  readonly store: Store['alerts']
  readonly random: (bytes: number) => Buffer
  readonly log: { warn(fields: object, message: string): void }
  /** A threshold was reached, and this process was the first to see it. */
  readonly onAlert: (unit: string, threshold: number) => void
}

export interface Overrun {
  /** Request id. */
  readonly call: string
  readonly provider: string | null
  readonly model: string | null
  readonly held: Readonly<Amounts>
  readonly used: Readonly<Amounts>
}

export interface Alerts {
  /** Compares what has changed and carries messages on. One at a time; never rejects. */
  look(): Promise<void>
  /** Compares every account that has limits: another process died and may not have. */
  sweep(): Promise<void>
  /** A provider reported more than was held. Queued at once, kept with the next look. */
  overrun(call: Overrun): void
  stop(): Promise<void>
}

/** Messages that wait to be kept; a store that is down must not let them pile up. */
const mostQueued = 1000
const mostRemembered = 10_000
const pageRows = 1000
/** Counters asked for at once. */
const mostAtOnce = 200

export function createAlerts(deps: AlertDeps): Alerts {
  const { escrow, balances, store, log, now } = deps
  const chance = () => deps.random(4).readUInt32LE() / 2 ** 32
  const courier: Courier = createCourier({ ...deps, chance })
  /** Noted here already: the store is asked once. */
  const told = new Set<string>()
  let queued: { readonly event: WebhookEvent; readonly at: number; readonly data: object }[] = []
  let looking: Promise<void> | null = null

  async function compare(
    account: AccountRow | Account,
    { period, startsAt }: BalanceKey,
    endsAt: number,
    used: Amounts,
  ) {
    for (const limit of account.limits) {
      if (periodOf(limit) !== period || limit.max === 0) continue
      for (const threshold of limit.alertAt) {
        if (!isPast(used[limit.unit], limit.max, threshold)) continue
        const { unit, max } = limit
        await cross(account, limit, { account: account.id, unit, period, startsAt, threshold, max }, used[unit], endsAt)
      }
    }
  }

  async function cross(
    { name, kind, labels }: AccountRow | Account,
    limit: Limit,
    crossing: Crossing,
    used: number,
    endsAt: number,
  ): Promise<void> {
    const key = Object.values(crossing).join(' ')
    if (told.has(key)) return
    const { account, unit, threshold, max } = crossing
    const data = {
      account,
      name,
      kind,
      labels,
      unit,
      threshold,
      used: amountOut(unit, used),
      limit: amountOut(unit, max),
      window: limit.window,
      zone: limit.zone,
      action: limit.action,
      resets_at: Number.isFinite(endsAt) ? new Date(endsAt).toISOString() : null,
    }
    const first = await store.note(crossing, messageOf('budget_alert', now(), data))
    if (told.size >= mostRemembered) told.clear()
    told.add(key)
    if (!first) return
    log.warn({ event: 'budget_alert', ...data }, 'a budget has reached a threshold')
    deps.onAlert(unit, threshold)
  }

  function messageOf(event: WebhookEvent, at: number, data: object) {
    const urls = deps.webhooks().flatMap(({ url, events }) => (events.includes(event) ? [url] : []))
    const body = JSON.stringify({ type: event, timestamp: new Date(at).toISOString(), data })
    return { id: `msg_${deps.random(16).toString('hex')}`, event, body, at, urls: [...new Set(urls)] }
  }

  async function lookAtSome(some: readonly Changed[]): Promise<void> {
    const done = new Set<Changed>()
    try {
      const totals = await balances.totals(some.map(({ key }) => key))
      for (const [index, changed] of some.entries()) {
        const used = totals[index] as Amounts
        await compare(changed.account, changed.key, changed.endsAt, used)
        escrow.looked(changed, used, false)
        done.add(changed)
      }
    } catch {
      // The store does not answer; its health is told elsewhere, and this is looked at again.
      for (const changed of some) if (!done.has(changed)) escrow.looked(changed, null, true)
    }
  }

  async function lookAtAll(): Promise<void> {
    const changed = escrow.takeChanged()
    for (let at = 0; at < changed.length; at += mostAtOnce) await lookAtSome(changed.slice(at, at + mostAtOnce))
    const waiting = queued
    queued = []
    for (const one of waiting) {
      const kept = await store.note(null, messageOf(one.event, one.at, one.data)).catch(() => null)
      if (kept === null && queued.length < mostQueued) queued.push(one)
    }
    await courier.look()
  }

  async function sweepPage(page: Page): Promise<string | undefined> {
    const rows = await deps.accounts.list({}, page)
    for (const row of rows) {
      if (row.revokedAt !== null || (row.expiresAt !== null && row.expiresAt <= now())) continue
      const periods = new Set(row.limits.filter(({ alertAt }) => alertAt.length > 0).map(periodOf))
      if (periods.size === 0) continue
      const keys = [...periods].map((period) => ({ account: row.id, period, startsAt: windowStart(period, now()) }))
      for (const [index, used] of (await balances.totals(keys)).entries()) {
        const key = keys[index] as BalanceKey
        await compare(row, key, windowEnd(key.period, key.startsAt), used)
      }
    }
    return rows.length === page.limit ? rows.at(-1)?.id : undefined
  }

  return {
    look() {
      looking ??= lookAtAll().finally(() => {
        looking = null
      })
      return looking
    },
    async sweep() {
      try {
        let after: string | undefined
        do after = await sweepPage({ after, limit: pageRows })
        while (after !== undefined)
      } catch (error) {
        log.warn({ error: String(error) }, 'budgets could not be compared with their thresholds; changes still are')
      }
    },
    overrun({ held, used, ...call }) {
      if (queued.length >= mostQueued || !deps.webhooks().some(({ events }) => events.includes('overrun'))) return
      queued.push({ event: 'overrun', at: now(), data: { ...call, held: amountsOut(held), used: amountsOut(used) } })
    },
    async stop() {
      await courier.stop()
      await looking
      // What the last calls used; its messages go out after the next start.
      await lookAtAll()
    },
  }
}

/** Exact: dollars are integers, and the product may be larger than a number holds. */
export function isPast(used: number, max: number, percent: number): boolean {
  return used > 0 && BigInt(used) * 100n >= BigInt(max) * BigInt(percent)
}

/** Dollars as decimal text, counts as numbers. */
function amountOut(unit: keyof Amounts, value: number): string | number {
  return unit === 'usd' ? amount('usd', value).slice(1) : value
}

function amountsOut(amounts: Readonly<Amounts>): Record<string, string | number> {
  return Object.fromEntries(units.map((unit) => [unit, amountOut(unit, amounts[unit])]))
}
