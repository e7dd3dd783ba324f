/**
 * The scripted vendor: a fake OpenAI-compatible provider. The model's name says how it behaves (vendor-faults.ts),
 * what it says is deterministic (vendor-answers.ts), and every request is kept as raw bytes.
 *
 * Alone: `node test/upstreams/vendor.ts --port 9001`.
 * @module
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setImmediate as turn } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { type Asked, embeddings, failure, models, steps, whole } from './vendor-answers.ts'
import { isRecord, pause, type Sink, sendPieces, sendWhole } from './vendor-body.ts'
import { type Behaviour, behaviour, good } from './vendor-faults.ts'
import { type Fixture, readFixture, sendFixture } from './vendor-fixtures.ts'

/** A request as it came over the wire, and what became of it. */
export interface RecordedRequest {
  readonly method: string
  /** With the query. */
  readonly path: string
  /** Name, value, name, value, ... as sent. */
  readonly headers: readonly string[]
  readonly body: Buffer
  /** The `model` of the body, or '' where there is none. */
  readonly model: string
  /** Milliseconds since the epoch, when the whole request had arrived. */
  readonly at: number
  /** The caller hung up before the answer was complete. */
  aborted: boolean
  /** The answer is over, whichever way. */
  over: boolean
  /** Bytes of the answer's body that the system took. */
  bytesSent: number
  /** Value of the first header of that name. */
  header(name: string): string | undefined
}

/**
 * Answers the requests of one model name instead of the usual behaviour.
 *
 * @param request what was asked
 * @param count how many requests of this name came before
 * @returns the name of the behaviour to use for this one, or nothing when it answered on `response` itself
 */
export type Script = (
  request: RecordedRequest,
  count: number,
  response: ServerResponse,
) => string | undefined | Promise<string | undefined>

export interface Vendor {
  /** `http://127.0.0.1:<port>`; the API is below `/v1`. */
  readonly url: string
  readonly port: number
  readonly requests: readonly RecordedRequest[]
  /** Forgets requests, scripts, counts and recordings; lets held answers go. */
  reset(): void
  script(model: string, script: Script): void
  /** Answers requests of that model name with a recorded exchange. @returns false when the recording is not there */
  replay(model: string, fixtureFile: string): boolean
  /** Lets every answer go on that waits because of `hold`. */
  release(): void
  /** Resolves with the first request, past or future, for which this becomes true. Asked again whenever one changes. */
  until(predicate: (request: RecordedRequest) => boolean): Promise<RecordedRequest>
  close(): Promise<void>
}

export interface VendorOptions {
  /** 0, the default, picks a free one. */
  readonly port?: number | undefined
  /** What `/v1/models` lists. */
  readonly models?: readonly string[] | undefined
}

