import assert from 'node:assert/strict'
import { DatabaseSync, type SQLInputValue } from 'node:sqlite'
import { describe, it } from 'node:test'
import { type CompiledQuery, Kysely, SqliteDialect } from 'kysely'
import { compileOnly } from '../../src/stores/dialect.ts'
import { type Migratable, type Migration, migrate, migrations } from '../../src/stores/migrations.ts'
import type { Tables } from '../../src/stores/schema.ts'

const widen: Migration = {
  name: 'a second one',
  statements: (schema) => [schema.alterTable('settings').addColumn('more', 'text'), schema.createTable('extra')],
}

describe('migrations', () => {
  it('leave the old schema when one of them fails half way', async () => {
    const { database, tables, raw } = open()
    await migrate(database)
    const before = tables()
    // The second statement of this one has no column, which SQLite refuses after the first has run.
    await assert.rejects(migrate(database, [...migrations, widen]))
    assert.deepEqual(tables(), before)
    await migrate(database)
    raw.close()
  })

  it('leave an empty database empty when they fail', async () => {
    const { database, tables, raw } = open()
    await assert.rejects(migrate(database, [...migrations, widen]))
    assert.deepEqual(tables(), [])
    raw.close()
  })

  it('are applied once each', async () => {
    const { database, raw } = open()
    const more: Migration = { name: 'more', statements: (s) => [s.alterTable('settings').addColumn('more', 'text')] }
    await migrate(database)
    await migrate(database, [...migrations, more])
    await migrate(database, [...migrations, more])
    const names = raw.prepare('SELECT number, name FROM migrations ORDER BY number').all()
    assert.deepEqual(
      names.map((row) => ({ ...row })),
      [
        ...migrations.map(({ name }, at) => ({ number: at + 1, name })),
        { number: migrations.length + 1, name: 'more' },
      ],
    )
    raw.close()
  })

  it('refuse a database of a newer program', async () => {
    const { database, raw } = open()
    await migrate(database)
    raw.exec("INSERT INTO migrations VALUES (99, 'later')")
    await assert.rejects(migrate(database), /99 "later".*newer Gatehouse/)
    raw.close()
  })

  it('are spoken in Postgres without what only SQLite knows', () => {
    const db = compileOnly('postgres')
    const text = migrations.flatMap((m) => m.statements(db.schema, 'postgres').map((s) => s.compile().sql)).join('\n')
    assert.doesNotMatch(text, /rowid|autoincrement|datetime/i)
    assert.match(text, /"id" text collate "C"/)
  })
})

/** A database on this thread: what is tested is the list, not the way to the worker. */
function open(): { database: Migratable; raw: DatabaseSync; tables: () => unknown[] } {
  const raw = new DatabaseSync(':memory:')
  const run = (query: CompiledQuery) => raw.prepare(query.sql).all(...(query.parameters as SQLInputValue[]))
  const db = new Kysely<Tables>({
    dialect: new SqliteDialect({
      database: {
        close: () => undefined,
        prepare: (text) => {
          const statement = raw.prepare(text)
          return {
            reader: statement.columns().length > 0,
            all: (params) => statement.all(...(params as SQLInputValue[])),
            run: (params) => statement.run(...(params as SQLInputValue[])),
            iterate: (params) => statement.iterate(...(params as SQLInputValue[])),
          }
        },
      },
    }),
  })
  const database: Migratable = {
    kind: 'sqlite',
    db,
    async batch(statements) {
      raw.exec('BEGIN')
      try {
        for (const statement of statements) run(statement)
        raw.exec('COMMIT')
      } catch (error) {
        raw.exec('ROLLBACK')
        throw error
      }
    },
  }
  const tables = () => raw.prepare('SELECT name, sql FROM sqlite_master ORDER BY name').all()
  return { database, raw, tables }
}
