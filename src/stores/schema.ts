/** Tables as Kysely sees them. Names and types are portable: text, bigint and JSON as text. @module */

import type { LedgerRow, Window } from '../call.ts'
import type { AccountRow, KeyRow } from './store.ts'

interface AmountColumns {
  usd: number
  tokens: number
  requests: number
  tool_calls: number
}

export interface AccountTable {
  id: string
  parent: string | null
  kind: AccountRow['kind']
  name: string
  /** JSON array. */
  limits: string
  /** JSON array, or null where the list is inherited. */
  models: string | null
  /** JSON array, or null where the list is inherited. */
  tools: string | null
  /** JSON array. */
  roles: string
  /** JSON object. */
  labels: string
  expires_at: number | null
  revoked_at: number | null
  created_at: number
}

export interface KeyTable {
  id: string
  digest: string
  created_at: number
}

export interface BalanceTable extends AmountColumns {
  account: string
  /** A window of a limit; the word itself is reserved in Postgres. */
  period: Window
  starts_at: number
}

export interface LedgerTable extends AmountColumns {
  id: string
  call: string
  attempt: number
  at: number
  account: string
  session: string | null
  kind: LedgerRow['kind']
  model: string | null
  provider: string | null
  upstream_model: string | null
  tool: string | null
  rule: string | null
  outcome: LedgerRow['outcome']
  code: string | null
  input: number
  output: number
  cache_read: number
  cache_write: number
  reasoning: number
  usage_source: LedgerRow['usageSource']
  price_version: string | null
  latency_ms: number
  first_byte_ms: number | null
  step: string | null
  traceparent: string | null
  labels: string | null
}

export interface AuditTable {
  id: string
  at: number
  actor: string
  action: string
  subject: string | null
  /** 0 or 1: SQLite has no boolean. */
  allowed: number
  detail: string | null
}

export interface SettingTable {
  name: string
  value: string
}

export interface MigrationTable {
  number: number
  name: string
}

export interface Tables {
  accounts: AccountTable
  keys: KeyTable
  balances: BalanceTable
  ledger: LedgerTable
  audit: AuditTable
  settings: SettingTable
  migrations: MigrationTable
}

export function accountColumns(row: AccountRow): AccountTable {
  return {
    id: row.id,
    parent: row.parent,
    kind: row.kind,
    name: row.name,
    limits: JSON.stringify(row.limits),
    models: listColumn(row.models),
    tools: listColumn(row.tools),
    roles: JSON.stringify(row.roles),
    labels: JSON.stringify(row.labels),
    expires_at: row.expiresAt,
    revoked_at: row.revokedAt,
    created_at: row.createdAt,
  }
}

/** Columns of the fields a patch names; a field that is absent or undefined is left alone. */
export function accountPatch(patch: Partial<AccountRow>): Partial<AccountTable> {
  const columns: Partial<AccountTable> = {}
  if (patch.name !== undefined) columns.name = patch.name
  if (patch.limits !== undefined) columns.limits = JSON.stringify(patch.limits)
  if (patch.models !== undefined) columns.models = listColumn(patch.models)
  if (patch.tools !== undefined) columns.tools = listColumn(patch.tools)
  if (patch.roles !== undefined) columns.roles = JSON.stringify(patch.roles)
  if (patch.labels !== undefined) columns.labels = JSON.stringify(patch.labels)
  if (patch.expiresAt !== undefined) columns.expires_at = patch.expiresAt
  if (patch.revokedAt !== undefined) columns.revoked_at = patch.revokedAt
  return columns
}

// Number() because Postgres answers bigint as text; the JSON was written by accountColumns, so its shape is known.
export function accountRow(row: AccountTable): AccountRow {
  return {
    id: row.id,
    parent: row.parent,
    kind: row.kind,
    name: row.name,
    limits: JSON.parse(row.limits) as AccountRow['limits'],
    models: listField(row.models),
    tools: listField(row.tools),
    roles: JSON.parse(row.roles) as AccountRow['roles'],
    labels: JSON.parse(row.labels) as AccountRow['labels'],
    expiresAt: maybe(row.expires_at),
    revokedAt: maybe(row.revoked_at),
    createdAt: Number(row.created_at),
  }
}

export function keyRow(row: KeyTable): KeyRow {
  return { id: row.id, digest: row.digest, createdAt: Number(row.created_at) }
}

/** Ledger columns in the order `pushLedgerRow` writes their values. */
export const ledgerColumns = [
  'id',
  'call',
  'attempt',
  'at',
  'account',
  'session',
  'kind',
  'model',
  'provider',
  'upstream_model',
  'tool',
  'rule',
  'outcome',
  'code',
  'usd',
  'tokens',
  'requests',
  'tool_calls',
  'input',
  'output',
  'cache_read',
  'cache_write',
  'reasoning',
  'usage_source',
  'price_version',
  'latency_ms',
  'first_byte_ms',
  'step',
  'traceparent',
  'labels',
] as const satisfies readonly (keyof LedgerTable)[]

export type Value = string | number | null

/** Appends a row's values to a flat list: one call with many arguments, the cheapest way to fill it. */
export function pushLedgerRow(values: Value[], row: LedgerRow): void {
  values.push(
    row.id,
    row.call,
    row.attempt,
    row.at,
    row.account,
    row.session,
    row.kind,
    row.model,
    row.provider,
    row.upstreamModel,
    row.tool,
    row.rule,
    row.outcome,
    row.code,
    row.usd,
    row.tokens,
    row.requests,
    row.tool_calls,
    row.input,
    row.output,
    row.cacheRead,
    row.cacheWrite,
    row.reasoning,
    row.usageSource,
    row.priceVersion,
    row.latencyMs,
    row.firstByteMs,
    row.step,
    row.traceparent,
    row.labels,
  )
}

export function ledgerRow(row: LedgerTable): LedgerRow {
  return {
    id: row.id,
    call: row.call,
    attempt: Number(row.attempt),
    at: Number(row.at),
    account: row.account,
    session: row.session,
    kind: row.kind,
    model: row.model,
    provider: row.provider,
    upstreamModel: row.upstream_model,
    tool: row.tool,
    rule: row.rule,
    outcome: row.outcome,
    code: row.code,
    usd: Number(row.usd),
    tokens: Number(row.tokens),
    requests: Number(row.requests),
    tool_calls: Number(row.tool_calls),
    input: Number(row.input),
    output: Number(row.output),
    cacheRead: Number(row.cache_read),
    cacheWrite: Number(row.cache_write),
    reasoning: Number(row.reasoning),
    usageSource: row.usage_source,
    priceVersion: row.price_version,
    latencyMs: Number(row.latency_ms),
    firstByteMs: maybe(row.first_byte_ms),
    step: row.step,
    traceparent: row.traceparent,
    labels: row.labels,
  }
}

function listColumn(list: readonly string[] | null): string | null {
  return list === null ? null : JSON.stringify(list)
}

function listField(text: string | null): readonly string[] | null {
  return text === null ? null : (JSON.parse(text) as string[])
}

function maybe(value: number | null): number | null {
  return value === null ? null : Number(value)
}
