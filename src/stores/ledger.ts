/**
 * Group commit: whatever is appended while a commit is under way goes into the next one, as one message and one
 * transaction. Under load the disk is asked once for many lines; a lone line does not wait.
 * @module
 */
import { type Amounts, add, type LedgerBody, type LedgerLine, zero } from '../call.ts'
import { chainText, digestOf } from './chain.ts'
import type { Value } from './schema.ts'
import { type LedgerEntry, type Posting, unleased } from './store.ts'

/** One group, flat: what crosses to the database is text and scalars, not an object graph. */
export interface LedgerGroup {
  /** The lines as they are chained, joined by line feeds. */
  readonly lines: string
  /** Notes of each line; null when no line has any. */
  readonly notes: readonly (string | null)[] | null
  /** Per counter: account, period, starts_at, the four amounts used, the four taken from leases. A counter may come twice. */
  readonly postings: readonly Value[]
}

export const postingWidth = 11

/**
 * Writes a group in one transaction.
 *
 * @returns indexes of lines whose id is already there; when not empty, nothing at all was written
 */
export type Post = (group: LedgerGroup) => Promise<readonly number[]>

export interface GroupCommit {
  append(entries: readonly LedgerEntry[]): Promise<void>
  /** Resolves when everything appended so far is written or was refused. */
  settled(): Promise<void>
  /** Resolves when nothing waits; further appends reject. */
  close(): Promise<void>
}

interface Waiting {
  readonly entries: LedgerEntry[]
  /** One promise for everyone in the group. */
  readonly written: PromiseWithResolvers<void>
}

export interface GroupOptions {
  /** Told after each ledger commit how many lines it held. */
  readonly onCommit?: (lines: number) => void
}

/** What the ledger knows of its process and of lines that are there already. */
export interface Own {
  /** The id of this process now. */
  id(): string
  /** Of these lines, what was booked for those that another process recovered. */
  recovered(ids: readonly string[]): Promise<ReadonlyMap<string, Amounts>>
}

