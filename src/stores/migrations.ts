/**
 * How the tables came to be: one list for every database, applied in one transaction at open. A released entry is never
 * edited; a change is a new entry at the end.
 * @module
 */
import { type CompiledQuery, type Kysely, type SchemaModule, sql } from 'kysely'
import type { Tables } from './schema.ts'

export type DatabaseKind = 'sqlite' | 'postgres'

export interface Migration {
  readonly name: string
  /** The statements, in order. Compiled only, not run: the caller runs all of them in one transaction. */
  readonly statements: (schema: SchemaModule, kind: DatabaseKind) => readonly { compile(): CompiledQuery }[]
}

/** What migrating needs of a database. */
export interface Migratable {
  readonly kind: DatabaseKind
  readonly db: Kysely<Tables>
  /** Runs the statements in one transaction: all or nothing. */
  batch(statements: readonly CompiledQuery[]): Promise<unknown>
}

export const migrations: readonly Migration[] = [
  {
    name: 'first tables',
    statements: (schema, kind) => {
      // Pages are cut by id, so ids must compare by byte wherever the server's locale says otherwise.
      const id = kind === 'postgres' ? sql`text collate "C"` : 'text'
      const ledger = schema
        .createTable('ledger')
        .addColumn('id', id, (c) => c.primaryKey().notNull())
        .addColumn('call', 'text', (c) => c.notNull())
        .addColumn('attempt', 'integer', (c) => c.notNull())
        .addColumn('at', 'bigint', (c) => c.notNull())
        .addColumn('account', id, (c) => c.notNull())
        .addColumn('session', 'text')
        .addColumn('kind', 'text', (c) => c.notNull())
        .addColumn('model', 'text')
        .addColumn('provider', 'text')
        .addColumn('upstream_model', 'text')
        .addColumn('tool', 'text')
        .addColumn('rule', 'text')
        .addColumn('outcome', 'text', (c) => c.notNull())
        .addColumn('code', 'text')
        .addColumn('usd', 'bigint', (c) => c.notNull())
        .addColumn('tokens', 'bigint', (c) => c.notNull())
        .addColumn('requests', 'bigint', (c) => c.notNull())
        .addColumn('tool_calls', 'bigint', (c) => c.notNull())
        .addColumn('input', 'bigint', (c) => c.notNull())
        .addColumn('output', 'bigint', (c) => c.notNull())
        .addColumn('cache_read', 'bigint', (c) => c.notNull())
        .addColumn('cache_write', 'bigint', (c) => c.notNull())
        .addColumn('reasoning', 'bigint', (c) => c.notNull())
        .addColumn('usage_source', 'text', (c) => c.notNull())
        .addColumn('price_version', 'text')
        .addColumn('latency_ms', 'double precision', (c) => c.notNull())
        .addColumn('first_byte_ms', 'double precision')
        .addColumn('step', 'text')
        .addColumn('traceparent', 'text')
        .addColumn('labels', 'text')
      return [
        schema
          .createTable('accounts')
          .addColumn('id', id, (c) => c.primaryKey().notNull())
          .addColumn('parent', id, (c) => c.references('accounts.id'))
          .addColumn('kind', 'text', (c) => c.notNull())
          .addColumn('name', 'text', (c) => c.notNull())
          .addColumn('limits', 'text', (c) => c.notNull())
          .addColumn('models', 'text')
          .addColumn('tools', 'text')
          .addColumn('roles', 'text', (c) => c.notNull())
          .addColumn('labels', 'text', (c) => c.notNull())
          .addColumn('expires_at', 'bigint')
          .addColumn('revoked_at', 'bigint')
          .addColumn('created_at', 'bigint', (c) => c.notNull()),
        schema.createIndex('accounts_parent').on('accounts').columns(['parent', 'id']),
        schema
          .createTable('keys')
          .addColumn('id', id, (c) => c.primaryKey().notNull().references('accounts.id'))
          .addColumn('digest', 'text', (c) => c.notNull().unique())
          .addColumn('created_at', 'bigint', (c) => c.notNull()),
        withoutRowid(
          kind,
          schema
            .createTable('balances')
            .addColumn('account', id, (c) => c.notNull())
            .addColumn('period', 'text', (c) => c.notNull())
            .addColumn('starts_at', 'bigint', (c) => c.notNull())
            .addColumn('usd', 'bigint', (c) => c.notNull())
            .addColumn('tokens', 'bigint', (c) => c.notNull())
            .addColumn('requests', 'bigint', (c) => c.notNull())
            .addColumn('tool_calls', 'bigint', (c) => c.notNull())
            .addPrimaryKeyConstraint('balances_key', ['account', 'period', 'starts_at']),
        ),
        withoutRowid(kind, ledger),
        schema.createIndex('ledger_account').on('ledger').columns(['account', 'id']),
        schema
          .createTable('audit')
          .addColumn('id', id, (c) => c.primaryKey().notNull())
          .addColumn('at', 'bigint', (c) => c.notNull())
          .addColumn('actor', 'text', (c) => c.notNull())
          .addColumn('action', 'text', (c) => c.notNull())
          .addColumn('subject', 'text')
          .addColumn('allowed', 'integer', (c) => c.notNull())
          .addColumn('detail', 'text'),
        schema
          .createTable('settings')
          .addColumn('name', 'text', (c) => c.primaryKey().notNull())
          .addColumn('value', 'text', (c) => c.notNull()),
      ]
    },
  },
]

/**
 * Brings a database to the newest of these migrations, in one transaction: a failure or a kill leaves it as it was.
 *
 * @param list oldest first; the program's own list unless a test passes another
 * @throws {Error} when the database has been migrated by a newer program
 */
export async function migrate(database: Migratable, list: readonly Migration[] = migrations): Promise<void> {
  const { db, kind } = database
  const existing = await db.introspection.getTables()
  const fresh = !existing.some((table) => table.name === 'migrations')
  const applied = fresh ? [] : await db.selectFrom('migrations').selectAll().orderBy('number').execute()
  for (const [index, entry] of applied.entries()) {
    if (list[index]?.name === entry.name) continue
    throw new Error(
      `the database has the migration ${entry.number} "${entry.name}", which this program does not know: ` +
        'it was written by a newer Gatehouse; start that version, or restore a backup made before the upgrade',
    )
  }
  if (applied.length === list.length) return
  const statements: CompiledQuery[] = []
  if (fresh) {
    const table = db.schema
      .createTable('migrations')
      .addColumn('number', 'integer', (c) => c.primaryKey().notNull())
      .addColumn('name', 'text', (c) => c.notNull())
    statements.push(table.compile())
  }
  for (const [index, migration] of list.entries()) {
    if (index < applied.length) continue
    for (const statement of migration.statements(db.schema, kind)) statements.push(statement.compile())
    const entry = { number: index + 1, name: migration.name }
    statements.push(db.insertInto('migrations').values(entry).compile())
  }
  await database.batch(statements)
}

/** Clusters a SQLite table by its primary key: one tree to write instead of two. */
function withoutRowid<T extends { modifyEnd(modifier: ReturnType<typeof sql>): T }>(kind: DatabaseKind, table: T): T {
  return kind === 'sqlite' ? table.modifyEnd(sql`without rowid`) : table
}
