/** `gatehouse keys`: what callers present, from a terminal. @module */
import type { Command } from 'commander'
import {
  accountShape,
  accountTable,
  accountText,
  createdKeyShape,
  labelOption,
  limitHelp,
  limitOption,
  several,
} from './account-view.ts'
import { addShowAndRevoke } from './accounts.ts'
import { type Reach, reaching, withGateway } from './admin-api.ts'
import { Failed } from './report.ts'

interface Creation extends Reach {
  readonly account: string
  readonly name: string
  readonly role: readonly string[]
  readonly limit: readonly unknown[]
  readonly model?: readonly string[]
  readonly tool?: readonly string[]
  readonly expiresAt?: string
  readonly label: Readonly<Record<string, string>>
}

export function addKeys(program: Command): void {
  const group = program.command('keys').description('keys: what callers present')

  reaching(group.command('create').description('make a key; its secret is shown this once'))
    .requiredOption('--account <id>', 'the account it belongs to')
    .option('--name <name>', 'what people call it', 'key')
    .option('--role <role>', 'a role of policies/tools/; may be repeated', several, [])
    .option('--limit <limit>', limitHelp, limitOption, [])
    .option('--model <glob>', 'a model it may use; may be repeated (default: as above it)', several)
    .option('--tool <glob>', 'a tool it may use; may be repeated (default: as above it)', several)
    .option('--expires-at <time>', 'ISO 8601, as in 2030-01-31T00:00:00Z')
    .option('--label <name=value>', 'may be repeated', labelOption, {})
    .action((options: Creation) =>
      withGateway(options, async (api) => {
        const made = await api.ask('POST', '/keys', createdKeyShape, {
          account: options.account,
          name: options.name,
          roles: options.role,
          ...(options.limit.length === 0 ? {} : { limits: options.limit }),
          models: options.model ?? null,
          tools: options.tool ?? null,
          expires_at: options.expiresAt ?? null,
          labels: options.label,
        })
        return made instanceof Failed ? made : { json: made, text: accountText(made, made.key) }
      }),
    )

  reaching(group.command('list').description('list keys'))
    .option('--account <id>', 'only those of this account')
    .action((options: Reach & { readonly account?: string }) =>
      withGateway(options, async (api) => {
        const query = options.account === undefined ? '' : `?parent=${encodeURIComponent(options.account)}`
        const rows = await api.all(`/keys${query}`, accountShape)
        return rows instanceof Failed ? rows : { json: rows, text: accountTable(rows, 'no keys') }
      }),
    )

  addShowAndRevoke(group, 'keys', 'key')
}
