/**
 * What each request of MCP becomes: a call that takes the walk, and the shape of its answer. One entry per surface;
 * a revision that has no such method never gets here.
 * @module
 */
import type { Answer, ReplyFacts, Tool } from '../call.ts'
import { Fault, fault } from '../fault.ts'
import type { Walk } from '../flow.ts'
import { headerParams, paramMismatch } from '../mcp/wire/headers.ts'
import { negotiated } from '../mcp/wire/inbound.ts'
import {
  errorBody,
  isId,
  isObject,
  type Json,
  notificationBody,
  type RpcRequest,
  rpcCodes,
} from '../mcp/wire/jsonrpc.ts'
import { ownPrefix, portableMeta, software } from '../mcp/wire/meta.ts'
import { type Codec, modernRevisions, type Surface } from '../mcp/wire/revision.ts'
import { type Entered, enter } from './enter.ts'
import type { Told } from './mcp-fault.ts'
import type { Outlet } from './mcp-outlet.ts'
import { mcpReply, type ReplyPlan } from './mcp-reply.ts'
import { type McpSession, type McpSessions, requestKey } from './mcp-sessions.ts'
import type { Exchange } from './route.ts'

/** Everything one request needs on its way. */
export interface Request {
  readonly exchange: Exchange
  readonly walk: Walk
  readonly sessions: McpSessions
  /** The endpoint's server, or null on the aggregate. */
  readonly server: string | null
  readonly codec: Codec
  /** null for a revision without sessions, and for the handshake. */
  readonly session: McpSession | null
  readonly message: RpcRequest
  readonly outlet: Outlet
}

/** Largest `_meta` a tool call may carry onwards, characters of JSON. */
const maxMeta = 16_384

const warningKey = `${ownPrefix}budget-warning`

export const surfaces = {
  initialize,
  discover,
  ping: (request) =>
    protocol(
      request,
      () => whole({}),
      (value) => request.codec.result(value),
    ),
  'tools-list': listTools,
  'tools-call': callTool,
} satisfies Record<Surface, (request: Request) => Promise<void>>

/** The handshake of older revisions; answered by us, whatever stands behind. */
function initialize(request: Request): Promise<void> {
  const { exchange, sessions, server, message } = request
  const codec = negotiated(message.params.protocolVersion)
  let minted: McpSession | null = null
  return protocol(
    request,
    () => {
      const session = sessions.mint(exchange.gateway, exchange.credential?.digest ?? '', server, codec)
      if (session instanceof Fault) return session
      minted = session
      return whole({ protocolVersion: codec.revision, capabilities: codec.capabilities, serverInfo: software })
    },
    (value) => codec.result(value),
    () => (minted === null ? [] : ['mcp-session-id', minted.id]),
  )
}

function discover(request: Request): Promise<void> {
  const { codec } = request
  return protocol(
    request,
    () => whole({ supportedVersions: [...modernRevisions], capabilities: codec.capabilities }),
    (value) => codec.listing(value),
  )
}

function protocol(
  request: Request,
  answer: () => Answer | Fault,
  shape: (value: Json) => Json,
  headers: ReplyPlan['headers'] = () => [],
): Promise<void> {
  const { exchange, walk, server, message, outlet } = request
  const entered = enterWith(exchange, {
    outlet,
    id: message.id,
    shape: (value) => shape(value as Json),
    toolCodec: null,
    headers,
  })
  const judged = () => unknownServer(exchange, server) ?? answer()
  return walk(exchange.gateway, { ...entered, kind: 'mcp-protocol', method: message.method, server, answer: judged })
}

function listTools(request: Request): Promise<void> {
  const { exchange, walk, server, codec, message, outlet } = request
  if (message.params.cursor !== undefined) {
    // All tools are one page, so no cursor is ours.
    return refuse(request, 'Invalid cursor')
  }
  const entered = enterWith(exchange, {
    outlet,
    id: message.id,
    toolCodec: null,
    shape(value) {
      const { tools, unavailable } = value as { tools: readonly Json[]; unavailable: readonly unknown[] }
      const missing = unavailable.length === 0 ? undefined : { [`${ownPrefix}unavailable`]: unavailable }
      return codec.listing({ tools: tools.map(codec.definition) }, missing)
    },
  })
  return walk(exchange.gateway, { ...entered, kind: 'tool-list', server })
}

