/**
 * What an inbound HTTP message is: which era it claims, whether its claim holds, and what it asks for. The checks run
 * in a fixed order so that each malformed request has one answer. Pure; sessions are looked up by the caller.
 * Source: MCP 2026-07-28, basic/index, basic/versioning and basic/transports/streamable-http.
 * @module
 */
import type { IncomingHttpHeaders } from 'node:http'
import { decodeHeaderValue } from './headers.ts'
import {
  idOf,
  isObject,
  type Json,
  type RpcMessage,
  type RpcNotification,
  type RpcRequest,
  readMessage,
  rpcCodes,
  WireError,
} from './jsonrpc.ts'
import { metaKeys } from './meta.ts'
import { type Codec, codecOf, codecs, newestLegacy, revisions } from './revision.ts'

/** Most messages accepted in one batch. */
export const maxBatch = 50

/** A modern message is checked whole; legacy ones still need their session. */
export type Inbound =
  | { readonly era: 'modern'; readonly codec: Codec; readonly message: RpcRequest | RpcNotification }
  | { readonly era: 'legacy'; readonly batch: boolean; readonly messages: readonly (RpcMessage | WireError)[] }

/**
 * Classifies a POST body by the revision it claims, never by headers alone: older clients send modern-looking headers.
 *
 * @param body the parsed document
 * @param headers as node:http gives them
 */
export function classify(body: unknown, headers: IncomingHttpHeaders): Inbound | WireError {
  if (Array.isArray(body)) return classifyBatch(body, headers)
  const message = readMessage(body)
  if (typeof message === 'string') return new WireError(400, rpcCodes.invalidRequest, message, idOf(body))
  const version = header(headers, 'mcp-protocol-version')
  const claim = message.kind === 'response' ? undefined : metaOf(message.params)[metaKeys.protocolVersion]
  const modernHeader = version !== undefined && codecOf(version)?.era === 'modern'
  if (message.kind === 'response') return { era: 'legacy', batch: false, messages: [message] }
  if (claim !== undefined) return modern(message, claim, version, headers)
  // Notifications of the current revision carry no required metadata, so the header is their only claim.
  if (modernHeader && message.kind === 'notification')
    return { era: 'modern', codec: codecOf(version) as Codec, message }
  if (modernHeader) {
    const why = `params._meta["${metaKeys.protocolVersion}"] is required`
    return new WireError(400, rpcCodes.invalidParams, why, idOf(body))
  }
  const refused = legacyVersion(version, message)
  return refused ?? { era: 'legacy', batch: false, messages: [message] }
}

function classifyBatch(body: readonly unknown[], headers: IncomingHttpHeaders): Inbound | WireError {
  const version = header(headers, 'mcp-protocol-version')
  const codec = version === undefined ? null : codecOf(version)
  if (version !== undefined && codec?.batches !== true)
    return new WireError(400, rpcCodes.invalidRequest, 'batches exist in revision 2025-03-26 only')
  if (body.length === 0) return new WireError(400, rpcCodes.invalidRequest, 'an empty batch asks for nothing')
  if (body.length > maxBatch)
    return new WireError(400, rpcCodes.invalidRequest, `a batch has at most ${maxBatch} messages`)
  const messages = body.map((item) => {
    const message = readMessage(item)
    if (typeof message === 'string') return new WireError(400, rpcCodes.invalidRequest, message, idOf(item))
    if (message.kind !== 'response' && message.method === 'initialize')
      return new WireError(400, rpcCodes.invalidRequest, 'initialize must not be part of a batch', idOf(item))
    if (message.kind !== 'response' && metaOf(message.params)[metaKeys.protocolVersion] !== undefined)
      return new WireError(400, rpcCodes.invalidRequest, 'this revision has no batches', idOf(item))
    return message
  })
  return { era: 'legacy', batch: true, messages }
}

/** The ladder of a request that claims a current revision; the first rung that breaks is the answer. */
function modern(
  message: RpcRequest | RpcNotification,
  claim: unknown,
  version: string | undefined,
  headers: IncomingHttpHeaders,
): Inbound | WireError {
  const id = message.kind === 'request' ? message.id : null
  if (version === undefined)
    return new WireError(400, rpcCodes.headerMismatch, 'MCP-Protocol-Version header is missing', id)
  if (version !== claim)
    return new WireError(
      400,
      rpcCodes.headerMismatch,
      'MCP-Protocol-Version header and the protocol version in _meta differ',
      id,
    )
  const meta = metaOf(message.params)
  if (message.kind === 'request' && !isObject(meta[metaKeys.clientCapabilities]))
    return new WireError(400, rpcCodes.invalidParams, `params._meta["${metaKeys.clientCapabilities}"] is required`, id)
  const codec = codecOf(claim)
  if (codec?.era !== 'modern')
    return new WireError(400, rpcCodes.unsupportedVersion, 'Unsupported protocol version', id, {
      supported: revisions,
      requested: claim,
    })
  if (message.kind === 'notification') return { era: 'modern', codec, message }
  const mismatch = headerMismatch(message, codec, headers)
  if (mismatch !== null) return new WireError(400, rpcCodes.headerMismatch, mismatch, id)
  if (!codec.requests.has(message.method)) return methodNotFound(message)
  return { era: 'modern', codec, message }
}

/** 404 with a JSON-RPC body, which tells it from a plain 404. */
export function methodNotFound(message: RpcRequest): WireError {
  return new WireError(404, rpcCodes.methodNotFound, `Method not found: ${message.method.slice(0, 100)}`, message.id)
}

function headerMismatch(message: RpcRequest, codec: Codec, headers: IncomingHttpHeaders): string | null {
  const method = header(headers, 'mcp-method')
  if (method === undefined) return 'Mcp-Method header is missing'
  if (decodeHeaderValue(method) !== message.method) return 'Mcp-Method header and the method of the body differ'
  const param = codec.named.get(message.method)
  if (param === undefined) return null
  const name = header(headers, 'mcp-name')
  if (name === undefined) return 'Mcp-Name header is missing'
  if (decodeHeaderValue(name) !== message.params[param]) return `Mcp-Name header and params.${param} differ`
  return null
}

/** A version header without a claim in the body must name a revision that has sessions. */
function legacyVersion(version: string | undefined, message: RpcRequest | RpcNotification): WireError | null {
  // The version of a handshake is negotiated in its body; some clients already send the header then.
  if (version === undefined || message.method === 'initialize') return null
  if (codecOf(version) !== null) return null
  const id = message.kind === 'request' ? message.id : null
  return new WireError(400, rpcCodes.unsupportedVersion, 'Unsupported protocol version', id, {
    supported: revisions,
    requested: version,
  })
}

/** The codec a legacy handshake settles on: what was asked for where it is served, else our newest legacy one. */
export function negotiated(requested: unknown): Codec {
  const codec = codecOf(requested)
  return codec?.era === 'legacy' ? codec : codecs[newestLegacy]
}

function metaOf(params: Json): Json {
  return isObject(params._meta) ? params._meta : {}
}

function header(headers: IncomingHttpHeaders, name: string): string | undefined {
  const value = headers[name]
  return Array.isArray(value) ? value.join(', ') : value
}
