/** `gatehouse usage`: what was used, by what is asked, from a terminal. @module */
import type { Command } from 'commander'
import { z } from 'zod'
import { type Reach, reaching, withGateway } from './admin-api.ts'
import { Failed, table } from './report.ts'

interface Asked extends Reach {
  readonly groupBy: string
  readonly zone?: string
  readonly since?: string
  readonly until?: string
  readonly account?: string
}

const usageShape = z.looseObject({
  group_by: z.string(),
  data: z.array(z.record(z.string(), z.union([z.string(), z.number(), z.null()]))),
})

const columns = ['calls', 'usd', 'input', 'output', 'cache_read', 'cache_write', 'reasoning', 'requests', 'tool_calls']

export function addUsage(program: Command): void {
  reaching(program.command('usage').description('what was used, in calls, tokens and dollars'))
    .option(
      '--group-by <groups>',
      'account, key, session, model, provider, tool, kind, label:NAME, hour, day, month; several with commas',
      'account',
    )
    .option('--zone <zone>', 'time zone of hours, days and months, like Europe/Berlin (default: UTC)')
    .option('--since <time>', 'only calls from then on, ISO 8601')
    .option('--until <time>', 'only calls before then, ISO 8601')
    .option('--account <id>', 'only this account and everything below it')
    .action((options: Asked) =>
      withGateway(options, async (api) => {
        const { groupBy, zone, since, until, account } = options
        const answer = await api.ask(
          'GET',
          `/usage?${queryOf({ group_by: groupBy, zone, since, until, account })}`,
          usageShape,
        )
        if (answer instanceof Failed) return answer
        const names = [...answer.group_by.split(','), ...columns]
        const rows = answer.data.map((row) => names.map((name) => String(row[name] ?? '')))
        const heads = names.map((name) => name.toUpperCase().replace('_', ' '))
        return { json: answer, text: table(heads, rows, 'no calls') }
      }),
    )
}

/** What is given of a query, encoded. */
export function queryOf(given: Readonly<Record<string, string | undefined>>): string {
  const pairs = Object.entries(given).filter((pair): pair is [string, string] => pair[1] !== undefined)
  return new URLSearchParams(pairs).toString()
}
