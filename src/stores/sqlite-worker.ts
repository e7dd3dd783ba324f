/**
 * The thread that owns the one SQLite connection: a commit waits for the disk, and the thread that serves requests must
 * not. Commands are answered strictly in order. Imports nothing of ours, so that it loads quickly and alone.
 * @module
 */
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { parentPort, workerData } from 'node:worker_threads'

export type Scalar = string | number | null

export interface Statement {
  readonly sql: string
  readonly params: readonly Scalar[]
}

export interface WorkerOptions {
  readonly path: string
  /** How long to wait for another process to let go of the file, ms. */
  readonly busyMs: number
  /** Inserts one ledger row, or nothing when its id is there. */
  readonly insertRow: string
  readonly rowWidth: number
  /** Adds to one balance. */
  readonly addBalance: string
  readonly balanceWidth: number
}

/** A ledger group as JSON text: one string crosses between threads for less than the values it holds. */
export type Command = string | { readonly batch: readonly Statement[] } | { readonly close: true }

export interface Outcome {
  readonly rows: readonly unknown[]
  readonly changes: number
}

/** `code` is SQLite's extended result code, 0 when the failure is not SQLite's. */
export type Answer =
  | { readonly outcomes: readonly Outcome[] }
  | { readonly known: readonly number[] }
  | { readonly error: { readonly code: number; readonly message: string } }

const nothing: Answer = { outcomes: [] }

function failure(error: unknown): Answer {
  const code = error instanceof Error && 'errcode' in error ? Number(error.errcode) : 0
  return { error: { code, message: error instanceof Error ? error.message : String(error) } }
}

function open(options: WorkerOptions): DatabaseSync {
  const db = new DatabaseSync(options.path)
  try {
    db.exec(`PRAGMA busy_timeout = ${options.busyMs}`)
    // Before the journal mode: held exclusively, the write-ahead index stays in memory and nobody else gets in.
    db.exec('PRAGMA locking_mode = EXCLUSIVE')
    db.exec('PRAGMA journal_mode = WAL')
    db.exec('PRAGMA synchronous = FULL')
    db.exec('PRAGMA foreign_keys = ON')
    // Index leaves of many accounts are written at random: they should be in memory (64 MiB).
    db.exec('PRAGMA cache_size = -65536')
    db.exec('PRAGMA temp_store = MEMORY')
    // 16 MiB: a page that is written again before the checkpoint is copied back once.
    db.exec('PRAGMA wal_autocheckpoint = 4000')
    // Takes the lock now rather than with the first write, and reads the schema, which finds a damaged file.
    db.exec('BEGIN IMMEDIATE')
    db.prepare('SELECT count(*) FROM sqlite_master').get()
    db.exec('COMMIT')
    return db
  } catch (error) {
    db.close()
    throw error
  }
}

interface Prepared {
  readonly statement: StatementSync
  readonly reads: boolean
}

/** Most statements kept prepared; the store's own are about thirty. */
const maxPrepared = 200

function serve(db: DatabaseSync, options: WorkerOptions): (command: Command) => Answer {
  const prepared = new Map<string, Prepared>()
  const begin = db.prepare('BEGIN IMMEDIATE')
  const commit = db.prepare('COMMIT')
  let insertRow: StatementSync | null = null
  let addBalance: StatementSync | null = null

  function prepare(sql: string): Prepared {
    const found = prepared.get(sql)
    if (found !== undefined) return found
    const statement = db.prepare(sql)
    const made = { statement, reads: statement.columns().length > 0 }
    if (prepared.size >= maxPrepared) prepared.clear()
    prepared.set(sql, made)
    return made
  }

  function run({ sql, params }: Statement): Outcome {
    const { statement, reads } = prepare(sql)
    if (reads) return { rows: statement.all(...params), changes: 0 }
    return { rows: [], changes: Number(statement.run(...params).changes) }
  }

  function batch(statements: readonly Statement[]): Answer {
    const [only] = statements
    if (only !== undefined && statements.length === 1) return { outcomes: [run(only)] }
    begin.run()
    const outcomes = statements.map(run)
    commit.run()
    return { outcomes }
  }

  function post(text: string): Answer {
    const [rows, balances] = JSON.parse(text) as [Scalar[], Scalar[]]
    insertRow ??= db.prepare(options.insertRow)
    addBalance ??= db.prepare(options.addBalance)
    const { rowWidth, balanceWidth } = options
    const known: number[] = []
    begin.run()
    for (let at = 0; at < rows.length; at += rowWidth) {
      if (Number(insertRow.run(...rows.slice(at, at + rowWidth)).changes) === 0) known.push(at / rowWidth)
    }
    // The balances were added up over all rows; with a row already there the sums are wrong and must be made anew.
    if (known.length > 0) {
      db.exec('ROLLBACK')
      return { known }
    }
    for (let at = 0; at < balances.length; at += balanceWidth) {
      addBalance.run(...balances.slice(at, at + balanceWidth))
    }
    commit.run()
    return { known }
  }

  return (command) => {
    try {
      if (typeof command === 'string') return post(command)
      if ('batch' in command) return batch(command.batch)
      // The last connection to close writes the log back into the file and removes it.
      db.close()
      return nothing
    } catch (error) {
      const answer = failure(error)
      // A full disk rolls back by itself; a failed statement or commit does not.
      if (db.isOpen && db.isTransaction) db.exec('ROLLBACK')
      return answer
    }
  }
}

const port = parentPort
if (port === null) throw new Error('this file is the SQLite thread and is started by sqlite.ts')
const options = workerData as WorkerOptions
try {
  const answer = serve(open(options), options)
  port.on('message', (command: Command) => {
    port.postMessage(answer(command))
    if (typeof command === 'object' && 'close' in command) port.close()
  })
  port.postMessage(nothing)
} catch (error) {
  port.postMessage(failure(error))
  port.close()
}
