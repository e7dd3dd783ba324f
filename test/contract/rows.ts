/** Rows for store tests: plausible, and distinct where it matters. @module */
import type { LedgerRow } from '../../src/call.ts'
import type { AccountRow, AuditRow, BalanceKey, LedgerEntry } from '../../src/stores/store.ts'

export function account(id: string, parent: string | null = null, more: Partial<AccountRow> = {}): AccountRow {
  return {
    id,
    parent,
    kind: 'team',
    name: `name of ${id}`,
    limits: [],
    models: null,
    tools: null,
    roles: [],
    labels: {},
    expiresAt: null,
    revokedAt: null,
    createdAt: 1_790_000_000_000,
    ...more,
  }
}

export function ledgerRow(id: string, more: Partial<LedgerRow> = {}): LedgerRow {
  return {
    id,
    call: `req_${id}`,
    attempt: 1,
    at: 1_790_000_000_000,
    account: 'team',
    session: null,
    kind: 'chat',
    model: 'fast',
    provider: 'openai',
    upstreamModel: 'gpt-5-mini',
    tool: null,
    rule: null,
    outcome: 'answered',
    code: null,
    usd: 1250,
    tokens: 900,
    requests: 1,
    tool_calls: 0,
    input: 800,
    output: 100,
    cacheRead: 10,
    cacheWrite: 20,
    reasoning: 30,
    usageSource: 'provider',
    priceVersion: '2026-11-01',
    latencyMs: 345.25,
    firstByteMs: null,
    step: null,
    traceparent: null,
    labels: '{"run":"7"}',
    ...more,
  }
}

export function total(account: string): BalanceKey {
  return { account, window: 'total', startsAt: 0 }
}

export function entry(row: LedgerRow, balances: readonly BalanceKey[] = [total(row.account)]): LedgerEntry {
  return { row, balances }
}

export function auditRow(id: string, more: Partial<AuditRow> = {}): AuditRow {
  const at = 1_790_000_000_000
  return { id, at, actor: 'admin', action: 'accounts.create', subject: null, allowed: true, detail: null, ...more }
}