/** Starts the vendor on 127.0.0.1. */
export async function startVendor(options: VendorOptions = {}): Promise<Vendor> {
  const requests: RecordedRequest[] = []
  const scripts = new Map<string, Script>()
  const fixtures = new Map<string, Fixture>()
  const counts = new Map<string, number>()
  const waiting = new Set<() => void>()
  let held: (() => void)[] = []

  const changed = () => {
    for (const check of waiting) check()
  }
  const release = () => {
    const going = held
    held = []
    for (const go of going) go()
  }
  const untilReleased = (signal: AbortSignal) =>
    new Promise<void>((resolve) => {
      held.push(resolve)
      signal.addEventListener('abort', () => resolve(), { once: true })
    })

  const server = createServer({ keepAliveTimeout: 65_000, noDelay: true }, (incoming, response) => {
    receive(incoming, response).catch((error: unknown) => {
      // A fault of the vendor itself must be seen, not mistaken for a scripted one.
      if (response.headersSent) response.destroy()
      else response.writeHead(500, { 'content-type': 'text/plain' }).end(`scripted vendor: ${String(error)}`)
    })
  })

  async function receive(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const raw = await readAll(incoming)
    if (raw === null) return
    const parsed = parse(raw)
    const model = isRecord(parsed) && typeof parsed.model === 'string' ? parsed.model : ''
    const record = recordOf(incoming, raw, model)
    const count = counts.get(model) ?? 0
    counts.set(model, count + 1)
    const gone = new AbortController()
    response.on('close', () => {
      record.aborted = !response.writableFinished && !ours.has(response)
      record.over = true
      gone.abort()
      changed()
    })
    requests.push(record)
    changed()

    const script = scripts.get(model)
    const name = script === undefined ? model : await script(record, count, response)
    if (name === undefined) return
    const onSent = (bytes: number) => {
      record.bytesSent += bytes
      changed()
    }
    const asked = behaviour(name)
    const sink: Sink = {
      response,
      signal: gone.signal,
      behaviour: count < asked.times ? asked : good(),
      onSent,
      sent: 0,
    }
    if (sink.behaviour.cut !== null || sink.behaviour.reset) ours.add(response)
    const fixture = fixtures.get(name)
    if (fixture !== undefined) return sendFixture(sink, fixture)
    await answer(record, sink, parsed, requests.length)
  }

  async function answer(record: RecordedRequest, sink: Sink, parsed: unknown, serial: number): Promise<void> {
    const { behaviour: b, response, signal } = sink
    if (b.reset) return void response.socket?.resetAndDestroy()
    if (!(await pause(b.slowHeadersMs, signal))) return
    for (let hint = 0; hint < b.hints; hint++) response.writeProcessing()
    const path = record.path.split('?', 1)[0] ?? ''
    const headers = replyHeaders(b, serial)
    const json = ['content-type', b.contentType ?? 'application/json']
    const send = (status: number, value: unknown) => {
      const body = Buffer.from(JSON.stringify(value))
      return sendWhole(sink, status, [...json, ...headers], b.badJson ? body.subarray(0, body.length >> 1) : body)
    }

    if (b.redirect) return sendWhole(sink, 307, ['location', `${url}/elsewhere${record.path}`], Buffer.alloc(0))
    if (b.html) return sendWhole(sink, b.status, ['content-type', 'text/html'], Buffer.from('<html>Bad gateway</html>'))
    if (b.status === 204 || b.status === 304) return void response.writeHead(b.status, headers).end()
    if (b.status !== 200) return send(b.status, failure(b.status, b.code))
    if (record.method === 'GET' && path.endsWith('/models')) return send(200, models(options.models ?? ['ok']))
    if (record.method !== 'POST') return send(404, failure(404, 'not_found'))
    if (!isRecord(parsed) || record.model === '') return send(400, failure(400, 'invalid_body'))
    if (path.endsWith('/embeddings')) return send(200, embeddings(parsed, record.model, b))
    const kind = path.endsWith('/chat/completions') ? 'chat' : path.endsWith('/completions') ? 'completion' : null
    if (kind === null) return send(404, failure(404, 'not_found'))

    const id = `${kind === 'chat' ? 'chatcmpl' : 'cmpl'}-vendor-${serial}`
    const asked: Asked = { kind, model: record.model, id, body: parsed, raw: record.body, behaviour: b }
    if (parsed.stream !== true) {
      if (!(await pause(b.slowFirstMs, signal))) return
      if (b.holdAfter !== null) await untilReleased(signal)
      return send(200, whole(asked))
    }
    const type = ['content-type', b.contentType ?? 'text/event-stream; charset=utf-8', 'cache-control', 'no-cache']
    return sendPieces(sink, [...type, ...headers], eventBytes(asked, signal, untilReleased))
  }

  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(options.port ?? 0, '127.0.0.1', 4096, resolve)
  })
  const { port } = server.address() as AddressInfo
  const url = `http://127.0.0.1:${port}`

  return {
    url,
    port,
    requests,
    reset() {
      requests.length = 0
      scripts.clear()
      fixtures.clear()
      counts.clear()
      release()
    },
    script: (model, script) => void scripts.set(model, script),
    replay(model, fixtureFile) {
      const fixture = readFixture(fixtureFile)
      if (fixture !== null) fixtures.set(model, fixture)
      return fixture !== null
    },
    release,
    until: (predicate) =>
      new Promise((resolve) => {
        const check = () => {
          const found = requests.find(predicate)
          if (found === undefined) return
          waiting.delete(check)
          resolve(found)
        }
        waiting.add(check)
        check()
      }),
    async close() {
      release()
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      server.closeAllConnections()
      await closed
    },
  }
}

