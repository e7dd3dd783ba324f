/** `gatehouse sessions`: what key holders have minted, from a terminal. @module */
import type { Command } from 'commander'
import { accountShape, accountTable } from './account-view.ts'
import { addShowAndRevoke } from './accounts.ts'
import { type Reach, reaching, withGateway } from './admin-api.ts'
import { Failed } from './report.ts'

export function addSessions(program: Command): void {
  const group = program.command('sessions').description('sessions: keys of their own that key holders mint')

  reaching(group.command('list').description('list sessions'))
    .option('--parent <id>', 'only those minted by this key or session')
    .action((options: Reach & { readonly parent?: string }) =>
      withGateway(options, async (api) => {
        const query = options.parent === undefined ? '' : `?parent=${encodeURIComponent(options.parent)}`
        const rows = await api.all(`/sessions${query}`, accountShape)
        return rows instanceof Failed ? rows : { json: rows, text: accountTable(rows, 'no sessions') }
      }),
    )

  addShowAndRevoke(group, 'sessions', 'session')
}
