/** Rows for store tests: plausible, and distinct where it matters. @module */
import { type Amounts, type LedgerBody, type LedgerLine, noUsage, type Unit } from '../../src/call.ts'
import type { AccountRow, AuditRow, BalanceKey, LedgerEntry, Posting } from '../../src/stores/store.ts'

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
    version: 1,
    ...more,
  }
}

/** The part of a line that no sum is made of, as calls write it. */
export function body(more: Partial<LedgerBody> = {}): string {
  return JSON.stringify({
    call: 'req_1',
    attempt: 1,
    session: null,
    kind: 'chat',
    model: 'fast',
    provider: 'openai',
    upstream: 'gpt-5-mini',
    tool: null,
    rule: null,
    traceparent: null,
    outcome: 'answered',
    code: null,
    usage: {
      ...noUsage,
      ...{ input: 800, output: 100, cacheRead: 10, cacheWrite: 20, reasoning: 30, source: 'provider' as const },
    },
    price: '2026-11-01',
    overrun: null,
    ms: 345.25,
    firstByteMs: null,
    ...more,
  } satisfies LedgerBody)
}

export function line(id: string, more: Partial<LedgerLine> = {}): LedgerLine {
  return {
    id,
    account: 'team',
    at: 1_790_000_000_000,
    booked: 1_790_000_000_000,
    usd: 1250,
    tokens: 900,
    requests: 1,
    tool_calls: 0,
    body: body(),
    notes: null,
    ...more,
  }
}

export function total(account: string): BalanceKey {
  return { account, period: 'total', startsAt: 0 }
}

/** @param leased units that are spent from the writer's lease */
export function posting(key: BalanceKey, ...leased: readonly Unit[]): Posting {
  const of = (unit: Unit) => (leased.includes(unit) ? 1 : 0)
  return {
    key,
    leased: { usd: of('usd'), tokens: of('tokens'), requests: of('requests'), tool_calls: of('tool_calls') },
  }
}

export function entry(
  booked: LedgerLine,
  postings: readonly Posting[] = [posting(total(booked.account))],
  more: Partial<LedgerEntry> = {},
): LedgerEntry {
  return { line: booked, postings, short: null, posted: null, ...more }
}

export function amounts(more: Partial<Amounts> = {}): Amounts {
  return { usd: 0, tokens: 0, requests: 0, tool_calls: 0, ...more }
}

export function auditRow(id: string, more: Partial<AuditRow> = {}): AuditRow {
  const at = 1_790_000_000_000
  return { id, at, actor: 'admin', action: 'accounts.create', subject: null, allowed: true, detail: null, ...more }
}
