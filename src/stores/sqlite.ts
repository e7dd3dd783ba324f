/** SQLite in a thread of its own, as a Kysely dialect and as the store over it. @module */
import { closeSync, mkdirSync, openSync } from 'node:fs'
import { dirname, extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import {
  type CompiledQuery,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  Kysely,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
} from 'kysely'
import type { DatabaseError } from './health.ts'
import { migrate } from './migrations.ts'
import { ledgerColumns, type Tables } from './schema.ts'
import { balanceColumns, ledgerStatements, type SqlOptions, sqlStore } from './sql.ts'
import type { Answer, Command, Scalar, WorkerOptions } from './sqlite-worker.ts'
import type { Store } from './store.ts'

export interface SqliteOptions extends SqlOptions {
  /** How long to wait for a predecessor to let go of the file, ms. */
  readonly busyMs?: number
}

/**
 * Opens the store in a SQLite file, makes file (mode 0600) and folder (0700) where missing, and migrates it.
 *
 * The file is held exclusively until `close`: one gateway per data folder.
 *
 * @param path of the file, or `:memory:` for a store that ends with its handle
 * @throws {Error} another gateway holds the file; it is damaged or no database; it is newer than the program
 */
export async function openSqlite(path: string, options: SqliteOptions = {}): Promise<Store> {
  if (path !== ':memory:') create(path)
  const compile = new Kysely<Tables>({ dialect: dialect(refuse) })
  const thread = startThread({
    path,
    busyMs: options.busyMs ?? 1000,
    ...ledgerStatements(compile),
    rowWidth: ledgerColumns.length,
    balanceWidth: balanceColumns.length,
  })
  const batch = async (statements: readonly CompiledQuery[]) => {
    const answer = await thread.ask({
      batch: statements.map((query) => ({ sql: query.sql, params: query.parameters as readonly Scalar[] })),
    })
    return 'outcomes' in answer ? answer.outcomes : []
  }
  try {
    await thread.opened
    const db = new Kysely<Tables>({ dialect: dialect(batch) })
    await migrate({ kind: 'sqlite', db, batch })
    return sqlStore(
      {
        db,
        batch,
        async post(group) {
          const answer = await thread.ask(JSON.stringify([group.rows, group.balances]))
          return 'known' in answer ? answer.known : []
        },
        alive: thread.alive,
        close: thread.close,
      },
      options,
    )
  } catch (error) {
    await thread.close().catch(() => undefined)
    throw new Error(`cannot open ${path}: ${explain(error)}`, { cause: error })
  }
}

// Opened only when it did not exist: closing any descriptor of a SQLite file drops the locks this process holds on it.
function create(path: string): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  try {
    closeSync(openSync(path, 'wx', 0o600))
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
  }
}

// Primary result codes of SQLite: https://www.sqlite.org/rescode.html
const busy = 5
const corrupt = 11
const constraint = 19
const notDatabase = 26

function explain(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  switch (error instanceof SqliteError ? error.code & 0xff : 0) {
    case busy:
      return 'another gateway uses this data folder; stop it first, or give this one a folder of its own'
    case corrupt:
    case notDatabase:
      return `the file is damaged or not a SQLite database (${error.message}); restore it from a backup, or move it away to start empty`
    default:
      return error.message
  }
}

/** An error of SQLite, with its extended result code. */
class SqliteError extends Error implements DatabaseError {
  readonly code: number
  constructor(code: number, message: string) {
    super(message)
    this.name = 'SqliteError'
    this.code = code
  }
  get refused(): boolean {
    return (this.code & 0xff) === constraint
  }
}

interface Thread {
  /** Resolves when the connection is open. */
  readonly opened: Promise<Answer>
  ask(command: Command): Promise<Answer>
  alive(): boolean
  /** Closes the database after everything asked before, and ends the thread. */
  close(): Promise<void>
}

function startThread(workerData: WorkerOptions): Thread {
  const file = new URL(`./sqlite-worker${extname(import.meta.url)}`, import.meta.url)
  const worker = new Worker(file, {
    name: 'sqlite',
    workerData,
    // The thread needs no secret, and Node's note that its SQLite is young says nothing to an operator.
    env: {},
    execArgv: ['--disable-warning=ExperimentalWarning'],
  })
  // Answers come in the order of the commands, so a queue is all the bookkeeping there is.
  const asked: PromiseWithResolvers<Answer>[] = [Promise.withResolvers<Answer>()]
  let head = 0
  let dead: Error | null = null
  const opened = (asked[0] as PromiseWithResolvers<Answer>).promise
  const exited = new Promise<void>((resolve) => worker.once('exit', () => resolve()))

  worker.on('message', (answer: Answer) => {
    const next = asked[head++]
    if (head === asked.length) {
      asked.length = 0
      head = 0
    }
    if ('error' in answer) next?.reject(new SqliteError(answer.error.code, answer.error.message))
    else next?.resolve(answer)
  })
  worker.on('error', (error) => end(new Error('the database thread failed', { cause: error })))
  worker.on('exit', () => end(new Error('the database is closed')))

  function end(why: Error): void {
    dead ??= why
    for (const waiting of asked.slice(head)) waiting.reject(dead)
    asked.length = 0
    head = 0
  }

  function ask(command: Command): Promise<Answer> {
    if (dead !== null) return Promise.reject(dead)
    const waiting = Promise.withResolvers<Answer>()
    asked.push(waiting)
    worker.postMessage(command)
    return waiting.promise
  }

  async function close(): Promise<void> {
    if (dead === null) await ask({ close: true })
    await exited
  }

  return { opened, ask, alive: () => dead === null, close }
}

type Batch = (statements: readonly CompiledQuery[]) => Promise<readonly { rows: readonly unknown[]; changes: number }[]>

const refuse: Batch = () => Promise.reject(new Error('compiles only'))

function dialect(batch: Batch): Dialect {
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
    createAdapter: () => new SqliteAdapter(),
    createDriver: () => driver,
    createIntrospector: (db) => new SqliteIntrospector(db),
    createQueryCompiler: () => new SqliteQueryCompiler(),
  }
}
