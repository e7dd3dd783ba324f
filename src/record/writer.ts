/**
 * The ledger as calls see it. A write that fails is told to its caller at once; its rows are kept and written when the
 * store works again, because the money was spent all the same.
 * @module
 */
import type { LedgerWriter } from '../gateway.ts'
import type { LedgerEntry, Store } from '../stores/store.ts'

/** How often a store that failed is asked whether it works again. */
const probeEveryMs = 1000

export function openWriter(store: Store): LedgerWriter {
  let unwritten: LedgerEntry[] = []
  let probing = false

  /** Repeating a batch is safe: rows that are there already are skipped with their balances. */
  async function probe(): Promise<void> {
    if (probing || (unwritten.length === 0 && store.healthy())) return
    probing = true
    const batch = unwritten
    try {
      if (batch.length > 0) await store.ledger.append(batch)
      else await store.settings.set('probe', 'ok')
      unwritten = unwritten.slice(batch.length)
    } catch {
      // Still failing; readiness says so and the next probe tries again.
    } finally {
      probing = false
    }
  }

  const timer = setInterval(() => void probe(), probeEveryMs)
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
      await probe()
    },
  }
}
