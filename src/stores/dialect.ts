/** Kysely over a function that runs statements: it builds queries and knows nothing of connections. @module */
import {
  type CompiledQuery,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
} from 'kysely'
import type { Outcome } from './database.ts'
import type { DatabaseKind } from './migrations.ts'
import type { Tables } from './schema.ts'

/** Runs statements in one transaction. */
export type Batch = (statements: readonly CompiledQuery[]) => Promise<readonly Outcome[]>

const spoken = {
  sqlite: { Adapter: SqliteAdapter, Introspector: SqliteIntrospector, Compiler: SqliteQueryCompiler },
  postgres: { Adapter: PostgresAdapter, Introspector: PostgresIntrospector, Compiler: PostgresQueryCompiler },
} satisfies Record<DatabaseKind, unknown>

/** @param batch runs the queries, one at a time */
export function dialectOver(kind: DatabaseKind, batch: Batch): Dialect {
  const { Adapter, Introspector, Compiler } = spoken[kind]
  const connection: DatabaseConnection = {
    async executeQuery<R>(query: CompiledQuery) {
      const [outcome] = await batch([query])
      if (outcome === undefined) throw new Error('the database gave no answer')
      return { rows: outcome.rows as R[], numAffectedRows: BigInt(outcome.changes) }
    },
    streamQuery() {
      throw new Error('streaming is not offered')
    },
  }
  // A transaction held open across turns would take in other callers' statements on the one connection.
  const single = () => Promise.reject(new Error('use batch: it runs statements as one transaction'))
  const driver: Driver = {
    init: async () => undefined,
    acquireConnection: async () => connection,
    beginTransaction: single,
    commitTransaction: single,
    rollbackTransaction: single,
    releaseConnection: async () => undefined,
    destroy: async () => undefined,
  }
  return {
    createAdapter: () => new Adapter(),
    createDriver: () => driver,
    createIntrospector: (db) => new Introspector(db),
    createQueryCompiler: () => new Compiler(),
  }
}

/** For making SQL text of queries that are run elsewhere. */
export function compileOnly(kind: DatabaseKind): Kysely<Tables> {
  const refuse: Batch = () => Promise.reject(new Error('compiles only'))
  return new Kysely<Tables>({ dialect: dialectOver(kind, refuse) })
}
