/** The table of commands. @module */
import { Command } from 'commander'
import { addAccounts } from './accounts.ts'
import { addCheck } from './check.ts'
import { addKeys } from './keys.ts'
import { addLedger } from './ledger.ts'
import { addPolicy } from './policy.ts'
import { addRegistry } from './registry.ts'
import { exitHelp, exits } from './report.ts'
import { serve } from './serve.ts'
import { addSessions } from './sessions.ts'
import { addUsage } from './usage.ts'

export async function run(argv: readonly string[], version: string): Promise<void> {
  const program = new Command('gatehouse')
    .description('A gateway for AI agents: models and tools behind session keys with budgets and policies.')
    .version(version)
    .addHelpText('after', exitHelp)
    // Commands made below inherit this, so it comes before them.
    .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? exits.done : exits.usage))
  program
    .command('serve')
    .description('start the gateway')
    .option('--home <dir>', 'folder with registry/, policies/ and data/ (default: the current one)')
    .option('--port <n>', 'port to listen on (default: 8787)')
    .option('--host <h>', 'address to listen on (default: 127.0.0.1)')
    .option('--workers <n>', 'processes (this version: 1)')
    .action(serve)
  for (const add of [addKeys, addAccounts, addSessions, addCheck, addPolicy, addRegistry, addUsage, addLedger])
    add(program)
  await program.parseAsync(argv)
}
