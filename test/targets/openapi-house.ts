/** What an OpenAPI target needs to live in a test: real egress, a folder for documents, a real service. @module */
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after } from 'node:test'
import type { Invocation, Target, ToolOutcome } from '../../src/call.ts'
import { createEgress } from '../../src/egress.ts'
import type { TargetDeps } from '../../src/targets/deps.ts'
import { openapiTarget } from '../../src/targets/openapi.ts'
import { type OpenapiRow, openapiRowSchema } from '../../src/targets/openapi-row.ts'

export interface Logged {
  readonly fields: Record<string, unknown>
  readonly message: string
}

export const logged: Logged[] = []
const closers: (() => unknown)[] = []
after(async () => {
  for (const close of closers) await close()
})

export const home = await mkdtemp(path.join(tmpdir(), 'gatehouse-openapi-'))
closers.push(() => rm(home, { recursive: true }))

const egress = createEgress({ allowPrivate: [] })
closers.push(() => egress.close())

const note = (fields: object, message: string) => {
  logged.push({ fields: fields as Record<string, unknown>, message })
}

export const deps: TargetDeps = {
  egress,
  secret: (ref) => {
    if (ref === 'env:PETS_KEY') return 'petstore-demo-key'
    throw new Error(`${ref} is not set`)
  },
  clock: { now: () => 1_700_000_000_000, mono: () => 0 },
  random: randomBytes,
  log: { debug: note, info: note, warn: note, error: note },
  home,
}

export interface Seen {
  readonly method: string
  readonly url: string
  readonly headers: IncomingMessage['headers']
  readonly rawHeaders: readonly string[]
  readonly body: string
}

/** A real HTTP service that records what it receives. */
export async function service(
  handler: (request: Seen, response: ServerResponse) => void = (_seen, response) => response.end(),
): Promise<{ readonly url: string; readonly port: number; readonly seen: Seen[] }> {
  const seen: Seen[] = []
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const { method = '', url = '', headers, rawHeaders } = request
      const one = { method, url, headers, rawHeaders, body: Buffer.concat(chunks).toString('utf8') }
      seen.push(one)
      handler(one, response)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  closers.push(() => {
    server.closeAllConnections()
    return new Promise((resolve) => server.close(resolve))
  })
  return { url: `http://127.0.0.1:${port}`, port, seen }
}

let documents = 0

/** Writes a document of these paths and opens a target over it. */
export async function open(
  base: string,
  document: object | string,
  row: Partial<Record<keyof OpenapiRow | 'timeout', unknown>> = {},
): Promise<Target> {
  documents += 1
  const spec = `spec-${documents}.yaml`
  await writeFile(path.join(home, spec), typeof document === 'string' ? document : JSON.stringify(document))
  const target = openapiTarget('pets', rowOf(base, { spec, ...row }), deps)
  await target.refresh()
  return target
}

export function rowOf(base: string, row: object): OpenapiRow {
  const allow_private = base.startsWith('http://127.0.0.1') ? [`127.0.0.1/32:${new URL(base).port}`] : []
  return openapiRowSchema.parse({ kind: 'openapi', base_url: base, allow_private, ...row })
}

export function spec(paths: object, components: object = {}, openapi = '3.1.0'): object {
  return { openapi, info: { title: 't', version: '1' }, paths, components }
}

/** The shortest legal operation with these additions. */
export function operation(more: object = {}): object {
  return { responses: { 200: { description: 'ok' } }, ...more }
}

export async function call(
  target: Target,
  name: string,
  args: object,
  more: Partial<Invocation> = {},
): Promise<ToolOutcome> {
  const tool = target.tools().find((one) => one.name === name)
  if (tool === undefined) throw new Error(`no tool ${name}; there are ${target.tools().map((one) => one.name)}`)
  return target.call({
    callId: 'req_test',
    tool,
    args: args as Record<string, unknown>,
    meta: {},
    timeoutMs: 5_000,
    signal: new AbortController().signal,
    onProgress: null,
    ...more,
  })
}

export interface Result {
  readonly isError?: boolean
  readonly structuredContent?: unknown
  readonly content: readonly { readonly type: string; readonly text: string }[]
}

export function resultOf(outcome: ToolOutcome): Result {
  if ('fault' in outcome) throw new Error(`expected a result, got ${JSON.stringify(outcome.fault.body)}`)
  return outcome.result as unknown as Result
}

export function textOf(outcome: ToolOutcome): string {
  return resultOf(outcome)
    .content.map((one) => one.text)
    .join('\n')
}
