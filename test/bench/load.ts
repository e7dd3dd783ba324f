/**
 * Runs the load generator: the C program where a compiler is there (built once, kept beside the results), else the
 * same in Node, which costs more of the core it shares with the upstream.
 * @module
 */
import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { pinned } from './measure.ts'

export interface LoadOptions {
  readonly port: number
  readonly model: string
  readonly connections: number
  readonly requests: number
  /** Requests per second by schedule; 0 is a closed loop. */
  readonly rate: number
  /** `name: value` lines. */
  readonly headers: readonly string[]
}

export interface LoadResult {
  readonly completed: number
  readonly failed: number
  readonly seconds: number
  readonly p50us: number
  readonly p99us: number
  /** What the first failure was. */
  readonly failure: string
}

export const resultsFolder = join(import.meta.dirname, 'results')
const source = join(import.meta.dirname, 'load.c')
const binary = join(resultsFolder, `load-${process.platform}-${process.arch}`)
let command: readonly string[] | null = null

/** The generator to use; compiles it when it is missing or older than its source. */
export function generator(): readonly string[] {
  if (command !== null) return command
  mkdirSync(resultsFolder, { recursive: true })
  const built = statSync(binary, { throwIfNoEntry: false })
  const current = built !== undefined && built.mtimeMs >= statSync(source).mtimeMs
  const compiled = current || spawnSync('cc', ['-O2', '-o', binary, source]).status === 0
  command = compiled ? [binary] : [process.execPath, join(import.meta.dirname, 'load-node.ts')]
  return command
}

/**
 * Sends load and waits for its end.
 *
 * @throws {Error} when any answer was wrong: a figure over failures means nothing
 */
export async function load(options: LoadOptions): Promise<LoadResult> {
  const { port, model, connections, requests, rate, headers } = options
  const own = [...generator(), port, '/v1/chat/completions', model, connections, requests, rate, ...headers].map(String)
  const [program = '', ...args] = pinned ? ['taskset', '-c', '1', ...own] : own
  const output = await new Promise<string>((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] })
    let text = ''
    child.stdout.on('data', (part: Buffer) => {
      text += part.toString()
    })
    child.on('error', reject)
    child.on('close', () => resolve(text))
  })
  const result = JSON.parse(output || '{"failed":1,"failure":"the load generator ended early"}') as LoadResult
  if (result.failed > 0)
    throw new Error(`${result.failed} of ${requests} requests failed; the first: ${result.failure}`)
  return result
}
