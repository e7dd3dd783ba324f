/** The structure of the house, held by a test: import levels, cycles, banned names, the places of network and clock. */
import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { describe, it } from 'node:test'

const root = join(import.meta.dirname, '..')
const files = globSync('src/**/*.ts', { cwd: root }).sort()
const text = new Map(files.map((file) => [file, readFileSync(join(root, file), 'utf8')]))

/** The room of a file: a folder of src/, or the file itself where it stands alone. */
function roomOf(file: string): string {
  const [, first = '', ...rest] = file.split('/')
  if (file === 'src/stores/store.ts') return 'store'
  return rest.length === 0 ? first.replace(/\.ts$/, '') : first
}

const levels: Readonly<Record<string, number>> = {
  fault: 0,
  account: 0,
  grant: 0,
  ledger: 0,
  tool: 0,
  usage: 0,
  call: 0,
  json: 1,
  egress: 1,
  running: 1,
  expr: 1,
  price: 1,
  tokens: 1,
  store: 1,
  dialects: 2,
  strategies: 2,
  targets: 2,
  credentials: 2,
  mcp: 2,
  identity: 2,
  policy: 2,
  escrow: 2,
  alerts: 2,
  rates: 2,
  stores: 2,
  config: 3,
  gateway: 3,
  admit: 4,
  plan: 4,
  execute: 4,
  translate: 4,
  settle: 4,
  record: 4,
  flow: 5,
  edge: 6,
  settings: 7,
  secrets: 7,
  welcome: 7,
  main: 7,
  commands: 7,
  cli: 7,
}

/** Neighbours of one level that may be read by a neighbour or from further up than their level allows. */
const beside: ReadonlySet<string> = new Set([
  'tool fault',
  'call fault',
  'call account',
  'call tool',
  'call usage',
  'grant fault',
  'call grant',
  'call ledger',
  'ledger account',
  'ledger usage',
  'targets mcp',
  'targets credentials',
  'rates policy',
  'stores rates',
  'gateway config',
  'alerts escrow',
  'edge dialects',
  'edge mcp',
  'edge identity',
  'edge json',
])

function mayImport(from: string, to: string): boolean {
  if (from === to || beside.has(`${from} ${to}`)) return true
  const [a, b] = [levels[from] as number, levels[to] as number]
  if (a === 7) return true
  if (a === 6) return b === 0 || b === 3 || b === 5
  if (a === 5) return b === 0 || b === 3 || b === 4 || to === 'escrow' || to === 'identity'
  return b < a
}

interface Import {
  /** Erased before it runs. */
  readonly typeOnly: boolean
  readonly from: string
  readonly to: string
  readonly what: string
}

const imports: Import[] = files.flatMap((from) =>
  [
    ...(text.get(from) as string).matchAll(
      /(?:^|\n)(?:import|export)\s[^'"]*?from\s+['"]([^'"]+)['"]|import\(['"]([^'"]+)['"]\)|(?:^|\n)import\s+['"]([^'"]+)['"]/g,
    ),
  ].map((match) => {
    const what = (match[1] ?? match[2] ?? match[3]) as string
    return {
      from,
      what,
      typeOnly: /^\s*(import|export)\s+type\s/.test(match[0]),
      to: what.startsWith('.') ? normalize(join(dirname(from), what)) : '',
    }
  }),
)

