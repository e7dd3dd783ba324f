/** What must hold of everything appended, however the process or the database ended. @module */
import assert from 'node:assert/strict'
import type { LedgerRow } from '../../src/call.ts'
import type { Store } from '../../src/stores/store.ts'
import { wholeChain } from '../contract/ledger.ts'

/**
 * Asserts that no acknowledged line is lost, none is there twice, each process's lines are a whole chain, and the
 * balances are the sums of the lines.
 */
export async function verifyAppended(store: Store, acknowledged: ReadonlySet<string>): Promise<void> {
  const rows = await everything(store)
  const found = new Set(rows.map((row) => row.id))
  assert.equal(found.size, rows.length, 'a line is there twice')
  assert.deepEqual(
    [...acknowledged].filter((id) => !found.has(id)),
    [],
  )
  const chains = Map.groupBy(rows, ({ writer }) => writer)
  for (const chain of chains.values()) wholeChain(chain.toSorted((a, b) => a.seq - b.seq))
  const sums = new Map<string, { usd: number; requests: number }>()
  for (const row of rows) {
    for (const account of [row.account, 'acme']) {
      const sum = sums.get(account) ?? { usd: 0, requests: 0 }
      sums.set(account, { usd: sum.usd + row.usd, requests: sum.requests + row.requests })
    }
  }
  for (const [account, sum] of sums) {
    const balance = { usd: 0, requests: 0 }
    for (const { used } of await store.balances.of(account)) {
      balance.usd += used.usd
      balance.requests += used.requests
    }
    assert.deepEqual(balance, sum, account)
  }
}

async function everything(store: Store): Promise<readonly LedgerRow[]> {
  const rows: LedgerRow[] = []
  for (;;) {
    const page = await store.ledger.page({ limit: 1000, after: rows.at(-1)?.id })
    rows.push(...page)
    if (page.length < 1000) return rows
  }
}
