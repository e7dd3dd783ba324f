/**
 * Everything kept at one moment, read apart from whoever writes it: for verifying. Whole numbers come as text, so that
 * nothing is rounded before it is judged.
 * @module
 */
import { type CompiledQuery, type Kysely, sql } from 'kysely'
import type { Tables } from './schema.ts'

export interface ChainLine {
  readonly writer: string
  readonly seq: string
  readonly id: string
  readonly account: string
  readonly at: string
  readonly booked: string
  readonly usd: string
  readonly tokens: string
  readonly requests: string
  readonly tool_calls: string
  readonly body: string
  readonly notes: string | null
  readonly notes_hash: string
  readonly hash: string
}

export interface AuditLine {
  readonly writer: string
  readonly seq: string
  readonly id: string
  readonly at: string
  readonly actor: string
  readonly action: string
  readonly subject: string | null
  readonly allowed: string
  readonly detail: string | null
  readonly detail_hash: string
  readonly hash: string
}

interface AmountText {
  readonly usd: string
  readonly tokens: string
  readonly requests: string
  readonly tool_calls: string
}

/** A counter, summed over all writers. */
export interface CounterLine extends AmountText {
  readonly account: string
  readonly period: string
  readonly starts_at: string
}

export interface HeadLine {
  readonly writer: string
  readonly seq: string
  readonly hash: string
}

type Pages<T> = AsyncIterable<readonly T[]>

export interface Snapshot {
  /** By writer and seq. */
  lines(): Pages<ChainLine>
  /** By writer and seq. */
  audit(): Pages<AuditLine>
  /** By account, period and start. */
  counters(): Pages<CounterLine>
  accounts(): Pages<{ readonly id: string; readonly parent: string | null }>
  /** Writers with what they last told of their chain. */
  writers(): Pages<HeadLine>
  /** Where chains begin whose first lines were removed. */
  checkpoints(): Pages<HeadLine>
  /** What removed lines came to, by account. */
  removed(): Pages<AmountText & { readonly account: string }>
  /** Ids that more than one line has. */
  repeated(): Pages<{ readonly id: string }>
  settings(): Pages<{ readonly name: string; readonly value: string }>
  close(): Promise<void>
}

/** Runs a query in the one transaction; every value that is not null comes as text. */
export type ReadPages = (query: CompiledQuery) => Pages<Record<string, string | null>>

/** @param db compiles only */
export function snapshotOver(db: Kysely<Tables>, read: ReadPages, close: () => Promise<void>): Snapshot {
  const ask = <T>(query: { compile(): CompiledQuery }) => read(query.compile()) as unknown as Pages<T>
  const total = (unit: 'usd' | 'tokens' | 'requests' | 'tool_calls') => sql<number>`sum(${sql.ref(unit)})`.as(unit)
  return {
    lines: () => ask(db.selectFrom('ledger').selectAll().orderBy('writer').orderBy('seq').orderBy('id')),
    audit: () => ask(db.selectFrom('audit').selectAll().orderBy('writer').orderBy('seq').orderBy('id')),
    counters: () =>
      ask(
        db
          .selectFrom('balances')
          .select(['account', 'period', 'starts_at'])
          .select([total('usd'), total('tokens'), total('requests'), total('tool_calls')])
          .groupBy(['account', 'period', 'starts_at'])
          .orderBy('account')
          .orderBy('period')
          .orderBy('starts_at'),
      ),
    accounts: () => ask(db.selectFrom('accounts').select(['id', 'parent']).orderBy('id')),
    writers: () => ask(db.selectFrom('writers').select(['id as writer', 'seq', 'hash']).orderBy('id')),
    checkpoints: () => ask(db.selectFrom('checkpoints').selectAll().orderBy('writer')),
    removed: () => ask(db.selectFrom('removed').selectAll().orderBy('account')),
    repeated: () =>
      ask(db.selectFrom('ledger').select('id').groupBy('id').having(sql<number>`count(*)`, '>', 1).orderBy('id')),
    settings: () => ask(db.selectFrom('settings').selectAll().orderBy('name')),
    close,
  }
}
