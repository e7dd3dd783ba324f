/**
 * The HTTP answer to one POST of MCP: a JSON document when nothing came before the result, an event stream when
 * progress did, an array for a batch.
 * @module
 */
import type { ReplyFacts } from '../call.ts'
import type { Json } from '../mcp/wire/jsonrpc.ts'
import { sseKeepAlive, sseMessage } from '../mcp/wire/sse.ts'
import { type HttpReply, httpReply, nobody } from './reply.ts'
import type { Exchange } from './route.ts'

/** Header name, value, name, value... */
export type HeaderList = readonly string[]

export interface Outlet {
  /** Something has been sent. */
  readonly started: boolean
  /** Whether messages can come before the answer. */
  readonly streams: boolean
  /** A message that belongs to the request and comes before its answer; dropped for a client that does not read. */
  message(body: Json): void
  /**
   * The answer of one request, and with it the end.
   *
   * @param body null for an answer without content
   * @throws {RangeError} the body is nested too deeply to be written; nothing was sent, and another one may follow
   */
  end(status: number, headers: HeaderList, body: Json | null, facts: ReplyFacts): void
  /** The connection closed before the end. */
  onHangup(listener: () => void): void
}

/** Between comments on an open stream, ms: proxies cut what is silent for a minute. */
export const keepAliveMs = 15_000
/** Unread bytes after which a client gets no more progress. */
const maxUnread = 1024 * 1024

const streamHeaders = ['content-type', 'text/event-stream', 'cache-control', 'no-store', 'x-accel-buffering', 'no']
const jsonHeaders = ['content-type', 'application/json']

/** @param acceptsStream the client reads event streams and this exchange may become one */
export function singleOutlet(exchange: Exchange, acceptsStream: boolean): Outlet {
  return new SingleOutlet(exchange, acceptsStream)
}

class SingleOutlet implements Outlet {
  readonly streams: boolean
  readonly #exchange: Exchange
  readonly #reply: HttpReply
  #keepAlive: NodeJS.Timeout | undefined

  constructor(exchange: Exchange, acceptsStream: boolean) {
    this.streams = acceptsStream
    this.#exchange = exchange
    this.#reply = replyOf(exchange)
  }

  get started(): boolean {
    return this.#reply.started
  }

  message(body: Json): void {
    const { outgoing } = this.#exchange
    if (!this.streams || this.#reply.closed || outgoing.writableEnded) return
    const text = written(body)
    if (text === null) return
    if (!this.#reply.started) {
      this.#reply.begin(200, streamHeaders, nobody)
      this.#keepAlive = keptAlive(this.#exchange)
    }
    if (outgoing.writableLength <= maxUnread) this.#reply.write(Buffer.from(sseMessage(text)))
  }

  end(status: number, headers: HeaderList, body: Json | null, facts: ReplyFacts): void {
    // First of all the text: a result too deep to be written throws here, before anything was sent.
    const text = body === null ? null : JSON.stringify(body)
    clearInterval(this.#keepAlive)
    if (this.#reply.closed || this.#exchange.outgoing.writableEnded) return
    if (this.#reply.started) this.#reply.finish(text === null ? null : Buffer.from(sseMessage(text)))
    else this.#reply.answer(whole(status, headers, text), facts)
  }

  onHangup(listener: () => void): void {
    this.#reply.onHangup(listener)
  }
}

/** Collects the answers of a batch's requests; the last one sends them all. Progress has no place in it. */
export function batchOutlets(exchange: Exchange, requests: number): readonly Outlet[] {
  const reply = replyOf(exchange)
  const answers: string[] = []
  let open = requests
  let status = 200
  let shared: HeaderList = []
  const one = (): Outlet => {
    let ended = false
    return {
      started: false,
      streams: false,
      message() {},
      end(code, headers, body, facts) {
        if (ended) return
        const text = body === null ? null : JSON.stringify(body)
        ended = true
        // Each element has its own verdict in its own message; only what concerns the whole exchange is a status.
        if (code === 401 || code === 503) {
          status = code
          shared = headers
        }
        if (text !== null) answers.push(text)
        if (--open > 0 || reply.closed) return
        reply.answer(
          answers.length === 0 ? whole(202, [], null) : whole(status, shared, `[${answers.join(',')}]`),
          facts,
        )
      },
      onHangup() {},
    }
  }
  return Array.from({ length: requests }, one)
}

/** An event stream that belongs to no request. @returns how to write to it and how to end it */
export function openStream(exchange: Exchange, onClose: () => void) {
  const { outgoing } = exchange
  const reply = replyOf(exchange)
  reply.begin(200, streamHeaders, nobody)
  // The first bytes tell clients and proxies that the stream is there.
  reply.write(Buffer.from(sseKeepAlive))
  const keepAlive = keptAlive(exchange)
  outgoing.on('close', () => {
    clearInterval(keepAlive)
    onClose()
  })
  return {
    message(body: Json): void {
      if (outgoing.writableLength <= maxUnread && !outgoing.writableEnded)
        reply.write(Buffer.from(sseMessage(JSON.stringify(body))))
    },
    end(): void {
      clearInterval(keepAlive)
      if (!outgoing.writableEnded) reply.finish(null)
    },
  }
}

function whole(status: number, headers: HeaderList, text: string | null) {
  const body = Buffer.from(text ?? '')
  return { kind: 'bytes', status, headers: text === null ? headers : [...jsonHeaders, ...headers], body } as const
}

/** The text of a message, or null for one that is nested too deeply to be written. */
function written(body: Json): string | null {
  try {
    return JSON.stringify(body)
  } catch {
    return null
  }
}

function keptAlive(exchange: Exchange): NodeJS.Timeout {
  const timer = setInterval(() => exchange.outgoing.write(sseKeepAlive), keepAliveMs)
  timer.unref()
  exchange.outgoing.on('close', () => clearInterval(timer))
  return timer
}

function replyOf({ outgoing, id, traceparent, startedAt, gateway }: Exchange) {
  return httpReply({ outgoing, id, traceparent, startedAt, mono: gateway.clock.mono })
}
