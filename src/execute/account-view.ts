/** Accounts as people see them: no digests, dollars as decimal text, times as ISO 8601. @module */
import { type Account, type Amounts, type Limit, type Unit, units } from '../call.ts'
import type { LimitState } from '../escrow/look.ts'
import { amount } from '../fault.ts'
import type { Gateway } from '../gateway.ts'
import { effective, expiry } from '../identity/narrow.ts'
import type { AccountRow } from '../stores/store.ts'

/** Dollars as text ("0.42"), counts as numbers. */
export function amountOut(unit: Unit, value: number): string | number {
  return unit === 'usd' ? amount('usd', value).slice(1) : value
}

export function amountsOut(amounts: Readonly<Amounts>): Record<string, string | number> {
  return Object.fromEntries(units.map((unit) => [unit, amountOut(unit, amounts[unit])]))
}

export function limitsOut(limits: readonly Limit[]): Record<string, string | number> {
  const least = new Map<Unit, number>()
  for (const { unit, max } of limits) least.set(unit, Math.min(least.get(unit) ?? max, max))
  return Object.fromEntries([...least].map(([unit, max]) => [unit, amountOut(unit, max)]))
}

export function when(at: number | null): string | null {
  return at === null ? null : new Date(at).toISOString()
}

/** An account or key of the admin API. */
export function accountView(row: AccountRow | Account): Record<string, unknown> {
  return {
    id: row.id,
    kind: row.kind,
    name: row.name,
    parent: typeof row.parent === 'object' ? (row.parent?.id ?? null) : row.parent,
    limits: row.limits.map(({ unit, max, window, zone, action, alertAt }) => ({
      unit,
      max: amountOut(unit, max),
      window,
      zone,
      action,
      alert_at: alertAt,
    })),
    models: row.models,
    tools: row.tools,
    roles: row.roles,
    labels: row.labels,
    expires_at: when(row.expiresAt),
    revoked_at: when(row.revokedAt),
    created_at: when(row.createdAt),
  }
}

/** Where an account stands: of each unit the tightest limit on its path, and what its calls used by model and tool. */
export async function standingOf(gateway: Gateway, account: Account): Promise<Record<string, unknown>> {
  const tightest = new Map<Unit, LimitState>()
  const budgets: LimitState[] = []
  for (let level: Account | null = account; level !== null; level = level.parent) {
    if (level.limits.length === 0) continue
    for (const state of await gateway.escrow.states(level)) {
      budgets.push(state)
      const { unit, action } = state.limit
      if (action === 'stop' && state.remaining < (tightest.get(unit)?.remaining ?? Number.POSITIVE_INFINITY))
        tightest.set(unit, state)
    }
  }
  const of = (pick: (state: LimitState) => unknown) =>
    Object.fromEntries([...tightest].map(([unit, state]) => [unit, pick(state)]))
  const ids = (await gateway.store.accounts.subtree(account.id)).map((row) => row.id)
  const [byModel, byTool] = await Promise.all([
    gateway.store.ledger.usage('model', 0, ids),
    gateway.store.ledger.usage('tool', 0, ids),
  ])
  const groups = (rows: typeof byModel) =>
    Object.fromEntries(
      rows
        .filter((row) => row.group !== null)
        .map(({ group, calls, ...amounts }) => [group, { calls, ...amountsOut(amounts) }]),
    )
  return {
    id: account.id,
    kind: account.kind,
    expires_at: when(expiry(account)),
    models: effective(account, 'models'),
    tools: effective(account, 'tools'),
    labels: account.labels,
    limits: of((state) => amountOut(state.limit.unit, state.limit.max)),
    spent: amountsOut(await gateway.escrow.used(account)),
    used: of((state) => amountOut(state.limit.unit, state.used)),
    held: of((state) => amountOut(state.limit.unit, state.held)),
    remaining: of((state) => amountOut(state.limit.unit, state.remaining)),
    resets_at: of((state) => when(state.resetsAt)),
    budgets: budgets.map(budgetView),
    per_model: groups(byModel),
    per_tool: groups(byTool),
  }
}

/** One limit of the path, for those who have several of a unit or in windows. */
function budgetView({ account, limit, used, held, remaining, resetsAt }: LimitState): Record<string, unknown> {
  const { unit, max, window, zone, action, alertAt } = limit
  return {
    account,
    unit,
    limit: amountOut(unit, max),
    window,
    zone,
    action,
    alert_at: alertAt,
    used: amountOut(unit, used),
    held: amountOut(unit, held),
    remaining: amountOut(unit, remaining),
    resets_at: when(resetsAt),
  }
}
