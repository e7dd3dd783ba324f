/**
 * The road to one upstream server, whatever carries it (HTTP or a child process): one request in, its result or the
 * trouble out. Ids, framing and cancellation are the lane's matter; eras and methods are the connection's.
 * @module
 */
import type { Json, RpcErrorBody, RpcMessage } from '../wire/jsonrpc.ts'
import type { Revision } from '../wire/revision.ts'

/** Why there is no result. `why` is written by us and safe to show; `error` is the server's own. */
export type TroubleBody =
  | { readonly kind: 'timeout'; readonly afterMs: number }
  | { readonly kind: 'aborted' }
  /** Not connected, or the connection broke. `sent` is false where the server certainly saw nothing. */
  | { readonly kind: 'lost'; readonly why: string; readonly sent: boolean }
  /** An HTTP status that is no answer; `error` where its body was a JSON-RPC error. */
  | { readonly kind: 'status'; readonly status: number; readonly error: RpcErrorBody | null }
  | { readonly kind: 'error'; readonly error: RpcErrorBody }
  | { readonly kind: 'invalid'; readonly why: string }

export class Trouble {
  readonly body: TroubleBody
  constructor(body: TroubleBody) {
    this.body = body
  }
}

export interface Ask {
  readonly method: string
  readonly params: Json
  /** Ms until the caller stops waiting; 0 for a request that is answered when it ends. */
  readonly timeoutMs: number
  readonly signal?: AbortSignal | undefined
  /** Given the params of each progress notification, without the token. */
  readonly onProgress?: ((params: Json) => void) | undefined
  /** Header name and value pairs beside the standard ones; HTTP only. */
  readonly headers?: readonly (readonly [string, string])[] | undefined
}

export interface LaneEvents {
  /** A notification that belongs to no request. */
  onNotification(method: string, params: Json): void
  /** The lane can carry nothing any more (a child ended). Called once. */
  onLost(why: string): void
}

export interface Lane {
  /** From now on requests are dressed for this revision; null while none is settled. */
  speak(revision: Revision | null): void
  request(ask: Ask): Promise<Json | Trouble>
  notify(method: string, params: Json): Promise<void>
  /** Listens for what the server says unasked, where the carrier needs a stream of its own for it. */
  watch(): void
  close(): Promise<void>
}

export interface LaneLog {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
}

/** Largest message accepted from an upstream, bytes. */
export const maxMessage = 16 * 1024 * 1024

/** The answer to a request that a server sends us: pings are answered, everything else is not offered. */
export function answerTo(message: RpcMessage): Json | null {
  if (message.kind !== 'request') return null
  if (message.method === 'ping') return { jsonrpc: '2.0', id: message.id, result: {} }
  return { jsonrpc: '2.0', id: message.id, error: { code: -32601, message: 'Method not found' } }
}

/** Params with the token that makes the server report progress. */
export function withProgressToken(params: Json, token: string | number): Json {
  const meta = typeof params._meta === 'object' && params._meta !== null ? params._meta : {}
  return { ...params, _meta: { ...meta, progressToken: token } }
}

/** Splits a progress notification into its token and what is passed on. */
export function readProgress(params: Json): { readonly token: unknown; readonly rest: Json } {
  const { progressToken: token, ...rest } = params
  return { token, rest }
}
