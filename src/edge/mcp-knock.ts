/** Who may come in at the MCP door before a message is looked at: sessions, strangers, and how a refusal leaves. @module */
import { fault } from '../fault.ts'
import type { Walk } from '../flow.ts'
import { errorBody, rpcCodes, WireError } from '../mcp/wire/jsonrpc.ts'
import { codecOf } from '../mcp/wire/revision.ts'
import type { Outlet } from './mcp-outlet.ts'
import type { McpSession, McpSessions } from './mcp-sessions.ts'
import { enterWith } from './mcp-surfaces.ts'
import { nobody } from './reply.ts'
import type { Exchange } from './route.ts'

export interface Door {
  readonly walk: Walk
  readonly sessions: McpSessions
}

/** The session a request names, if it is this caller's; every other case looks the same. */
export function findSession(
  door: Door,
  exchange: Exchange,
  server: string | null,
  id: string | number | null,
): McpSession | WireError {
  const sent = exchange.incoming.headers['mcp-session-id']
  if (typeof sent !== 'string')
    return new WireError(400, rpcCodes.invalidRequest, 'Mcp-Session-Id header is missing; initialize first', id)
  const known = door.sessions.find(exchange.gateway, sent, exchange.credential?.digest ?? '', server)
  return known ?? new WireError(404, rpcCodes.invalidRequest, 'Session not found; initialize again', id)
}

/** Nobody presented a credential; the walk says so, and records it. */
export function stranger(door: Door, exchange: Exchange, server: string | null, outlet: Outlet): Promise<void> {
  const entered = enterWith(exchange, { outlet, id: null, toolCodec: null, shape: () => ({}) })
  const none = () => fault({ code: 'invalid_key', reason: 'missing' })
  return door.walk(exchange.gateway, { ...entered, kind: 'mcp-protocol', method: 'session', server, answer: none })
}

/** The current revision has neither sessions nor a stream of its own. */
export function sessionless(exchange: Exchange): WireError | null {
  const version = exchange.incoming.headers['mcp-protocol-version']
  if (version === undefined) return null
  const codec = codecOf(version)
  if (codec === null) return new WireError(400, rpcCodes.unsupportedVersion, 'Unsupported protocol version')
  return codec.era === 'modern' ? new WireError(405, rpcCodes.invalidRequest, 'This revision has POST only') : null
}

export function end(outlet: Outlet, error: WireError): void {
  const allow = error.status === 405 ? ['allow', 'POST'] : []
  outlet.end(error.status, allow, errorBody(error.id, error.body), nobody)
}
