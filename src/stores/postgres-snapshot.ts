/** One moment of a Postgres database, over a connection of its own that only reads, while gateways go on writing. @module */
import type pg from 'pg'
import { compileOnly } from './dialect.ts'
import { addressOf, connect, discard } from './postgres-connection.ts'
import { type ReadPages, type Snapshot, snapshotOver } from './snapshot.ts'

const pageRows = 1000
/** Sorting a large ledger takes its time, ms. */
const longMs = 600_000

/** @throws {Error} the database cannot be reached or read; the password of the URL is not in it */
export async function openPostgresSnapshot(url: string): Promise<Snapshot> {
  const address = addressOf(url)
  const client = await connect(address, longMs)
  const run = (text: string, values: readonly unknown[] = []) =>
    client.query<Record<string, unknown>>(text, [...values]).catch((error: unknown) => {
      throw address.explain(error)
    })
  try {
    await run('set idle_in_transaction_session_timeout = 0')
    await run('begin isolation level repeatable read read only')
  } catch (error) {
    discard(client)
    throw error
  }
  return snapshotOver(compileOnly('postgres'), pagesOf(run), () => client.end())
}

type Run = (text: string, values?: readonly unknown[]) => Promise<pg.QueryResult<Record<string, unknown>>>

/** A cursor for each query: the ledger may be larger than memory. */
function pagesOf(run: Run): ReadPages {
  let cursors = 0
  return async function* pages({ sql, parameters }) {
    const name = `c${++cursors}`
    await run(`declare ${name} no scroll cursor for ${sql}`, parameters)
    for (;;) {
      const { rows } = await run(`fetch ${pageRows} from ${name}`)
      yield rows.map((row) => Object.fromEntries(Object.entries(row).map(([key, value]) => [key, text(value)])))
      if (rows.length < pageRows) break
    }
    await run(`close ${name}`)
  }
}

function text(value: unknown): string | null {
  return value === null ? null : String(value)
}
