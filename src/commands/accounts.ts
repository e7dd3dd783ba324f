/** `gatehouse accounts`: the tree of accounts, from a terminal. @module */
import type { Command } from 'commander'
import {
  accountShape,
  accountTable,
  accountText,
  erasedShape,
  labelOption,
  limitHelp,
  limitOption,
  several,
  standingShape,
  standingText,
} from './account-view.ts'
import { type Reach, reaching, withGateway } from './admin-api.ts'
import { Failed } from './report.ts'

interface Creation extends Reach {
  readonly name: string
  readonly kind: string
  readonly parent?: string
  readonly limit: readonly unknown[]
  readonly model?: readonly string[]
  readonly tool?: readonly string[]
  readonly label: Readonly<Record<string, string>>
}

export function addAccounts(program: Command): void {
  const group = program.command('accounts').description('accounts: who keys and budgets belong to')

  reaching(group.command('create').description('make an account'))
    .requiredOption('--name <name>', 'what people call it')
    .option('--kind <kind>', 'organization, team, user, application or feature', 'organization')
    .option('--parent <id>', 'the account it lies under')
    .option('--limit <limit>', limitHelp, limitOption, [])
    .option('--model <glob>', 'a model it may use; may be repeated (default: as above it)', several)
    .option('--tool <glob>', 'a tool it may use; may be repeated (default: as above it)', several)
    .option('--label <name=value>', 'may be repeated', labelOption, {})
    .action((options: Creation) =>
      withGateway(options, async (api) => {
        const made = await api.ask('POST', '/accounts', accountShape, {
          name: options.name,
          kind: options.kind,
          parent: options.parent ?? null,
          ...(options.limit.length === 0 ? {} : { limits: options.limit }),
          models: options.model ?? null,
          tools: options.tool ?? null,
          labels: options.label,
        })
        return made instanceof Failed ? made : { json: made, text: accountText(made) }
      }),
    )

  reaching(group.command('list').description('list accounts'))
    .option('--parent <id>', 'only those right below this one')
    .action((options: Reach & { readonly parent?: string }) =>
      withGateway(options, async (api) => {
        const query = options.parent === undefined ? '' : `?parent=${encodeURIComponent(options.parent)}`
        const rows = await api.all(`/accounts${query}`, accountShape)
        return rows instanceof Failed ? rows : { json: rows, text: accountTable(rows, 'no accounts') }
      }),
    )

  addShowAndRevoke(group, 'accounts', 'account')

  reaching(
    group
      .command('erase <id>')
      .description('revoke one account and everything below it, and erase names, labels and what callers wrote'),
  ).action((id: string, options: Reach) =>
    withGateway(options, async (api) => {
      const row = await api.ask('DELETE', `/accounts/${encodeURIComponent(id)}?erase=true`, erasedShape)
      if (row instanceof Failed) return row
      const { accounts, rows } = row.erased
      const what = `names and labels of ${accounts} accounts, steps and labels of ${rows} rows`
      return { json: row, text: `${row.id} is revoked since ${row.revoked_at}; erased: ${what}` }
    }),
  )
}

/** `show` and `revoke`, which accounts, keys and sessions share. */
export function addShowAndRevoke(group: Command, plural: 'accounts' | 'keys' | 'sessions', one: string): void {
  reaching(group.command('show <id>').description(`show one ${one} with what it used`)).action(
    (id: string, options: Reach) =>
      withGateway(options, async (api) => {
        const row = await api.ask('GET', `/${plural}/${encodeURIComponent(id)}`, standingShape)
        return row instanceof Failed ? row : { json: row, text: standingText(row) }
      }),
  )
  reaching(group.command('revoke <id>').description(`revoke one ${one} and everything below it`)).action(
    (id: string, options: Reach) =>
      withGateway(options, async (api) => {
        const row = await api.ask('DELETE', `/${plural}/${encodeURIComponent(id)}`, accountShape)
        return row instanceof Failed ? row : { json: row, text: `${row.id} is revoked since ${row.revoked_at}` }
      }),
  )
}
