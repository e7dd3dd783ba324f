/** The table of commands. @module */
import { Command } from 'commander'
import { serve } from './serve.ts'

export async function run(argv: readonly string[], version: string): Promise<void> {
  const program = new Command('gatehouse')
    .description('A gateway for AI agents: models and tools behind session keys with budgets and policies.')
    .version(version)
  program
    .command('serve')
    .description('start the gateway')
    .option('--home <dir>', 'folder with registry/, policies/ and data/ (default: the current one)')
    .option('--port <n>', 'port to listen on (default: 8787)')
    .option('--host <h>', 'address to listen on (default: 127.0.0.1)')
    .option('--workers <n>', 'processes (this version: 1)')
    .action(serve)
  await program.parseAsync(argv)
}
