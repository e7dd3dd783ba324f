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
    name: 'tables',
    statements: (schema, kind) => {
      // Pages are cut by id, so ids must compare by byte wherever the server's locale says otherwise.
      const id = kind === 'postgres' ? sql`text collate "C"` : 'text'
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
          .addColumn('created_at', 'bigint', (c) => c.notNull())
          .addColumn('version', 'bigint', (c) => c.notNull()),
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
            .addColumn('period', id, (c) => c.notNull())
            .addColumn('starts_at', 'bigint', (c) => c.notNull())
            .addColumn('writer', id, (c) => c.notNull())
            .addColumn('usd', 'bigint', (c) => c.notNull())
            .addColumn('tokens', 'bigint', (c) => c.notNull())
            .addColumn('requests', 'bigint', (c) => c.notNull())
            .addColumn('tool_calls', 'bigint', (c) => c.notNull())
            .addColumn('leased_usd', 'bigint', (c) => c.notNull())
            .addColumn('leased_tokens', 'bigint', (c) => c.notNull())
            .addColumn('leased_requests', 'bigint', (c) => c.notNull())
            .addColumn('leased_tool_calls', 'bigint', (c) => c.notNull())
            .addPrimaryKeyConstraint('balances_key', ['account', 'period', 'starts_at', 'writer']),
        ),
        withoutRowid(
          kind,
          schema
            .createTable('ledger')
            .addColumn('id', id, (c) => c.primaryKey().notNull())
            .addColumn('writer', id, (c) => c.notNull())
            .addColumn('seq', 'bigint', (c) => c.notNull())
            .addColumn('account', id, (c) => c.notNull())
            .addColumn('at', 'bigint', (c) => c.notNull())
            .addColumn('booked', 'bigint', (c) => c.notNull())
            .addColumn('usd', 'bigint', (c) => c.notNull())
            .addColumn('tokens', 'bigint', (c) => c.notNull())
            .addColumn('requests', 'bigint', (c) => c.notNull())
            .addColumn('tool_calls', 'bigint', (c) => c.notNull())
            .addColumn('body', 'text', (c) => c.notNull())
            .addColumn('notes', 'text')
            .addColumn('notes_hash', 'text', (c) => c.notNull())
            .addColumn('hash', 'text', (c) => c.notNull()),
        ),
        schema.createIndex('ledger_account').on('ledger').columns(['account', 'id']),
        schema
          .createTable('writers')
          .addColumn('id', id, (c) => c.primaryKey().notNull())
          .addColumn('place', 'text', (c) => c.notNull())
          .addColumn('started_at', 'bigint', (c) => c.notNull())
          .addColumn('expires_at', 'bigint', (c) => c.notNull())
          .addColumn('ended_at', 'bigint')
          .addColumn('wound_up_at', 'bigint')
          .addColumn('seq', 'bigint', (c) => c.notNull())
          .addColumn('hash', 'text', (c) => c.notNull()),
        schema
          .createTable('marks')
          .addColumn('id', id, (c) => c.primaryKey().notNull())
          .addColumn('writer', id, (c) => c.notNull())
          .addColumn('mark', 'text', (c) => c.notNull()),
        schema
          .createTable('changes')
          .addColumn('seq', kind === 'postgres' ? 'bigserial' : 'integer', (c) => c.primaryKey())
          .addColumn('at', 'bigint', (c) => c.notNull())
          .addColumn('kind', 'text', (c) => c.notNull())
          .addColumn('subject', 'text', (c) => c.notNull()),
        schema.createIndex('changes_at').on('changes').column('at'),
        schema
          .createTable('audit')
          .addColumn('id', id, (c) => c.primaryKey().notNull())
          .addColumn('at', 'bigint', (c) => c.notNull())
          .addColumn('actor', 'text', (c) => c.notNull())
          .addColumn('action', 'text', (c) => c.notNull())
          .addColumn('subject', 'text')
          .addColumn('allowed', 'integer', (c) => c.notNull())
          .addColumn('detail', 'text')
          .addColumn('writer', id, (c) => c.notNull())
          .addColumn('seq', 'bigint', (c) => c.notNull())
          .addColumn('detail_hash', 'text', (c) => c.notNull())
          .addColumn('hash', 'text', (c) => c.notNull()),
        schema
          .createTable('checkpoints')
          .addColumn('writer', id, (c) => c.primaryKey().notNull())
          .addColumn('seq', 'bigint', (c) => c.notNull())
          .addColumn('hash', 'text', (c) => c.notNull()),
        schema
          .createTable('removed')
          .addColumn('account', id, (c) => c.primaryKey().notNull())
          .addColumn('usd', 'bigint', (c) => c.notNull())
          .addColumn('tokens', 'bigint', (c) => c.notNull())
          .addColumn('requests', 'bigint', (c) => c.notNull())
          .addColumn('tool_calls', 'bigint', (c) => c.notNull()),
        schema
          .createTable('settings')
          .addColumn('name', 'text', (c) => c.primaryKey().notNull())
          .addColumn('value', 'text', (c) => c.notNull()),
      ]
    },
  },
  {
    name: 'alerts',
    statements: (schema, kind) => {
      const id = kind === 'postgres' ? sql`text collate "C"` : 'text'
      return [
        schema
          .createTable('alerts')
          .addColumn('account', id, (c) => c.notNull())
          .addColumn('unit', 'text', (c) => c.notNull())
          .addColumn('period', 'text', (c) => c.notNull())
          .addColumn('starts_at', 'bigint', (c) => c.notNull())
          .addColumn('threshold', 'integer', (c) => c.notNull())
          .addColumn('max', 'bigint', (c) => c.notNull())
          .addColumn('id', 'text', (c) => c.notNull())
          .addColumn('at', 'bigint', (c) => c.notNull())
          .addPrimaryKeyConstraint('alerts_key', ['account', 'unit', 'period', 'starts_at', 'threshold', 'max']),
        schema
          .createTable('deliveries')
          .addColumn('id', 'text', (c) => c.notNull())
          .addColumn('url', 'text', (c) => c.notNull())
          .addColumn('event', 'text', (c) => c.notNull())
          .addColumn('body', 'text', (c) => c.notNull())
          .addColumn('created_at', 'bigint', (c) => c.notNull())
          .addColumn('attempts', 'integer', (c) => c.notNull())
          .addColumn('next_at', 'bigint', (c) => c.notNull())
          .addColumn('ended_at', 'bigint')
          .addColumn('outcome', 'text')
          .addPrimaryKeyConstraint('deliveries_key', ['id', 'url']),
        schema.createIndex('deliveries_due').on('deliveries').columns(['url', 'ended_at', 'next_at']),
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
  const fresh = !(await hasMigrations(database))
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

/** Whether the table is there: in Postgres where names without a schema are looked for, so not in another program's. */
async function hasMigrations({ db, kind }: Migratable): Promise<boolean> {
  const look =
    kind === 'sqlite'
      ? sql<{ found: string }>`select name as found from sqlite_master where type = 'table' and name = 'migrations'`
      : sql<{ found: string | null }>`select to_regclass('migrations')::text as found`
  const { rows } = await look.execute(db)
  return rows.some(({ found }) => found !== null)
}

/** Clusters a SQLite table by its primary key: one tree to write instead of two. */
function withoutRowid<T extends { modifyEnd(modifier: ReturnType<typeof sql>): T }>(kind: DatabaseKind, table: T): T {
  return kind === 'sqlite' ? table.modifyEnd(sql`without rowid`) : table
}
