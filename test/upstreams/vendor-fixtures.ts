/**
 * Recorded exchanges of real providers, served again. The recordings lie beside the repository and are not part of it;
 * where they are missing, tests that need them skip.
 * @module
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { isRecord, type Sink, sendWhole } from './vendor-body.ts'

export const fixtureFolder = join(import.meta.dirname, '..', '..', '..', 'shared', 'fixtures')

/** One recorded exchange; `request` is null where only the answer was kept. */
export interface Fixture {
  readonly request: { readonly method: string; readonly path: string; readonly body: unknown } | null
  readonly status: number
  readonly headers: readonly string[]
  readonly body: Buffer
}

/** A row of the recordings' index. */
export interface FixtureRow {
  readonly file: string
  readonly provider: string
  readonly endpoint: string
  readonly streaming: boolean
  readonly status: number
  readonly features: readonly string[]
}

/** Rows of the index that fit, or none when the recordings are not there. */
export function fixtureRows(fits: (row: FixtureRow) => boolean): FixtureRow[] {
  const file = join(fixtureFolder, 'index.json')
  if (!existsSync(file)) return []
  const rows: unknown = JSON.parse(readFileSync(file, 'utf8'))
  return Array.isArray(rows) ? rows.filter(isRow).filter(fits) : []
}

function isRow(row: unknown): row is FixtureRow {
  return (
    isRecord(row) &&
    typeof row.file === 'string' &&
    typeof row.provider === 'string' &&
    typeof row.endpoint === 'string' &&
    typeof row.status === 'number' &&
    Array.isArray(row.features)
  )
}

/**
 * Reads a recorded exchange.
 *
 * @param file as the index names it
 * @returns null when it is not there
 * @throws {Error} the file is no recorded exchange
 */
export function readFixture(file: string): Fixture | null {
  const path = join(fixtureFolder, file)
  if (!existsSync(path)) return null
  const exchange: unknown = JSON.parse(readFileSync(path, 'utf8'))
  const response = isRecord(exchange) ? exchange.response : undefined
  if (!isRecord(exchange) || !isRecord(response)) throw new Error(`${file} is no recorded exchange`)
  const kind = String(response.body_kind)
  const recorded = Object.entries(isRecord(response.headers) ? response.headers : {})
  const headers = recorded.flatMap(([name, value]) =>
    (Array.isArray(value) ? value : [value]).flatMap((v) => [name, String(v)]),
  )
  const typed = recorded.some(([name]) => name.toLowerCase() === 'content-type')
  if (!typed) headers.push('content-type', kind === 'json' ? 'application/json' : 'text/event-stream')
  const request = exchange.request
  return {
    request: isRecord(request)
      ? { method: String(request.method), path: String(request.path), body: request.body }
      : null,
    status: typeof response.status === 'number' ? response.status : 200,
    headers,
    body: bytes(kind, response.body),
  }
}

function bytes(kind: string, body: unknown): Buffer {
  if (kind === 'json') return Buffer.from(JSON.stringify(body))
  if (kind === 'text') return Buffer.from(String(body))
  if (kind === 'base64') return Buffer.from(String(body), 'base64')
  if (kind === 'chunks' && Array.isArray(body)) return Buffer.from(body.map((line) => frame(String(line))).join(''))
  return Buffer.alloc(0)
}

/** Only the payloads of these streams were kept; Anthropic and Responses name their events after the payload's type. */
function frame(payload: string): string {
  const type = /^\{"type":"([a-z_.]+)"/.exec(payload)?.[1]
  return `${type === undefined ? '' : `event: ${type}\n`}data: ${payload}\n\n`
}

/** Serves it; the behaviour's cuts, splits and compression apply to recorded bytes as well. */
export function sendFixture(sink: Sink, fixture: Fixture): Promise<void> {
  return sendWhole(sink, fixture.status, fixture.headers, fixture.body)
}
