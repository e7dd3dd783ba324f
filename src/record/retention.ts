/**
 * What the ledger forgets, and how its chains and sums stay whole. Notes are erased, their digests stay. Rows go from
 * the beginning of a chain only, and a checkpoint with what they came to takes their place. In small batches, between
 * which the ledger is written as always.
 * @module
 */
import { type Amounts, type LedgerRow, nothing, units } from '../call.ts'
import type { Log } from '../gateway.ts'
import type { Prefix, Store } from '../stores/store.ts'
import type { Anchors } from './anchor.ts'

const everyMs = 86_400_000
const batchRows = 500
/** Setting that remembers up to which row notes have been erased. */
const notesDone = 'retention:notes'

export type Forgetting = Pick<Store, 'accounts' | 'ledger' | 'retention' | 'settings'>

export interface RetentionDeps {
  readonly store: Forgetting
  /** How long things are kept, ms; null for good. Asked each time: the configuration may change. */
  readonly limits: () => { readonly notes: number | null; readonly rows: number | null }
  readonly anchors: Pick<Anchors, 'checkpoint'>
  readonly now: () => number
  readonly log: Pick<Log, 'info' | 'warn'>
}

export interface Retention {
  /** Begins no further batch, and resolves after the one at work. */
  stop(): Promise<void>
}

/** Forgets what is due, now and once a day. */
export function startRetention({ store, limits, anchors, now, log }: RetentionDeps): Retention {
  let stopped = false
  let work = Promise.resolve()

  async function sweep(): Promise<void> {
    const { notes, rows } = limits()
    const going = () => !stopped
    try {
      if (notes !== null) await forgetNotes(store, now() - notes, going)
      if (rows === null) return
      const removed = await forgetRows(store, now() - rows, anchors.checkpoint, going)
      if (removed > 0) log.info({ event: 'retention', removed }, 'rows of the ledger were removed')
    } catch (error) {
      log.warn({ error: String(error) }, 'the ledger could not forget what is due; tomorrow it is tried again')
    }
  }

  const begin = () => {
    work = work.then(sweep)
  }
  const timer = setInterval(begin, everyMs)
  timer.unref()
  begin()
  return {
    async stop() {
      stopped = true
      clearInterval(timer)
      await work
    },
  }
}

/** Erases the notes of rows whose call entered before a moment, from where it left off. */
export async function forgetNotes(store: Forgetting, before: number, going = () => true): Promise<void> {
  let after = (await store.settings.get(notesDone)) ?? undefined
  while (going()) {
    const last = await store.retention.eraseNotesBefore(before, { after, limit: batchRows })
    if (last === null) return
    await store.settings.set(notesDone, last)
    after = last
  }
}

/**
 * Removes rows that were booked before a moment, as far as they are the beginning of their chain.
 *
 * @param before at least two months ago: counters of windows that began earlier are forgotten with the rows
 * @param onRemove told before the rows of a chain up to this one are removed
 * @returns how many rows went
 */
export async function forgetRows(
  store: Forgetting,
  before: number,
  onRemove: Anchors['checkpoint'],
  going = () => true,
): Promise<number> {
  const from = new Map(await store.retention.checkpoints())
  const pathOf = paths(store)
  /** Old rows that are not yet the beginning of their chain, by writer and seq. */
  const waiting = new Map<string, Map<number, LedgerRow>>()
  let removed = 0
  await store.retention.forgetWindows(before)
  for (let after: string | undefined; going(); ) {
    const page = await store.ledger.page({ after, limit: batchRows })
    // Ids sort by when calls entered, and a call is booked after it has entered.
    const young = page.findIndex(({ at }) => at >= before)
    for (const row of young === -1 ? page : page.slice(0, young)) {
      if (row.booked >= before) continue
      const rows = waiting.get(row.writer) ?? new Map<number, LedgerRow>()
      waiting.set(row.writer, rows.set(row.seq, row))
    }
    for (const [writer, rows] of waiting) {
      for (let start = from.get(writer) ?? 0; ; ) {
        const first = takeFirst(rows, start)
        const last = first.at(-1)
        if (last === undefined) break
        onRemove(last)
        const ids = first.map(({ id }) => id)
        const prefix: Prefix = { writer, after: start, last, ids, sums: await sumsOf(first, pathOf) }
        if (!(await store.retention.remove(prefix))) return removed
        start = last.seq
        from.set(writer, start)
        removed += first.length
      }
    }
    if (young !== -1 || page.length < batchRows) return removed
    after = page.at(-1)?.id
  }
  return removed
}

/** Takes the rows that follow a place without a gap. */
function takeFirst(rows: Map<number, LedgerRow>, start: number): LedgerRow[] {
  const first: LedgerRow[] = []
  for (let seq = start + 1; first.length < batchRows; seq++) {
    const row = rows.get(seq)
    if (row === undefined) break
    rows.delete(seq)
    first.push(row)
  }
  return first
}

async function sumsOf(
  rows: readonly LedgerRow[],
  pathOf: (account: string) => Promise<readonly string[]>,
): Promise<Prefix['sums']> {
  const sums = new Map<string, Amounts & { readonly account: string }>()
  for (const row of rows) {
    for (const account of await pathOf(row.account)) {
      const sum = sums.get(account) ?? { account, ...nothing }
      for (const unit of units) sum[unit] += row[unit]
      sums.set(account, sum)
    }
  }
  return [...sums.values()]
}

/** Ids of an account and those above it, asked once each. */
function paths(store: Forgetting): (account: string) => Promise<readonly string[]> {
  const known = new Map<string, Promise<readonly string[]>>()
  return (account) => {
    let path = known.get(account)
    if (path === undefined) {
      if (known.size >= 10_000) known.clear()
      path = store.accounts.path(account).then((rows) => rows.map(({ id }) => id))
      known.set(account, path)
    }
    return path
  }
}
