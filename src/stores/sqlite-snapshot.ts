/**
 * One moment of a SQLite file, over a connection of its own that only reads. With the write-ahead log a gateway goes on
 * writing meanwhile. It reads on the thread that asks, so it is for commands and not for a process that serves.
 * @module
 */
import { existsSync } from 'node:fs'
import { DatabaseSync, type SQLInputValue } from 'node:sqlite'
import { type CompiledQuery, DummyDriver, Kysely, SqliteAdapter, SqliteIntrospector, SqliteQueryCompiler } from 'kysely'
import { migrations } from './migrations.ts'
import type { Tables } from './schema.ts'
import { type Snapshot, snapshotOver } from './snapshot.ts'

const pageRows = 1000

/** @throws {Error} there is no such file, it is damaged, or it was written by another version */
export function openSqliteSnapshot(path: string): Snapshot {
  if (!existsSync(path)) throw new Error(`there is no database at ${path}`)
  const file = new DatabaseSync(path, { readOnly: true })
  try {
    file.exec('PRAGMA busy_timeout = 5000')
    file.exec('BEGIN')
    known(file)
  } catch (error) {
    file.close()
    throw new Error(`cannot read ${path}: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
  }
  const db = new Kysely<Tables>({
    dialect: {
      createAdapter: () => new SqliteAdapter(),
      createDriver: () => new DummyDriver(),
      createIntrospector: (of) => new SqliteIntrospector(of),
      createQueryCompiler: () => new SqliteQueryCompiler(),
    },
  })
  return snapshotOver(
    db,
    (query) => pages(file, query),
    async () => file.close(),
  )
}

function known(file: DatabaseSync): void {
  const names = file
    .prepare('SELECT name FROM migrations ORDER BY number')
    .all()
    .map((row) => row.name)
  if (names.length === migrations.length && names.every((name, at) => name === migrations[at]?.name)) return
  throw new Error(
    'it was written by another version of Gatehouse; verify with that version, or start this one on it first',
  )
}

async function* pages(file: DatabaseSync, { sql, parameters }: CompiledQuery) {
  const statement = file.prepare(sql)
  statement.setReadBigInts(true)
  let page: Record<string, string | null>[] = []
  for (const row of statement.iterate(...(parameters as SQLInputValue[]))) {
    page.push(Object.fromEntries(Object.entries(row).map(([name, value]) => [name, text(value)])))
    if (page.length < pageRows) continue
    yield page
    page = []
  }
  yield page
}

function text(value: unknown): string | null {
  if (value === null) return null
  // Bytes where text should be are as wrong as any other text.
  return value instanceof Uint8Array ? `bytes:${Buffer.from(value).toString('hex')}` : String(value)
}
