/** Which database a setting means. @module */
import type { PostgresOptions } from './postgres.ts'
import { openSqlite, type SqliteOptions } from './sqlite.ts'
import type { Store } from './store.ts'

export type StoreOptions = SqliteOptions & PostgresOptions

/**
 * @param database `postgres://` or `postgresql://` and what follows, or the path of a SQLite file
 * @throws {Error} saying why it cannot be opened
 */
export async function openStore(database: string, options: StoreOptions = {}): Promise<Store> {
  if (!isPostgres(database)) return openSqlite(database, options)
  // Read only where it is used: it would cost every start some 50 ms and a few megabytes.
  const { openPostgres } = await import('./postgres.ts')
  return openPostgres(database, options)
}

export function isPostgres(database: string): boolean {
  return /^postgres(ql)?:\/\//i.test(database)
}
