/** JSON-RPC 2.0 as MCP uses it: shapes, error codes, and reading a message from an unknown value. @module */

export type Json = Readonly<Record<string, unknown>>
export type RpcId = string | number

export interface RpcRequest {
  readonly kind: 'request'
  readonly id: RpcId
  readonly method: string
  readonly params: Json
}

export interface RpcNotification {
  readonly kind: 'notification'
  readonly method: string
  readonly params: Json
}

export interface RpcErrorBody {
  readonly code: number
  readonly message: string
  readonly data?: unknown
}

/** `id` is null where the sender could not read the request's. */
export interface RpcResponse {
  readonly kind: 'response'
  readonly id: RpcId | null
  readonly result: Json | null
  readonly error: RpcErrorBody | null
}

export type RpcMessage = RpcRequest | RpcNotification | RpcResponse

export const rpcCodes = {
  parseError: -32700,
  invalidRequest: -32600,
  methodNotFound: -32601,
  invalidParams: -32602,
  internalError: -32603,
  headerMismatch: -32020,
  missingCapability: -32021,
  unsupportedVersion: -32022,
} as const

/** A refusal on the wire: JSON-RPC error plus the HTTP status it travels under. */
export class WireError {
  readonly status: number
  readonly body: RpcErrorBody
  readonly id: RpcId | null
  constructor(status: number, code: number, message: string, id: RpcId | null = null, data?: unknown) {
    this.status = status
    this.id = id
    this.body = data === undefined ? { code, message } : { code, message, data }
  }
}

export function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The id of a message that may be malformed, so that its refusal can still be matched. */
export function idOf(value: unknown): RpcId | null {
  return isObject(value) && isId(value.id) ? value.id : null
}

export function isId(value: unknown): value is RpcId {
  return typeof value === 'string' || (typeof value === 'number' && Number.isSafeInteger(value))
}

/**
 * Reads one message. A batch is not a message.
 *
 * @returns the message, or what is wrong with it (for a -32600)
 */
export function readMessage(value: unknown): RpcMessage | string {
  if (!isObject(value)) return 'a message must be an object'
  if (value.jsonrpc !== '2.0') return 'jsonrpc must be "2.0"'
  if (value.method === undefined) return readResponse(value)
  if (typeof value.method !== 'string') return 'method must be a string'
  if (value.params !== undefined && !isObject(value.params)) return 'params must be an object'
  const params = value.params ?? {}
  if (!('id' in value)) return { kind: 'notification', method: value.method, params }
  if (!isId(value.id)) return 'id must be a string or an integer'
  return { kind: 'request', id: value.id, method: value.method, params }
}

function readResponse(value: Json): RpcResponse | string {
  const id = isId(value.id) ? value.id : null
  if (isObject(value.error)) {
    const { code, message, data } = value.error
    if (typeof code !== 'number' || typeof message !== 'string') return 'error must have a code and a message'
    return {
      kind: 'response',
      id,
      result: null,
      error: data === undefined ? { code, message } : { code, message, data },
    }
  }
  if (isObject(value.result) && id !== null) return { kind: 'response', id, result: value.result, error: null }
  return 'a message must have a method, a result or an error'
}

export function requestBody(id: RpcId, method: string, params: Json): Json {
  return { jsonrpc: '2.0', id, method, params }
}

export function notificationBody(method: string, params: Json): Json {
  return { jsonrpc: '2.0', method, params }
}

export function resultBody(id: RpcId, result: Json): Json {
  return { jsonrpc: '2.0', id, result }
}

/** @param id null is left out: the current revisions have no null id */
export function errorBody(id: RpcId | null, error: RpcErrorBody): Json {
  return id === null ? { jsonrpc: '2.0', error } : { jsonrpc: '2.0', id, error }
}
