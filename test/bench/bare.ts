/**
 * The bare proxy the gateway is compared with: the least a proxy on the same stack can do, done in the fastest way we
 * know. A Hono route, the raw Node request and response, one undici pool; no key, no policy, no budget, no ledger.
 *
 * `node test/bench/bare.ts UPSTREAM_ORIGIN`; prints its port.
 * @module
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { type HttpBindings, serve } from '@hono/node-server'
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response'
import { Hono } from 'hono'
import { type Dispatcher, Pool } from 'undici'

const upstream = new Pool(process.argv[2] ?? 'http://127.0.0.1:9001', {
  connections: 6000,
  pipelining: 1,
  keepAliveTimeout: 60_000,
  headersTimeout: 300_000,
  bodyTimeout: 300_000,
})

/** Passes an answer through as it comes, never faster than the caller reads, and stops when the caller leaves. */
class Relay implements Dispatcher.DispatchHandler {
  readonly #outgoing: ServerResponse
  #controller: Dispatcher.DispatchController | null = null

  constructor(outgoing: ServerResponse) {
    this.#outgoing = outgoing
    outgoing.on('close', () => {
      if (!outgoing.writableFinished) this.#controller?.abort(new Error('the caller left'))
    })
    outgoing.on('drain', () => this.#controller?.resume())
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
  }

  onResponseStart(_controller: Dispatcher.DispatchController, status: number, headers: Record<string, unknown>): void {
    const list = ['content-type', String(headers['content-type'])]
    const length = headers['content-length']
    if (length !== undefined) list.push('content-length', String(length))
    this.#outgoing.writeHead(status, list)
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (!this.#outgoing.write(chunk)) controller.pause()
  }

  onResponseEnd(): void {
    this.#outgoing.end()
  }

  onResponseError(): void {
    if (this.#outgoing.headersSent) this.#outgoing.destroy()
    else this.#outgoing.writeHead(502).end()
  }
}

function forward(incoming: IncomingMessage, outgoing: ServerResponse): void {
  const parts: Buffer[] = []
  incoming.on('data', (part: Buffer) => parts.push(part))
  incoming.on('end', () => {
    const body = parts.length === 1 ? (parts[0] ?? null) : Buffer.concat(parts)
    const headers = ['content-type', 'application/json', 'authorization', 'Bearer bench']
    upstream.dispatch({ path: incoming.url ?? '/', method: 'POST', headers, body }, new Relay(outgoing))
  })
}

const app = new Hono<{ Bindings: HttpBindings }>()
app.post('/v1/chat/completions', (c) => {
  forward(c.env.incoming, c.env.outgoing)
  return RESPONSE_ALREADY_SENT
})

serve(
  {
    fetch: app.fetch,
    hostname: '127.0.0.1',
    port: 0,
    serverOptions: { noDelay: true, keepAliveTimeout: 65_000 },
  },
  (info) => process.stdout.write(`${info.port}\n`),
)
