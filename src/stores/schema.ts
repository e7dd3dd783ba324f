/** Tables as Kysely sees them, and rows to nouns and back. Names and types are portable: text, bigint and JSON as text. @module */
import type { Amounts, LedgerRow } from '../call.ts'
import type { AccountPatch, AccountRow, BalanceRow, Change, KeyRow, WriterRow } from './store.ts'

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
  /** Counts changes, from 1. */
  version: number
}

export interface KeyTable {
  id: string
  digest: string
  created_at: number
}

export interface BalanceTable extends AmountColumns {
  account: string
  /** A window and, where it is not UTC, its zone; the word window itself is reserved in Postgres. */
  period: string
  starts_at: number
  /** Empty for what processes that are gone have left. */
  writer: string
  leased_usd: number
  leased_tokens: number
  leased_requests: number
  leased_tool_calls: number
}

export interface LedgerTable extends AmountColumns {
  id: string
  writer: string
  seq: number
  account: string
  at: number
  booked: number
  /** JSON object. */
  body: string
  /** JSON object, or null: there were none, or they were erased. */
  notes: string | null
  /** SHA-256 of the notes; empty when there were none. */
  notes_hash: string
  hash: string
}

export interface WriterTable {
  id: string
  place: string
  started_at: number
  expires_at: number
  ended_at: number | null
  /** When what it left was handed on. */
  wound_up_at: number | null
  seq: number
  hash: string
}

export interface MarkTable {
  id: string
  writer: string
  /** JSON of a Mark. */
  mark: string
}

export interface ChangeTable {
  seq: number
  at: number
  kind: Change['kind']
  subject: string
}

export interface AuditTable {
  id: string
  at: number
  actor: string
  action: string
  subject: string | null
  /** 0 or 1: SQLite has no boolean. */
  allowed: number
  /** JSON object, or null: there was none, or it was erased. */
  detail: string | null
  writer: string
  seq: number
  /** SHA-256 of the detail; empty when there was none. */
  detail_hash: string
  hash: string
}

/** Where a chain begins now that its first rows are gone. */
export interface CheckpointTable {
  writer: string
  /** Of the last row that was removed. */
  seq: number
  hash: string
}

/** What removed rows of an account and everything below it came to. */
export interface RemovedTable extends AmountColumns {
  account: string
}

export interface SettingTable {
  name: string
  value: string
}

export interface AlertTable {
  account: string
  unit: keyof Amounts
  period: string
  starts_at: number
  /** Percent. */
  threshold: number
  max: number
  /** Of the message. */
  id: string
  at: number
}

export interface DeliveryTable {
  /** Of the message: the same at every address and every try. */
  id: string
  url: string
  event: string
  /** JSON, as it is sent. */
  body: string
  created_at: number
  attempts: number
  /** The next try; while one is at work, when another process may take it up. */
  next_at: number
  ended_at: number | null
  outcome: 'delivered' | 'given_up' | null
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
  writers: WriterTable
  marks: MarkTable
  changes: ChangeTable
  audit: AuditTable
  checkpoints: CheckpointTable
  removed: RemovedTable
  settings: SettingTable
  alerts: AlertTable
  deliveries: DeliveryTable
  migrations: MigrationTable
}

export type Value = string | number | null

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
    version: row.version,
  }
}

/** Columns of the fields a patch names; a field that is absent or undefined is left alone. */
export function accountPatch(patch: AccountPatch): Partial<AccountTable> {
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
    version: Number(row.version),
  }
}

export function keyRow(row: KeyTable): KeyRow {
  return { id: row.id, digest: row.digest, createdAt: Number(row.created_at) }
}

export function balanceRow(row: BalanceTable): BalanceRow {
  return {
    account: row.account,
    period: row.period,
    startsAt: Number(row.starts_at),
    writer: row.writer,
    used: amounts(row),
    leased: {
      usd: Number(row.leased_usd),
      tokens: Number(row.leased_tokens),
      requests: Number(row.leased_requests),
      tool_calls: Number(row.leased_tool_calls),
    },
  }
}

export function amounts(row: Amounts): Amounts {
  return {
    usd: Number(row.usd),
    tokens: Number(row.tokens),
    requests: Number(row.requests),
    tool_calls: Number(row.tool_calls),
  }
}

export function ledgerRow(row: LedgerTable): LedgerRow {
  return {
    id: row.id,
    writer: row.writer,
    seq: Number(row.seq),
    account: row.account,
    at: Number(row.at),
    booked: Number(row.booked),
    ...amounts(row),
    body: row.body,
    notes: row.notes,
    hash: row.hash,
  }
}

export function writerRow(row: WriterTable): WriterRow {
  return {
    id: row.id,
    place: row.place,
    startedAt: Number(row.started_at),
    expiresAt: Number(row.expires_at),
    endedAt: maybe(row.ended_at),
    seq: Number(row.seq),
    hash: row.hash,
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
