/**
 * The thread that owns the one SQLite connection: a commit waits for the disk, and the thread that serves requests must
 * not. Commands are answered strictly in order. Of ours it imports the hash chain alone, so that it loads quickly.
 * @module
 */
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { parentPort, workerData } from 'node:worker_threads'
import { chainHash, chainStart } from './chain.ts'

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
  /** Adds to one balance of one writer, and takes from its lease. */
  readonly addBalance: string
  /** Finds a writer that has not been declared dead. */
  readonly findWriter: string
  readonly postingWidth: number
}

/** A ledger group of one writer. */
export interface PostCommand {
  readonly writer: string
  /** Lines as they are chained, between line feeds. */
  readonly lines: string
  readonly notes: readonly (string | null)[] | null
  /** `postingWidth` values each. */
  readonly postings: readonly Scalar[]
}

export type Command = PostCommand | { readonly batch: readonly Statement[] } | { readonly close: true }

export interface Outcome {
  readonly rows: readonly unknown[]
  readonly changes: number
}

/** `code` is SQLite's extended result code, 0 when the failure is not SQLite's. */
export type Answer =
  | { readonly outcomes: readonly Outcome[] }
  /** What came of a post: lines that were there already (then nothing was written), or where the chain ends now. */
  | { readonly known: readonly number[]; readonly seq: number; readonly hash: string }
  /** The writer was declared dead: nothing was written. */
  | { readonly fenced: true }
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
    db.exec('PRAGMA journal_mode = WAL')
    db.exec('PRAGMA synchronous = FULL')
    db.exec('PRAGMA foreign_keys = ON')
    // What is erased is overwritten.
    db.exec('PRAGMA secure_delete = ON')
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
  let findWriter: StatementSync | null = null
  let chain = { writer: '', seq: 0, hash: chainStart }

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

  function post({ writer, lines, notes, postings }: PostCommand): Answer {
    insertRow ??= db.prepare(options.insertRow)
    addBalance ??= db.prepare(options.addBalance)
    findWriter ??= db.prepare(options.findWriter)
    if (chain.writer !== writer) chain = { writer, seq: 0, hash: chainStart }
    begin.run()
    if (findWriter.get(writer) === undefined) {
      db.exec('ROLLBACK')
      return { fenced: true }
    }
    let { seq, hash } = chain
    const known: number[] = []
    const texts = lines.split('\n')
    for (let index = 0; index < texts.length; index++) {
      const text = texts[index] as string
      const [id, account, at, booked, usd, tokens, requests, calls, digest, body] = text.split('\t') as string[]
      const next = chainHash(hash, seq + 1, text)
      const row = [id, writer, seq + 1, account, at, booked, usd, tokens, requests, calls, body, notes?.[index] ?? null]
      if (insertRow.run(...(row as Scalar[]), digest as string, next).changes === 0) known.push(index)
      seq++
      hash = next
    }
    // Balances were added up and lines chained over all of them; with one already there it has to be made anew.
    if (known.length > 0) {
      db.exec('ROLLBACK')
      return { known, ...chain }
    }
    const { postingWidth } = options
    for (let at = 0; at < postings.length; at += postingWidth) {
      addBalance.run(writer, ...postings.slice(at, at + postingWidth))
    }
    commit.run()
    chain = { writer, seq, hash }
    return { known, seq, hash }
  }

  return (command) => {
    try {
      if ('lines' in command) return post(command)
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
    if ('close' in command) port.close()
  })
  port.postMessage(nothing)
} catch (error) {
  port.postMessage(failure(error))
  port.close()
}
