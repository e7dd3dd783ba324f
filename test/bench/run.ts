/**
 * `npm run bench`: what the gateway adds to a bare proxy on the same stack, side by side, with a peer where one is
 * installed.
 *
 * `node test/bench/run.ts [--rounds N] [--quick] [--only llm,stream,memory] [--itself]`. `--itself` compares the bare
 * proxy with another one, which shows the noise. Any answer that is not right ends the run.
 * @module
 */
import { writeFileSync } from 'node:fs'
import { cpus, loadavg } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { generator, resultsFolder } from './load.ts'
import { median, pinned, pinSelf } from './measure.ts'
import * as parts from './parts.ts'
import { startBare, startPeer, startUpstream, type Target } from './targets.ts'

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string' },
    quick: { type: 'boolean', default: false },
    only: { type: 'string', default: 'llm,stream,memory' },
    itself: { type: 'boolean', default: false },
  },
})
if (process.platform !== 'linux') {
  console.error('The benchmark reads processor time from /proc, so it runs on Linux only.')
  process.exit(1)
}
const quick = options.quick
const rounds = Number(options.rounds ?? (quick ? 3 : 5))
const wanted = new Set(options.only.split(','))
const requests = quick ? 6_000 : 20_000
const rate = 1_000

// Leaving by way of `exit` takes the processes under measurement along.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))
pinSelf(1)
const loadBefore = loadavg()[0] ?? 0
const upstream = await startUpstream()
const targets: Target[] = []
const rows: parts.Comparison[] = []
try {
  const other = options.itself ? () => startBare(upstream, 'bare again') : parts.second(upstream)
  const starters = [() => startBare(upstream), other]
  for (const starter of starters) targets.push(await starter())
  const peer = wanted.has('llm') && !options.itself ? await startPeer(upstream) : null
  if (peer !== null) targets.push(peer)
  progress(`load by ${generator().join(' ')}; warming up`)
  await parts.warmUp(targets, requests)
  const pair = targets.slice(0, 2)
  for (const target of pair) await parts.firstBeforeSecond(target, upstream)
  if (wanted.has('llm')) {
    progress('whole requests')
    rows.push(await parts.wholeRequests(targets, rounds, requests))
    progress('fixed rate')
    rows.push(...(await parts.fixedRate(pair, rounds, rate, quick ? 1 : 2)))
  }
  if (wanted.has('stream')) {
    progress('streams')
    await parts.firstEvent(pair, 1, 100)
    rows.push(await parts.firstEvent(pair, rounds, quick ? 100 : 300))
    rows.push(await parts.chunks(pair, rounds, quick ? 100 : 200))
  }
  for (const target of targets.splice(0)) await target.stop()
  if (wanted.has('memory')) {
    progress('memory')
    rows.push(await parts.memory(upstream, starters, Math.min(rounds, 5), quick ? 1000 : 2000, quick ? 3000 : 10_000))
  }
  print()
  save()
} finally {
  for (const target of targets) await target.stop()
  await upstream.stop()
}

function progress(text: string): void {
  process.stderr.write(`${text} ...\n`)
}

function print(): void {
  const names = Object.keys(rows[0]?.values ?? {})
  const header = ['', ...names.slice(0, 2), 'added', 'ratio', 'rounds']
  const lines = rows.map((row) => {
    const [base = [], other = []] = Object.values(row.values)
    const label = `${row.what} (${row.unit})`
    const each = [...Object.values(row.values)].map((values) => `[${values.map(short).join(' ')}]`).join(' ')
    return [
      label,
      short(median(base)),
      short(median(other)),
      short(parts.added(row)),
      parts.ratio(row).toFixed(2),
      each,
    ]
  })
  const widths = header.map((_, column) => Math.max(...[header, ...lines].map((line) => line[column]?.length ?? 0)))
  const cells = (line: string[]) =>
    line.map((cell, at) => (at === 0 || at === 5 ? cell.padEnd(widths[at] ?? 0) : cell.padStart(widths[at] ?? 0)))
  process.stdout.write('\n')
  for (const line of [header, ...lines]) process.stdout.write(`${cells(line).join('  ').trimEnd()}\n`)
  const shares = rows.flatMap((row) => Object.entries(row.share).filter(() => row.what.startsWith('CPU per request')))
  for (const [name, values] of shares) {
    process.stdout.write(`share of the core, ${name}: [${values.map((value) => value.toFixed(2)).join(' ')}]\n`)
  }
  for (const [name, values] of Object.entries(rows[0]?.values ?? {}).slice(2)) {
    process.stdout.write(`peer ${name}: ${rows[0]?.what} ${short(median(values))} ${rows[0]?.unit}\n`)
  }
  process.stdout.write(
    `node ${process.version}, ${cpus()[0]?.model ?? 'unknown processor'} x ${cpus().length}, ` +
      `${pinned ? 'pinned' : 'not pinned'}, load before ${loadBefore.toFixed(2)}; compare rounds with a share of 0.95 or more\n`,
  )
}

function short(value: number): string {
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(1)
}

function save(): void {
  const at = new Date().toISOString()
  const ratios = rows.map((row) => ({ ...row, ratio: parts.ratio(row), added: parts.added(row) }))
  const machine = { node: process.version, processor: cpus()[0]?.model, cores: cpus().length, pinned, loadBefore }
  const file = join(resultsFolder, `${at.replace(/[:.]/g, '-')}.json`)
  writeFileSync(file, `${JSON.stringify({ at, machine, quick, rounds, requests, rows: ratios }, null, 2)}\n`)
  process.stdout.write(`written to ${file}\n`)
}
