/**
 * Connections to Postgres: how they are made, what their errors say (never the password), and the lane: one connection
 * on which jobs run strictly one after another, made anew when it was lost.
 * @module
 */
import pg from 'pg'
import type { DatabaseError } from './health.ts'

/** A statement that takes longer than this is given up by the server, ms. */
const statementMs = 10_000
/** When the server has not said so by then it is not there any more, ms longer. */
const graceMs = 2_000
const connectMs = 5_000

/**
 * What the arithmetic rests on, whatever the server's own settings are. A process that stands still in the middle of a
 * transaction must not keep its locks.
 *
 * @param limitMs how long a statement may take
 */
export function sessionSettings(limitMs = statementMs): string {
  return [
    `set statement_timeout = ${limitMs}`,
    `set idle_in_transaction_session_timeout = ${statementMs}`,
    'set synchronous_commit = on',
    "set default_transaction_isolation = 'read committed'",
  ].join(';')
}

/** Where the database is, and how what went wrong with it may be told. */
export interface Address {
  readonly config: pg.ClientConfig
  /** The URL without password and options. */
  readonly shown: string
  /** @returns the error as ours, without the password */
  explain(error: unknown): PostgresError
}

/** An error of Postgres or of the way to it. */
export class PostgresError extends Error implements DatabaseError {
  /** SQLSTATE, or the code of the network error; empty when there is none. */
  readonly code: string
  constructor(code: string, message: string) {
    super(message)
    this.name = 'PostgresError'
    this.code = code
  }
  /** Bad values and broken constraints: classes 22 and 23. */
  get refused(): boolean {
    return /^2[23]...$/.test(this.code)
  }
  /** What is left of the connection cannot be used: it is not SQL that failed, or the server ends or has changed. */
  get lost(): boolean {
    return !/^(?=.*[0-9])[0-9A-Z]{5}$/.test(this.code) || /^(08|57P|25006|XX)/.test(this.code)
  }
  /** Rolled back only because of what others did at the same time. */
  get again(): boolean {
    return this.code === '40P01' || this.code === '40001'
  }
}

/** @throws {Error} when the URL cannot be read; it does not repeat it */
export function addressOf(url: string): Address {
  const parsed = URL.parse(url)
  if (parsed === null)
    throw new Error('the URL of the database cannot be read; write postgres://USER:PASSWORD@HOST/NAME')
  const { username, password, host, pathname } = parsed
  const secrets = [password, plain(password), parsed.searchParams.get('password') ?? ''].filter((text) => text !== '')
  const shown = `postgres://${username === '' ? '' : `${username}@`}${host}${pathname}`
  return {
    config: {
      connectionString: url,
      connectionTimeoutMillis: connectMs,
      query_timeout: statementMs + graceMs,
      keepAlive: true,
      keepAliveInitialDelayMillis: 10_000,
      fallback_application_name: 'gatehouse',
    },
    shown,
    explain(error) {
      if (error instanceof PostgresError) return error
      // An address with several numbers fails with one error for each, and without a message of its own.
      const first: unknown = error instanceof AggregateError ? error.errors[0] : error
      const code = first instanceof Error && 'code' in first ? String(first.code) : ''
      let message = first instanceof Error ? first.message : String(first)
      for (const secret of secrets) message = message.replaceAll(secret, '[password]')
      return new PostgresError(code, message)
    },
  }
}

function plain(encoded: string): string {
  try {
    return decodeURIComponent(encoded)
  } catch {
    return encoded
  }
}

/**
 * A connection that sends what it is asked at once, without waiting for the answers before.
 *
 * @param limitMs how long a statement may take where that is not the usual
 * @throws {PostgresError}
 */
export async function connect({ config, explain }: Address, limitMs = statementMs): Promise<pg.Client> {
  const client = new pg.Client({ ...config, pipeline: true, query_timeout: limitMs + graceMs })
  // A connection that breaks is told to whoever uses it; without a listener it would end the process.
  client.on('error', () => undefined)
  try {
    await client.connect()
    await client.query(sessionSettings(limitMs))
    return client
  } catch (error) {
    discard(client)
    throw explain(error)
  }
}

/** Ends a connection without waiting for it. */
export function discard(client: pg.Client): void {
  client.end().catch(() => undefined)
}

export interface Lane {
  /**
   * Runs a job when all before it are done. It is run again where the server rolled it back because of others.
   *
   * @throws {PostgresError} where the connection was lost it is not known whether the job was committed
   */
  run<T>(job: (client: pg.Client) => Promise<T>): Promise<T>
  /** Whether notifications of this server process are our own. */
  isOwn(processId: number): boolean
  close(): Promise<void>
}

interface Job {
  run(client: pg.Client): Promise<void>
  fail(error: unknown): void
}

const mostTries = 5

export function openLane(address: Address): Lane {
  let queue: Job[] = []
  let running: Promise<void> | null = null
  let client: pg.Client | null = null
  let ownId = 0
  let closed = false

  async function connected(): Promise<pg.Client> {
    if (client !== null) return client
    const made = await connect(address)
    made.once('end', () => {
      if (client === made) client = null
    })
    const { rows } = await made.query<{ id: number }>('select pg_backend_pid() as id')
    ownId = rows[0]?.id ?? 0
    client = made
    return made
  }

  function drop(): void {
    if (client !== null) discard(client)
    client = null
  }

  async function drain(): Promise<void> {
    for (let job = queue.shift(); job !== undefined; job = queue.shift()) {
      try {
        await job.run(await connected())
      } catch (error) {
        // Nobody can be reached: everybody who waits is told now, instead of each after a time of its own.
        const told = address.explain(error)
        for (const waiting of [job, ...queue.splice(0)]) waiting.fail(told)
        drop()
      }
    }
    running = null
  }

  function run<T>(work: (client: pg.Client) => Promise<T>): Promise<T> {
    if (closed) return Promise.reject(new Error('the database is closed'))
    return new Promise<T>((resolve, reject) => {
      queue.push({ run: (on) => attempt(on, work).then(resolve, reject), fail: reject })
      running ??= drain()
    })
  }

  async function attempt<T>(on: pg.Client, work: (client: pg.Client) => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries++) {
      try {
        return await work(on)
      } catch (error) {
        const told = address.explain(error)
        if (told.lost) drop()
        if (!told.again || tries === mostTries) throw told
      }
    }
  }

  return {
    run,
    isOwn: (id) => id === ownId,
    async close() {
      closed = true
      await running
      queue = []
      await client?.end().catch(() => undefined)
      client = null
    },
  }
}
