/**
 * How a test run is shown: a mark for each test while it runs, every failure with its place and cause, the slowest
 * files, and the count as the last line. Usable alone: `node --test --test-reporter=./test/report.ts`.
 * @module
 */
import { relative } from 'node:path'
import type { TestEvent } from 'node:test/reporters'
import { inspect } from 'node:util'

/** Results of checks that are no test files (type check, lint), or the total of a run. */
export interface Count {
  passed: number
  failed: number
  skipped: number
}

/** The last line of every run. */
export function lastLine(count: Count): string {
  return `${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`
}

interface Result {
  readonly name: string
  readonly nesting: number
  readonly file?: string | undefined
  readonly line?: number | undefined
  readonly skip?: string | boolean | undefined
  readonly todo?: string | boolean | undefined
  readonly details: { readonly duration_ms: number; readonly type?: string | undefined; readonly error?: unknown }
}

interface Failure {
  readonly title: string
  readonly place: string
  readonly error: unknown
}

const lineWidth = 100
const slowest = 10

/**
 * Renders test events. Only leaves are counted: a suite, or a test that has subtests, is counted only when it failed
 * by itself (a hook, an error outside of its subtests).
 *
 * @param source events of `node:test`
 * @param count filled while the events pass; what it holds at the start is part of the total
 * @yields text for the terminal
 */
export async function* render(source: AsyncIterable<TestEvent>, count: Count): AsyncGenerator<string> {
  const failures: Failure[] = []
  const skipped: string[] = []
  const times = new Map<string, number>()
  const output = new Map<string, string>()
  const open = new Map<string, string[]>()
  const parents = new Map<string, Set<number>>()
  let column = 0

  for await (const event of source) {
    if (event.type === 'test:stdout' || event.type === 'test:stderr') {
      const { file, message } = event.data
      output.set(file, (output.get(file) ?? '') + message)
    } else if (event.type === 'test:summary') {
      if (event.data.file !== undefined) times.set(event.data.file, event.data.duration_ms)
    } else if (event.type === 'test:start') {
      const { file = '', name, nesting } = event.data
      const path = open.get(file) ?? []
      path.length = nesting
      path[nesting] = name
      open.set(file, path)
    } else if (event.type === 'test:pass' || event.type === 'test:fail') {
      const result: Result = event.data
      const file = result.file ?? ''
      const withChildren = parents.get(file) ?? new Set<number>()
      parents.set(file, withChildren)
      const leaf = !withChildren.delete(result.nesting) && result.details.type !== 'suite'
      if (result.nesting > 0) withChildren.add(result.nesting - 1)

      const mark = judge(result, event.type === 'test:fail', leaf)
      if (mark === null) continue
      if (mark === 'F') {
        const above = (open.get(file) ?? []).slice(0, result.nesting)
        failures.push({ title: [...above, result.name].join(' > '), place: place(result), error: cause(result) })
      }
      if (mark === 's' && typeof result.skip === 'string') skipped.push(`${result.name}: ${result.skip}`)
      count[mark === 'F' ? 'failed' : mark === 's' ? 'skipped' : 'passed'] += 1
      yield mark
      column += 1
      if (column % lineWidth === 0) yield '\n'
    }
  }

  yield column % lineWidth === 0 ? '' : '\n'
  for (const [index, failure] of failures.entries()) {
    yield `\n${index + 1}) ${failure.title}\n   ${failure.place}\n${indent(describe(failure.error))}\n`
  }
  const failed = new Set(failures.map((failure) => failure.place.replace(/:\d+$/, '')))
  for (const [file, text] of output) {
    if (failed.has(shown(file)) && text.trim() !== '') yield `\noutput of ${shown(file)}:\n${indent(text.trimEnd())}\n`
  }
  for (const text of skipped) yield `\nskipped: ${text}\n`
  const ranked = [...times].sort((a, b) => b[1] - a[1]).slice(0, slowest)
  if (ranked.length > 1) yield '\nslowest files\n'
  if (ranked.length > 1)
    for (const [file, ms] of ranked) yield `${(ms / 1000).toFixed(2).padStart(8)} s  ${shown(file)}\n`
}

/** The reporter `node --test --test-reporter` loads. */
export default async function* report(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const count: Count = { passed: 0, failed: 0, skipped: 0 }
  yield* render(source, count)
  yield `\n${lastLine(count)}\n`
}

/** `.` passed, `s` skipped, `F` failed, or null for what is not counted. */
function judge(result: Result, failed: boolean, leaf: boolean): '.' | 's' | 'F' | null {
  const excused = isSet(result.skip) || isSet(result.todo)
  if (failed && !excused) return failureType(result) === 'subtestsFailed' ? null : 'F'
  // A file without any test is reported as one passed test that bears the file's name.
  if (!leaf || (result.nesting === 0 && result.file !== undefined && result.file.endsWith(result.name))) return null
  return excused ? 's' : '.'
}

function isSet(directive: string | boolean | undefined): boolean {
  return directive !== undefined && directive !== false
}

function failureType(result: Result): unknown {
  const { error } = result.details
  return error instanceof Error && 'failureType' in error ? error.failureType : undefined
}

/** The runner wraps what a test threw. */
function cause(result: Result): unknown {
  const { error } = result.details
  return error instanceof Error && error.cause !== undefined ? error.cause : error
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return typeof error === 'string' ? error : inspect(error)
  const own = (error.stack ?? error.message)
    .split('\n')
    .filter((line) => !/^\s+at .*(node:internal|node:async_hooks)/.test(line))
    .join('\n')
  const nested = error.cause === undefined ? '' : `\ncaused by ${describe(error.cause)}`
  return own + nested
}

function place(result: Result): string {
  if (result.file === undefined) return '(no file)'
  return result.line === undefined ? shown(result.file) : `${shown(result.file)}:${result.line}`
}

function shown(file: string): string {
  return file === '' ? '(no file)' : relative(process.cwd(), file)
}

function indent(text: string): string {
  return text.replace(/^/gm, '   ')
}
