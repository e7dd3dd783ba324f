/**
 * `npm test`: type check, lint, then every test file, two at a time.
 *
 * `node test/run.ts [--long] [part of a file name ...]`. Names choose test files, and then type check and lint are left
 * out. `--long` adds the `*.long.test.ts` files. Ends with `N passed, N failed, N skipped`, where type check and lint
 * count as one test each, and with exit status 1 when anything failed.
 * @module
 */
import { spawn } from 'node:child_process'
import { globSync } from 'node:fs'
import { join } from 'node:path'
import { run } from 'node:test'
import { type Count, lastLine, render } from './report.ts'

const root = join(import.meta.dirname, '..')
const concurrency = 2
/** A file that takes longer than this hangs. */
const fileTimeoutMs = 180_000

process.chdir(root)
const long = process.argv.includes('--long')
const names = process.argv.slice(2).filter((argument) => !argument.startsWith('--'))
const count: Count = { passed: 0, failed: 0, skipped: 0 }

if (names.length === 0) {
  await check('type check', 'tsc', ['-p', 'tsconfig.json'])
  await check('lint', 'biome', ['check', '--max-diagnostics=50'])
}

const files = globSync('test/**/*.test.ts', { exclude: (path) => path.startsWith(join('test', 'bench')) })
  .filter((file) => long || !file.endsWith('.long.test.ts'))
  .filter((file) => names.length === 0 || names.some((name) => file.includes(name.replace(/^\.\//, ''))))
  .sort()

if (files.length === 0) {
  process.stdout.write(`no test file matches ${names.join(' ')}\n`)
  count.failed += 1
} else {
  const events = run({
    files: files.map((file) => join(root, file)),
    concurrency,
    timeout: long ? Number.POSITIVE_INFINITY : fileTimeoutMs,
    execArgv: ['--disable-warning=ExperimentalWarning'],
  })
  for await (const text of render(events, count)) process.stdout.write(text)
}

// The status is set and not forced, so that a pipe gets everything up to the last line.
process.exitCode = count.failed > 0 ? 1 : 0
process.stdout.write(`\n${lastLine(count)}\n`)

/** Runs a tool of this project as one test: what it printed is shown only when it found something. */
async function check(title: string, tool: string, args: readonly string[]): Promise<void> {
  const started = performance.now()
  const { status, output } = await execute(join(root, 'node_modules', '.bin', tool), args)
  const seconds = ((performance.now() - started) / 1000).toFixed(1)
  count[status === 0 ? 'passed' : 'failed'] += 1
  process.stdout.write(
    `${title}: ${status === 0 ? 'ok' : 'FAILED'} (${seconds} s)\n${status === 0 ? '' : `${output}\n`}`,
  )
}

function execute(command: string, args: readonly string[]): Promise<{ status: number | null; output: string }> {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] })
    const parts: Buffer[] = []
    child.stdout.on('data', (part: Buffer) => parts.push(part))
    child.stderr.on('data', (part: Buffer) => parts.push(part))
    child.on('error', (error) => resolve({ status: null, output: String(error) }))
    child.on('close', (status) => resolve({ status, output: Buffer.concat(parts).toString() }))
  })
}