export function groupCommit(post: Post, { onCommit }: GroupOptions, own: Own): GroupCommit {
  let waiting: Waiting | null = null
  let busy = false
  let writing: Promise<unknown> = Promise.resolve()
  let closing: PromiseWithResolvers<void> | null = null

  function append(entries: readonly LedgerEntry[]): Promise<void> {
    if (closing !== null) return Promise.reject(new Error('the ledger is closed'))
    if (entries.length === 0) return Promise.resolve()
    // Refused before it joins: inside, one bad number would reject the lines of every other call in the group.
    for (const { line } of entries)
      if (!countable(line)) return Promise.reject(new RangeError(`line ${line.id}: bad number`))
    if (waiting === null) {
      waiting = { entries: [], written: Promise.withResolvers<void>() }
      schedule()
    }
    for (const entry of entries) waiting.entries.push(entry)
    return waiting.written.promise
  }

  // setImmediate, not at once: calls that end in the same turn of the event loop share the group.
  function schedule(): void {
    if (busy) return
    busy = true
    setImmediate(next)
  }

  function next(): void {
    const group = waiting
    if (group === null) {
      busy = false
      closing?.resolve()
      return
    }
    waiting = null
    writing = group.written.promise.catch(() => undefined)
    write(post, group.entries, own).then(
      () => {
        for (const entry of group.entries) entry.posted?.()
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
    busy = false
    if (waiting !== null || closing !== null) schedule()
  }

  async function settled(): Promise<void> {
    const last = waiting
    await writing
    await last?.written.promise.catch(() => undefined)
  }

  function close(): Promise<void> {
    if (closing === null) {
      closing = Promise.withResolvers<void>()
      schedule()
    }
    return closing.promise
  }

  return { append, settled, close }
}

/** Whether the line's numbers can be stored and added exactly. */
function countable(line: LedgerLine): boolean {
  return (
    Number.isSafeInteger(line.usd) &&
    Number.isSafeInteger(line.tokens) &&
    Number.isSafeInteger(line.requests) &&
    Number.isSafeInteger(line.tool_calls) &&
    Number.isSafeInteger(line.at) &&
    Number.isSafeInteger(line.booked)
  )
}

/** Writes the entries, leaving out those whose line is already there together with what they would add. */
async function write(post: Post, entries: readonly LedgerEntry[], own: Own): Promise<void> {
  let left = entries
  while (left.length > 0) {
    const known = await post(flatten(left, own.id()))
    if (known.length === 0) return
    const skip = new Set(known)
    const corrections = await corrected(
      left.filter((_, index) => skip.has(index)),
      own,
    )
    left = [...left.filter((_, index) => !skip.has(index)), ...corrections]
  }
}

/** This process was taken for dead and what it held was booked; now that it is known what was used, the difference is. */
async function corrected(known: readonly LedgerEntry[], own: Own): Promise<LedgerEntry[]> {
  const recovered = await own.recovered(known.map(({ line }) => line.id))
  const entries: LedgerEntry[] = []
  for (const { line, postings } of known) {
    const booked = recovered.get(line.id)
    if (booked === undefined) continue
    const body = JSON.parse(line.body) as LedgerBody
    // Two processes may recover the same one: the second knows no more than the first.
    if (body.outcome === 'recovered') continue
    const difference = amountsOf(line)
    add(difference, booked, -1)
    const corrected = JSON.stringify({ ...body, outcome: 'corrected' } satisfies LedgerBody)
    const correction = { ...line, ...difference, id: `${line.id}.c`, body: corrected }
    entries.push({
      line: correction,
      postings: postings.map(({ key }) => ({ key, leased: unleased })),
      short: null,
      posted: null,
    })
  }
  return entries
}

function flatten(entries: readonly LedgerEntry[], writer: string): LedgerGroup {
  let lines = ''
  let notes: (string | null)[] | null = null
  const sums = new Map<Posting, { readonly used: Amounts; short: Amounts | null }>()
  for (let index = 0; index < entries.length; index++) {
    const { line, postings, short, lessee } = entries[index] as LedgerEntry
    const leaseGone = lessee !== undefined && lessee !== writer
    if (lines !== '') lines += '\n'
    lines += chainText(line, digestOf(line.notes))
    if (line.notes !== null) {
      notes ??= new Array<string | null>(entries.length).fill(null)
      notes[index] = line.notes
    }
    for (const posting of postings) {
      const sum = sums.get(posting)
      if (sum === undefined) sums.set(posting, { used: amountsOf(line), short: null })
      else add(sum.used, line)
    }
    for (const { posting, amounts } of leaseGone
      ? postings.map((one) => ({ posting: one, amounts: line }))
      : (short ?? [])) {
      const sum = sums.get(posting)
      if (sum === undefined) continue
      sum.short ??= zero()
      add(sum.short, amounts)
    }
  }
  return { lines, notes, postings: valuesOf(sums) }
}

function valuesOf(sums: ReadonlyMap<Posting, { readonly used: Amounts; readonly short: Amounts | null }>): Value[] {
  const values: Value[] = []
  for (const [{ key, leased }, { used, short }] of sums) {
    if (used.usd === 0 && used.tokens === 0 && used.requests === 0 && used.tool_calls === 0) continue
    values.push(key.account, key.period, key.startsAt, used.usd, used.tokens, used.requests, used.tool_calls)
    values.push(
      leased.usd * (used.usd - (short?.usd ?? 0)),
      leased.tokens * (used.tokens - (short?.tokens ?? 0)),
      leased.requests * (used.requests - (short?.requests ?? 0)),
      leased.tool_calls * (used.tool_calls - (short?.tool_calls ?? 0)),
    )
  }
  return values
}

function amountsOf({ usd, tokens, requests, tool_calls }: Amounts): Amounts {
  return { usd, tokens, requests, tool_calls }
}
