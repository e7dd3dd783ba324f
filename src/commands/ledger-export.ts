/** `gatehouse ledger export`: every row of the ledger on standard output, page by page. @module */
import { once } from 'node:events'
import { type Command, Option } from 'commander'
import { z } from 'zod'
import { formats } from '../execute/export.ts'
import { type AdminApi, type Reach, reached, reaching } from './admin-api.ts'
import { exits, Failed, print } from './report.ts'
import { queryOf } from './usage.ts'

interface Asked extends Reach {
  readonly format: string
  readonly since?: string
  readonly until?: string
  readonly account?: string
}

const pageShape = z.object({ data: z.array(z.looseObject({ id: z.string() })), next: z.string().nullable() })
const pageRows = 500

export function addLedgerExport(group: Command): void {
  reaching(group.command('export').description('write the rows of the ledger to standard output'))
    .addOption(new Option('--format <format>', 'how').choices(Object.keys(formats)).default('csv'))
    .option('--since <time>', 'only calls from then on, ISO 8601')
    .option('--until <time>', 'only calls before then, ISO 8601')
    .option('--account <id>', 'only this account and everything below it')
    .action(async (options: Asked) => {
      const failed = await reached(options, (api) => write(api, options))
      if (failed instanceof Failed) print(failed, false)
      else process.exitCode = exits.done
    })
}

async function write(api: AdminApi, { format: name, since, until, account }: Asked): Promise<Failed | null> {
  const format = formats[name] as (typeof formats)[string]
  let gone = false
  // Whoever read it has seen enough.
  process.stdout.on('error', () => {
    gone = true
  })
  let text = format.before
  let first = true
  for (let after: string | undefined; !gone; ) {
    const query = queryOf({ limit: String(pageRows), after, since, until, account })
    const page = await api.ask('GET', `/ledger?${query}`, pageShape)
    if (page instanceof Failed) return page
    for (const row of page.data) {
      text += format.row(row, first)
      first = false
    }
    if (page.next === null) text += format.after
    if (text !== '' && !process.stdout.write(text) && !gone)
      await Promise.race([once(process.stdout, 'drain'), once(process.stdout, 'close')])
    text = ''
    if (page.next === null) break
    after = page.next
  }
  return null
}