function callTool(request: Request): Promise<void> {
  const { exchange, walk, server, codec, session, message, outlet } = request
  const { name, arguments: args = {}, _meta: meta } = message.params
  if (typeof name !== 'string') return refuse(request, 'params.name must be a string')
  if (!isObject(args)) return refuse(request, 'params.arguments must be an object')
  if (meta !== undefined && !isObject(meta)) return refuse(request, 'params._meta must be an object')
  const portable = portableMeta(meta)
  if (JSON.stringify(portable).length > maxMeta) return refuse(request, `params._meta is larger than ${maxMeta} bytes`)

  const cancel = new AbortController()
  const key = requestKey(message.id)
  let mismatch: string | null = null
  let called: Tool | null = exchange.gateway.catalogue.find(server, name)
  const reply = {
    outlet,
    id: message.id,
    toolCodec: codec,
    shape: (value: unknown, { budgetWarning }: ReplyFacts) => {
      const extra = budgetWarning === null ? undefined : { [warningKey]: budgetWarning }
      return codec.toolResult(value as Json, called?.definition ?? null, extra)
    },
    ownWords: (): Told | null =>
      mismatch === null
        ? null
        : {
            status: 400,
            headers: [],
            body: errorBody(message.id, { code: rpcCodes.headerMismatch, message: mismatch }),
          },
    onEnd: () => {
      // The same id again is a client's mistake; it must not make the second request impossible to cancel.
      if (session?.underWay.get(key) === stop) session.underWay.delete(key)
    },
  }
  const made = mcpReply(reply)
  const stop = () => {
    cancel.abort()
    made.hangUp()
  }
  session?.underWay.set(key, stop)
  // Hanging up cancels in the current revision; older clients reconnect and cancel by a message.
  if (codec.era === 'modern') outlet.onHangup(stop)

  const token = isObject(meta) ? meta.progressToken : undefined
  const onProgress = (params: Json) =>
    cancel.signal.aborted
      ? undefined
      : outlet.message(notificationBody('notifications/progress', { ...params, progressToken: token }))
  const { headers } = exchange.incoming

  return walk(exchange.gateway, {
    ...enter(exchange, () => made),
    kind: 'tool-call',
    server,
    name,
    args,
    meta: portable,
    signal: cancel.signal,
    onProgress: isId(token) && outlet.streams ? onProgress : null,
    verify(tool) {
      called = tool
      if (codec.era !== 'modern') return null
      const params = headerParams(tool.definition.inputSchema)
      const read = (header: string) => (headers[header] === undefined ? undefined : String(headers[header]))
      mismatch = typeof params === 'string' ? null : paramMismatch(params, args, read)
      return mismatch === null ? null : fault({ code: 'invalid_request', where: 'headers', why: mismatch })
    },
  })
}

/** A malformed request of a caller who is known; who is not known learns only that. */
function refuse(request: Request, why: string): Promise<void> {
  const { exchange, walk, server, message, outlet } = request
  const told = () => ({
    status: 200,
    headers: [],
    body: errorBody(message.id, { code: rpcCodes.invalidParams, message: why }),
  })
  const entered = enterWith(exchange, {
    outlet,
    id: message.id,
    toolCodec: null,
    shape: () => ({}),
    ownWords: (cause) => (cause.code === 'invalid_request' ? told() : null),
  })
  const answer = () => fault({ code: 'invalid_request', where: 'params', why })
  return walk(exchange.gateway, { ...entered, kind: 'mcp-protocol', method: message.method, server, answer })
}

/** The endpoint of a server that is not registered does not exist. */
export function unknownServer(exchange: Exchange, server: string | null): Fault | null {
  if (server === null || exchange.gateway.catalogue.targets().has(server)) return null
  return fault({ code: 'not_found', what: `The server "${server.slice(0, 64)}"` })
}

export function enterWith(exchange: Exchange, plan: ReplyPlan): Entered {
  return enter(exchange, () => mcpReply(plan))
}

export function whole(value: Json): Answer {
  return { kind: 'value', status: 200, value }
}
