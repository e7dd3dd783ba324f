#!/usr/bin/env node
/** The `gatehouse` command: what can be done from a terminal. @module */
import { createRequire } from 'node:module'

const least = [22, 19] as const
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
if (major < least[0] || (major === least[0] && minor < least[1])) {
  console.error(`gatehouse needs Node ${least.join('.')} or newer; this is Node ${process.versions.node}.`)
  process.exit(1)
}
// Only now: on an older Node the rest would fail with an error nobody can read.
const { run } = await import('./commands/commands.ts')
const { version } = createRequire(import.meta.url)('../package.json') as { version: string }
await run(process.argv, version)
