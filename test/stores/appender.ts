/** Appends under load until it is killed, printing the ids it was told are written. Run by crash.test.ts. @module */
import { openSqlite } from '../../src/stores/sqlite.ts'
import { entry, ledgerRow, total } from '../contract/rows.ts'

const [path = '', round = ''] = process.argv.slice(2)
const store = await openSqlite(path)
const everyone = total('acme')
const sessions = Array.from({ length: 7 }, (_, i) => total(`s${i}`))
let last = 0

async function caller(): Promise<never> {
  for (;;) {
    const number = ++last
    const session = sessions[number % sessions.length] ?? everyone
    const id = `row_${round}_${String(number).padStart(8, '0')}`
    const row = ledgerRow(id, { account: session.account, usd: number, tokens: 1 })
    await store.ledger.append([entry(row, [session, everyone])])
    await new Promise((printed) => process.stdout.write(`${id}\n`, printed))
  }
}

await Promise.all(Array.from({ length: 64 }, caller))
