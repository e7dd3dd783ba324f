/**
 * The ledger as calls see it. A write that fails is told to its caller at once; its rows are kept and written when the
 * store works again, because the money was spent all the same.
 * @module
 */
import type { LedgerWriter } from '../gateway.ts'
import type { LedgerEntry, Store } from '../stores/store.ts'

/** How often rows that could not be written are tried again. Whether the store works again it finds out by itself. */
const retryEveryMs = 1000

export function openWriter(store: Store): LedgerWriter {
  let unwritten: LedgerEntry[] = []
  let retrying = false

  /** Repeating a batch is safe: rows that are there already are skipped with their balances. */
  async function retry(): Promise<void> {
    if (retrying || unwritten.length === 0) return
    retrying = true
    const batch = unwritten
    try {
      await store.ledger.append(batch)
      unwritten = unwritten.slice(batch.length)
    } catch {
      // Still failing; readiness says so and the next attempt follows.
    } finally {
      retrying = false
    }
  }

  const timer = setInterval(() => void retry(), retryEveryMs)
  timer.unref()
  return {
    append(entries) {
      const written = store.ledger.append(entries)
      written.catch(() => {
        unwritten = [...unwritten, ...entries]
      })
      return written
    },
    async close() {
      clearInterval(timer)
      await retry()
    },
  }
}
