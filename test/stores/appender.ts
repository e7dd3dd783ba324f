/**
 * Appends under load until it is killed, printing the ids it was told are written.
 * @module
 */
import { openStore } from '../../src/stores/open.ts'
import { entry, line, posting, total } from '../contract/rows.ts'

const [database = '', round = ''] = process.argv.slice(2)
const store = await openStore(database)
const everyone = posting(total('acme'))
const sessions = Array.from({ length: 7 }, (_, i) => posting(total(`s${i}`)))
let last = 0

async function caller(): Promise<never> {
  for (;;) {
    const number = ++last
    const session = sessions[number % sessions.length] ?? everyone
    const id = `row_${round}_${String(number).padStart(8, '0')}`
    const one = line(id, { account: session.key.account, usd: number, tokens: 1 })
    // After an unknown outcome the same line is offered again: it must not be there twice.
    while (!(await store.ledger.append([entry(one, [session, everyone])]).then(yes, no))) await moment()
    await new Promise((printed) => process.stdout.write(`${id}\n`, printed))
  }
}

const yes = () => true
const no = () => false
const moment = () => new Promise((resolve) => setTimeout(resolve, 20))

await Promise.all(Array.from({ length: 64 }, caller))
