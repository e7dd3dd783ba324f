/**
 * One of several processes that spend one budget: leases a few tokens at a time, books them, and prints in the end what
 * it spent. Waits for a line on standard input first, so that all begin at once.
 * @module
 */
import { once } from 'node:events'
import { openStore } from '../../src/stores/open.ts'
import { amounts, entry, line, posting, total } from '../contract/rows.ts'

const [database = '', account = '', max = '0', slice = '1'] = process.argv.slice(2)
const store = await openStore(database)
const key = total(account)
const spending = posting(key, 'tokens')
process.stdout.write('ready\n')
await once(process.stdin, 'data')
process.stdin.destroy()
let spent = 0
for (;;) {
  const ask = { key, version: 1, want: amounts({ tokens: Number(slice) }), max: amounts({ tokens: Number(max) }) }
  const [answer] = await store.leases.ask([ask])
  const tokens = answer?.leased.tokens ?? 0
  if (tokens === 0) break
  const one = line(`${store.writers.id}-${String(spent).padStart(6, '0')}`, { account, usd: 0, tokens, requests: 0 })
  await store.ledger.append([entry(one, [spending])])
  spent += tokens
}
process.stdout.write(`${spent}\n`)
await store.close()
