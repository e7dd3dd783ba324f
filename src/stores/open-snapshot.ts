/** Which database a setting means, for reading what is kept at one moment. @module */
import { isPostgres } from './open.ts'
import type { Snapshot } from './snapshot.ts'
import { openSqliteSnapshot } from './sqlite-snapshot.ts'

/**
 * @param database `postgres://` or `postgresql://` and what follows, or the path of a SQLite file
 * @throws {Error} saying why it cannot be read
 */
export async function openSnapshot(database: string): Promise<Snapshot> {
  if (!isPostgres(database)) return openSqliteSnapshot(database)
  const { openPostgresSnapshot } = await import('./postgres-snapshot.ts')
  return openPostgresSnapshot(database)
}
