/**
 * The store in Postgres, for several processes on several machines. Reads take a pool; everything written goes over one
 * connection in order, marks over a second, and a third listens.
 * @module
 */
import { type CompiledQuery, Kysely } from 'kysely'
import pg from 'pg'
import { locks, type Outcome, type SqlDatabase } from './database.ts'
import { dialectOver } from './dialect.ts'
import { migrate } from './migrations.ts'
import { isGone, ownPlace } from './place.ts'
import {
  type Address,
  addressOf,
  connect,
  discard,
  openLane,
  type PostgresError,
  sessionSettings,
} from './postgres-connection.ts'
import { postgresMarks } from './postgres-marks.ts'
import { postGroup, together } from './postgres-post.ts'
import { listenForWakes } from './postgres-wake.ts'
import type { Tables } from './schema.ts'
import { type SqlOptions, sqlStore } from './sql.ts'
import type { Store } from './store.ts'

export interface PostgresOptions extends SqlOptions {
  /** Another process has announced something: look around now. Not called before the store is open. */
  readonly onWake?: () => void
}

/** Connections that read; with the lane, the marks and the listener a process has three more. */
const mostReaders = 5
/** Reports over many lines take longer than a call could wait, ms. */
const readMs = 30_000
/** Counting a counter anew and changing tables may take longer still, ms. */
const longMs = 300_000
/** Before 13 nobody has tried it. */
const leastVersion = 130_000

/**
 * Opens the store in a Postgres database and migrates it; processes that start at once wait for each other.
 *
 * @param url `postgres://USER:PASSWORD@HOST:PORT/NAME`; TLS by its `sslmode`
 * @throws {Error} why it cannot be opened and what to do; never with the password in it
 */
export async function openPostgres(url: string, options: PostgresOptions = {}): Promise<Store> {
  const address = addressOf(url)
  try {
    await prepare(address)
    return await open(address, options)
  } catch (error) {
    const told = address.explain(error)
    throw new Error(`cannot open ${address.shown}: ${adviceOn(told)}`, { cause: told })
  }
}

async function open(address: Address, options: PostgresOptions): Promise<Store> {
  const lane = openLane(address)
  const markLane = openLane(address)
  const marks = postgresMarks(markLane)
  const pool = poolOf(address)
  const { onWake } = options
  let ears: { close(): Promise<void> } | null = null
  let closed = false
  const read = async ([query]: readonly CompiledQuery[]): Promise<readonly Outcome[]> => {
    if (closed) throw new Error('the database is closed')
    const { sql, parameters } = query as CompiledQuery
    return [outcomeOf(await pool.query(sql, [...parameters]).catch(rethrow(address)))]
  }
  const database: SqlDatabase = {
    kind: 'postgres',
    db: new Kysely<Tables>({ dialect: dialectOver('postgres', read) }),
    batch: (statements) => lane.run((client) => transaction(client, statements)),
    beside: (statements) => aside(address, statements),
    post: (writer, group) => lane.run((client) => postGroup(client, writer, group)),
    marks,
    place: ownPlace(),
    gone: isGone,
    alive: () => !closed,
    async close() {
      if (closed) return
      closed = true
      await marks.close()
      await Promise.all([lane.close(), markLane.close(), ears?.close(), pool.end()])
    },
  }
  try {
    const store = await sqlStore(database, options)
    if (onWake !== undefined) ears = listenForWakes(address, { onWake, isOwn: lane.isOwn })
    return store
  } catch (error) {
    await database.close()
    throw error
  }
}

function poolOf(address: Address): pg.Pool {
  const pool = new pg.Pool({
    ...address.config,
    query_timeout: readMs + 2_000,
    max: mostReaders,
    verify(client, done) {
      client.query(sessionSettings(readMs)).then(() => done(), done)
    },
  })
  // A connection that breaks while nobody uses it is replaced when the next is needed.
  pool.on('error', () => undefined)
  return pool
}

function rethrow({ explain }: Address): (error: unknown) => never {
  return (error) => {
    throw explain(error)
  }
}

/** All in one trip: what a transaction locks is not kept for as many as it has statements. */
async function transaction(client: pg.Client, statements: readonly CompiledQuery[]): Promise<readonly Outcome[]> {
  const asked = [
    client.query('begin'),
    ...statements.map(({ sql, parameters }) => client.query(sql, [...parameters])),
    client.query('commit'),
  ]
  return (await together(asked)).slice(1, -1).map(outcomeOf)
}

/** A transaction on a connection of its own, which the ledger does not wait for. */
async function aside(address: Address, statements: readonly CompiledQuery[]): Promise<readonly Outcome[]> {
  const client = await connect(address, longMs)
  try {
    return await transaction(client, statements)
  } catch (error) {
    throw address.explain(error)
  } finally {
    discard(client)
  }
}

function outcomeOf({ command, rows, rowCount }: pg.QueryResult): Outcome {
  return { rows, changes: command === 'SELECT' ? 0 : (rowCount ?? 0) }
}

/** Tests what the store needs and brings the tables up to date, alone among all processes. */
async function prepare(address: Address): Promise<void> {
  const client = await connect(address, longMs)
  try {
    await client.query("set lock_timeout = '60s'")
    const { rows } = await client.query<{ version: number; encoding: string }>(
      "select current_setting('server_version_num')::int as version, current_setting('server_encoding') as encoding",
    )
    const [{ version, encoding }] = rows as [{ version: number; encoding: string }]
    if (version < leastVersion) throw new Error('the server is older than Postgres 13')
    if (encoding !== 'UTF8') throw new Error(`the database is encoded in ${encoding}; create it with ENCODING 'UTF8'`)
    await client.query('select pg_advisory_lock($1)', [locks.migrations])
    const batch = (statements: readonly CompiledQuery[]) => transaction(client, statements)
    const read = async ([query]: readonly CompiledQuery[]) => {
      const { sql, parameters } = query as CompiledQuery
      return [outcomeOf(await client.query(sql, [...parameters]))]
    }
    await migrate({ kind: 'postgres', db: new Kysely<Tables>({ dialect: dialectOver('postgres', read) }), batch })
  } finally {
    // The lock goes with the connection.
    discard(client)
  }
}

/** What a person can do about it. */
function adviceOn({ code, message }: PostgresError): string {
  switch (code) {
    case 'ECONNREFUSED':
      return `nobody listens there (${message}); is Postgres running?`
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return `the host is not known (${message})`
    case '28P01':
    case '28000':
      return `the user or the password is not accepted (${message})`
    case '3D000':
      return `${message}; create it with createdb`
    case '42501':
      return `${message}; the user needs to create tables: GRANT CREATE ON SCHEMA public`
    case '55P03':
      return 'another process has been changing the tables for a minute; try again when it is done'
    default:
      return message
  }
}
