/** What a SQL database gives the store, beside queries: transactions, the ledger's own lane, marks. @module */
import { type CompiledQuery, type Kysely, sql } from 'kysely'
import type { LedgerGroup } from './ledger.ts'
import type { DatabaseKind } from './migrations.ts'
import type { Tables } from './schema.ts'
import type { Mark } from './store.ts'

/** What came of a group: lines that were there already (then nothing was written), and where the chain ends. */
export type Posted =
  | { readonly known: readonly number[]; readonly seq: number; readonly hash: string }
  | { readonly fenced: true }

export interface Outcome {
  readonly rows: readonly unknown[]
  readonly changes: number
}

export interface SqlDatabase {
  readonly kind: DatabaseKind
  readonly db: Kysely<Tables>
  /** Runs the statements in one transaction, in order with `post`. */
  batch(statements: readonly CompiledQuery[]): Promise<readonly Outcome[]>
  /** Runs the statements in one transaction that may take long; where the database allows it nothing waits for them. */
  beside(statements: readonly CompiledQuery[]): Promise<readonly Outcome[]>
  /** Writes a ledger group as the writer's next lines, in one transaction. */
  post(writer: string, group: LedgerGroup): Promise<Posted>
  readonly marks: Marks
  /** Where this process runs; see `WriterRow.place`. */
  readonly place: string
  /** Whether the process at a place is certainly gone; false where that cannot be told from here. */
  gone(place: string): boolean
  /** False once nothing can be asked any more. */
  alive(): boolean
  close(): Promise<void>
}

/** Attempts that may have left, kept so that the death of their process does not take them along. */
export interface Marks {
  /** Durable against the death of the process when this returns or resolves. */
  add(writer: string, marks: readonly Mark[]): void | Promise<void>
  /** These lines are in the ledger; their marks may go. */
  forget(writer: string, ids: readonly string[]): void
  of(writer: string): Promise<readonly Mark[]>
  drop(writer: string): Promise<void>
}

/**
 * What keeps one transaction at a time at work on the common balances; SQLite has one writer at a time anyway. Without
 * it a counter that is counted again would overwrite what another process hands over meanwhile.
 */
export function alone({ kind, db }: Pick<SqlDatabase, 'kind' | 'db'>): readonly CompiledQuery[] {
  return kind === 'sqlite' ? [] : [sql`select pg_advisory_xact_lock(${sql.lit(locks.balances)})`.compile(db)]
}

/** Wakes the processes that listen, once the transaction is committed; nobody listens at a SQLite file. */
export function wake({ kind, db }: Pick<SqlDatabase, 'kind' | 'db'>): readonly CompiledQuery[] {
  return kind === 'sqlite' ? [] : [sql`select pg_notify(${sql.lit(channel)}, '')`.compile(db)]
}

/** Where Postgres tells processes that something has changed. */
export const channel = 'gatehouse'

/** Numbers of our advisory locks in Postgres. */
export const locks = { balances: 7_410_001, migrations: 7_410_002 } as const

/** The database's own clock, ms since the epoch. */
export function nowOf(kind: DatabaseKind) {
  return kind === 'sqlite'
    ? sql<number>`cast(unixepoch('subsec') * 1000 as integer)`
    : sql<number>`cast(extract(epoch from clock_timestamp()) * 1000 as bigint)`
}
