/** SQLite in a thread of its own, as a Kysely dialect and as the store over it. @module */
import { closeSync, mkdirSync, openSync } from 'node:fs'
import { dirname, extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import { type CompiledQuery, Kysely } from 'kysely'
import type { Posted, SqlDatabase } from './database.ts'
import { compileOnly, dialectOver } from './dialect.ts'
import type { DatabaseError } from './health.ts'
import { openJournal } from './journal.ts'
import { postingWidth } from './ledger.ts'
import { migrate } from './migrations.ts'
import { isGone, ownPlace } from './place.ts'
import type { Tables } from './schema.ts'
import { type SqlOptions, sqlStore } from './sql.ts'
import { postStatements } from './sql-ledger.ts'
import type { Answer, Command, Scalar, WorkerOptions } from './sqlite-worker.ts'
import type { Store } from './store.ts'

export interface SqliteOptions extends SqlOptions {
  /** How long to wait for another process to let go of the file, ms. */
  readonly busyMs?: number
}

/**
 * Opens the store in a SQLite file, makes file (mode 0600) and folder (0700) where missing, and migrates it. Several
 * processes of one machine may open the same file.
 *
 * @param path of the file, or `:memory:` for a store that ends with its handle
 * @throws {Error} the file is damaged, no database, or newer than the program
 */
export async function openSqlite(path: string, options: SqliteOptions = {}): Promise<Store> {
  if (path !== ':memory:') create(path)
  const compile = compileOnly('sqlite')
  const busyMs = options.busyMs ?? 5000
  const thread = startThread({ path, busyMs, ...postStatements(compile), postingWidth })
  const journal = openJournal(path === ':memory:' ? null : `${path}-marks`)
  const batch = async (statements: readonly CompiledQuery[]) => {
    const answer = await thread.ask({
      batch: statements.map((query) => ({ sql: query.sql, params: query.parameters as readonly Scalar[] })),
    })
    return 'outcomes' in answer ? answer.outcomes : []
  }
  const db = new Kysely<Tables>({ dialect: dialectOver('sqlite', batch) })
  const database: SqlDatabase = {
    kind: 'sqlite',
    db,
    batch,
    beside: batch,
    async post(writer, { lines, notes, postings }) {
      return (await thread.ask({ writer, lines, notes, postings })) as Posted
    },
    marks: journal,
    place: ownPlace(),
    gone: isGone,
    alive: thread.alive,
    async close() {
      journal.close()
      await thread.close()
    },
  }
  try {
    await thread.opened
    await migrate(database)
    return await sqlStore(database, options)
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
      return 'another process keeps the file locked; stop what reads or writes it'
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