/** Answers that end early because the script says so; the caller did not hang up on those. */
const ours = new WeakSet<ServerResponse>()

/** The bytes of a stream, event by event, with the waits the behaviour asks for. */
async function* eventBytes(
  asked: Asked,
  signal: AbortSignal,
  untilReleased: (signal: AbortSignal) => Promise<void>,
): AsyncGenerator<Buffer | 'silence'> {
  const { behaviour: b } = asked
  const end = b.crlf ? '\r\n\r\n' : '\n\n'
  if (b.empty) return
  while (b.pingsOnly) {
    yield Buffer.from(`: ping${end}`)
    if (!(await pause(Math.max(b.dripMs, 20), signal))) return
  }
  if (b.stallAfter === 0) return yield 'silence'
  if (!(await pause(b.slowFirstMs, signal))) return
  let tokens = 0
  for (const step of steps(asked)) {
    const bytes = Buffer.from(`data: ${step.data}${end}`)
    if (step.kind === 'usage' && b.usageSplit) {
      const middle = bytes.lastIndexOf('"usage"') + 3
      yield bytes.subarray(0, middle)
      // The turn after the wait lets a reader in this very process read first, even when the wait was over late.
      await pause(20, signal)
      await turn()
      yield bytes.subarray(middle)
    } else {
      yield bytes
    }
    if (step.kind !== 'token') continue
    tokens += 1
    if (tokens === b.stallAfter) return yield 'silence'
    if (tokens === b.holdAfter) await untilReleased(signal)
    if (!(await pause(b.dripMs, signal))) return
  }
}

function replyHeaders(b: Behaviour, serial: number): string[] {
  return [
    ...['x-request-id', `req_vendor_${serial}`, 'openai-processing-ms', '1'],
    ...['x-ratelimit-limit-requests', '1000', 'x-ratelimit-remaining-requests', '999'],
    ...(b.retryAfter === null ? [] : ['retry-after', b.retryAfter]),
    ...(b.retryAfterMs === null ? [] : ['retry-after-ms', b.retryAfterMs]),
    ...(b.vendorFields ? ['x-vendor-region', 'north', 'set-cookie', 'vendor=secret', 'server', 'vendor/1'] : []),
  ]
}

function recordOf(incoming: IncomingMessage, body: Buffer, model: string): RecordedRequest {
  const headers = [...incoming.rawHeaders]
  return {
    method: incoming.method ?? '',
    path: incoming.url ?? '',
    headers,
    body,
    model,
    at: Date.now(),
    aborted: false,
    over: false,
    bytesSent: 0,
    header(name) {
      const at = headers.findIndex((item, index) => index % 2 === 0 && item.toLowerCase() === name.toLowerCase())
      return at === -1 ? undefined : headers[at + 1]
    },
  }
}

/** @returns null when the caller left before the body was complete */
async function readAll(incoming: IncomingMessage): Promise<Buffer | null> {
  const parts: Buffer[] = []
  try {
    for await (const part of incoming) parts.push(part)
  } catch {
    return null
  }
  return Buffer.concat(parts)
}

function parse(raw: Buffer): unknown {
  try {
    return JSON.parse(raw.toString('utf8'))
  } catch {
    return undefined
  }
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { port: { type: 'string', default: '0' } } })
  const vendor = await startVendor({ port: Number(values.port) })
  process.stdout.write(`scripted vendor on ${vendor.url}/v1\n`)
}
