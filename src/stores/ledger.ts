/**
 * Group commit: whatever is appended while a commit is under way goes into the next one, as one message and one
 * transaction. Under load the disk is asked once for many rows; a lone row does not wait.
 * @module
 */
import type { Amounts, LedgerRow } from '../call.ts'
import { pushLedgerRow, type Value } from './schema.ts'
import type { BalanceKey, LedgerEntry } from './store.ts'

/** One group, flat: what crosses to the database is a list of scalars, not an object graph. */
export interface LedgerGroup {
  /** `ledgerColumns.length` values per row. */
  readonly rows: readonly Value[]
  /** Per counter: account, period, starts_at, usd, tokens, requests, tool_calls. The same counter may come twice. */
  readonly balances: readonly Value[]
}

/**
 * Writes a group in one transaction.
 *
 * @returns indexes of rows whose id is already there; when not empty, nothing at all was written
 */
export type Post = (group: LedgerGroup) => Promise<readonly number[]>

export interface GroupCommit {
  append(entries: readonly LedgerEntry[]): Promise<void>
  /** Resolves when nothing waits; further appends reject. */
  close(): Promise<void>
}

interface Waiting {
  readonly entries: LedgerEntry[]
  /** One promise for everyone in the group. */
  readonly written: PromiseWithResolvers<void>
}

export interface GroupOptions {
  /** Told after each ledger commit how many rows it held. */
  readonly onCommit?: (rows: number) => void
  /** Longest pause between two groups, ms. A pause costs latency, a commit costs CPU: at full load this is the trade. */
  readonly longestPauseMs?: number
}

export function groupCommit(post: Post, { onCommit, longestPauseMs = 6 }: GroupOptions = {}): GroupCommit {
  let waiting: Waiting | null = null
  let writing = false
  let pausing: NodeJS.Timeout | null = null
  let scheduled = false
  let closing: PromiseWithResolvers<void> | null = null

  function append(entries: readonly LedgerEntry[]): Promise<void> {
    if (closing !== null) return Promise.reject(new Error('the ledger is closed'))
    if (entries.length === 0) return Promise.resolve()
    // Refused before it joins: inside, one bad number would reject the rows of every other call in the group.
    for (const { row } of entries)
      if (!countable(row)) return Promise.reject(new RangeError(`row ${row.id}: bad number`))
    if (waiting === null) {
      waiting = { entries: [], written: Promise.withResolvers<void>() }
      schedule()
    }
    for (const entry of entries) waiting.entries.push(entry)
    return waiting.written.promise
  }

  // setImmediate, not at once: calls that end in the same turn of the event loop share the group.
  function schedule(): void {
    if (scheduled || writing || pausing !== null) return
    scheduled = true
    setImmediate(next)
  }

  function next(): void {
    scheduled = false
    const group = waiting
    if (group === null) {
      closing?.resolve()
      return
    }
    waiting = null
    writing = true
    pause(group.entries.length)
    write(post, group.entries).then(
      () => {
        onCommit?.(group.entries.length)
        group.written.resolve()
        done()
      },
      (error: unknown) => {
        group.written.reject(error)
        done()
      },
    )
  }

  function done(): void {
    writing = false
    if (waiting !== null || closing !== null) schedule()
  }

  // The next group starts a millisecond later for each further row of this one: below about a thousand rows a second
  // the pause shrinks to nothing, above it groups grow until the pause is at its longest.
  function pause(rows: number): void {
    if (rows < 2 || closing !== null) return
    const ms = Math.min(rows - 1, longestPauseMs)
    pausing = setTimeout(() => {
      pausing = null
      if (waiting !== null) schedule()
    }, ms)
  }

  function close(): Promise<void> {
    if (closing === null) {
      closing = Promise.withResolvers<void>()
      if (pausing !== null) clearTimeout(pausing)
      pausing = null
      schedule()
    }
    return closing.promise
  }

  return { append, close }
}

/** Whether the row's numbers can be stored and added: what is charged exactly, the rest at least as numbers. */
function countable(row: LedgerRow): boolean {
  return (
    Number.isSafeInteger(row.usd) &&
    Number.isSafeInteger(row.tokens) &&
    Number.isSafeInteger(row.requests) &&
    Number.isSafeInteger(row.tool_calls) &&
    Number.isFinite(row.input + row.output + row.cacheRead + row.cacheWrite + row.reasoning) &&
    Number.isFinite(row.at + row.attempt + row.latencyMs)
  )
}

/** Writes the entries, leaving out those whose row is already there together with what they would add. */
async function write(post: Post, entries: readonly LedgerEntry[]): Promise<void> {
  let left = entries
  while (left.length > 0) {
    const known = await post(flatten(left))
    if (known.length === 0) return
    const skip = new Set(known)
    left = left.filter((_, index) => !skip.has(index))
  }
}

function flatten(entries: readonly LedgerEntry[]): LedgerGroup {
  const rows: Value[] = []
  const sums = new Map<BalanceKey, Amounts>()
  for (const { row, balances } of entries) {
    pushLedgerRow(rows, row)
    for (const key of balances) {
      const sum = sums.get(key)
      if (sum === undefined) {
        sums.set(key, { usd: row.usd, tokens: row.tokens, requests: row.requests, tool_calls: row.tool_calls })
      } else {
        sum.usd += row.usd
        sum.tokens += row.tokens
        sum.requests += row.requests
        sum.tool_calls += row.tool_calls
      }
    }
  }
  // Two objects for one counter are two upserts that both add: slower, never wrong.
  const balances: Value[] = []
  for (const [key, sum] of sums) {
    if (sum.usd === 0 && sum.tokens === 0 && sum.requests === 0 && sum.tool_calls === 0) continue
    balances.push(key.account, key.window, key.startsAt, sum.usd, sum.tokens, sum.requests, sum.tool_calls)
  }
  return { rows, balances }
}