describe('the structure of the house', () => {
  it('has a level for every room', () => {
    assert.deepEqual(
      [...new Set(files.map(roomOf))].filter((room) => levels[room] === undefined),
      [],
    )
  })

  it('imports downwards only, types included', () => {
    const wrong = imports
      .filter(({ to }) => to !== '')
      .filter(({ from, to }) => !mayImport(roomOf(from), roomOf(to)))
      .map(({ from, to }) => `${from} imports ${to}`)
    assert.deepEqual(wrong, [])
  })

  it('has no cycle of files, types included', () => {
    const graph = new Map<string, string[]>(files.map((file) => [file, []]))
    for (const { from, to } of imports) if (to !== '') graph.get(from)?.push(to)
    const done = new Set<string>()
    const walk = (file: string, path: readonly string[]): string[] | null => {
      if (path.includes(file)) return [...path.slice(path.indexOf(file)), file]
      if (done.has(file)) return null
      for (const next of graph.get(file) ?? []) {
        const cycle = walk(next, [...path, file])
        if (cycle !== null) return cycle
      }
      done.add(file)
      return null
    }
    for (const file of files) assert.equal(walk(file, [])?.join(' -> '), undefined)
  })

  it('imports files that exist', () => {
    assert.deepEqual(
      imports.filter(({ to }) => to !== '' && !text.has(to)).map(({ from, to }) => `${from}: ${to}`),
      [],
    )
  })

  it('keeps Hono in the edge, SQL in the stores, threads where work is heavy, and processes in the MCP upstream', () => {
    const only: readonly [RegExp, RegExp][] = [
      [/^(@hono\/|hono)/, /^src\/edge\//],
      [/^(kysely|node:sqlite|ioredis|pg)$/, /^src\/stores\//],
      [/^node:worker_threads$/, /^src\/(stores|tokens)\//],
      [/^node:child_process$/, /^src\/mcp\/upstream\//],
      [/^(node:net|node:tls|node:https|node:dns.*|node:http2|node:dgram)$/, /^src\/(egress|commands\/workers\.ts)/],
      [/^node:http$/, /^src\/(edge\/|main\.ts|targets\/openapi-answer\.ts)/],
    ]
    for (const [packages, place] of only) {
      const wrong = imports.filter(({ what, from, typeOnly }) => !typeOnly && packages.test(what) && !place.test(from))
      assert.deepEqual(
        wrong.map(({ from, what }) => `${from} imports ${what}`),
        [],
      )
    }
  })

  it('takes undici by type everywhere but in the egress', () => {
    const wrong = files.filter(
      (file) => !file.startsWith('src/egress') && /import (?!type)[^\n]*from 'undici'/.test(text.get(file) as string),
    )
    assert.deepEqual(wrong, [])
  })

  it('never uses global fetch or web streams, reads the environment in main only, and has clock and chance passed in', () => {
    const code = (file: string) => (text.get(file) as string).replace(/\/\*[\s\S]*?\*\/|\/\/[^\n]*/g, '')
    const banned: readonly [RegExp, RegExp | null][] = [
      [/\b(await|return|=|=>)\s+fetch\(|globalThis\.fetch/, null],
      [/\b(ReadableStream|WritableStream|TransformStream)\b/, null],
      [/\bprocess\.env\b/, /^src\/main\.ts$/],
      [/\bMath\.random\b/, null],
      [/\bDate\.now\b|\bperformance\.now\b|\bnew Date\(\)/, /^src\/(main\.ts|stores\/)/],
      [/:\s*any\b|\bas any\b|<any>/, null],
      [/\b(TODO|FIXME|XXX)\b/, null],
    ]
    for (const [what, except] of banned) {
      assert.deepEqual(
        files.filter((file) => !(except?.test(file) ?? false) && what.test(code(file))),
        [],
        String(what),
      )
    }
  })

  it('names no file or folder after nothing in particular', () => {
    assert.deepEqual(
      files.filter((file) => /(^|[/.-])(utils?|helpers?|common|managers?|services?|misc|lib)([/.-]|$)/.test(file)),
      [],
    )
  })

  it('says in every file what it is for', () => {
    assert.deepEqual(
      files.filter((file) => !/^(#![^\n]*\n)?\/\*\*[\s\S]*?@module[\s\S]*?\*\//.test(text.get(file) as string)),
      [],
    )
  })

  it('keeps every file within reach of the eye', () => {
    const long = files.filter((file) => (text.get(file) as string).split('\n').length > 400)
    assert.deepEqual(long, [])
    assert.ok((text.get('src/flow.ts') as string).split('\n').length <= 150, 'flow.ts is one screen and its helpers')
  })
})
