/**
 * The MCP door: `/mcp` for every server a key may use, `/mcp/{server}` for one. Each JSON-RPC message is read by the
 * revision it claims and takes the walk as a call of its own.
 * @module
 */
import { Fault, fault } from '../fault.ts'
import type { Walk } from '../flow.ts'
import { classify, type Inbound, methodNotFound } from '../mcp/wire/inbound.ts'
import { errorBody, type RpcMessage, type RpcRequest, rpcCodes, WireError } from '../mcp/wire/jsonrpc.ts'
import { type Codec, codecs, newestLegacy } from '../mcp/wire/revision.ts'
import { jsonBody } from './enter.ts'
import { tell } from './mcp-fault.ts'
import { type Door, end, findSession } from './mcp-knock.ts'
import { batchOutlets, type Outlet, singleOutlet } from './mcp-outlet.ts'
import { createSessions, type McpSession, requestKey } from './mcp-sessions.ts'
import { endSession, stream } from './mcp-stream.ts'
import { enterWith, surfaces, whole } from './mcp-surfaces.ts'
import { nobody } from './reply.ts'
import type { Exchange, Route } from './route.ts'

/** Largest body of one POST, bytes. */
const maxBody = 4 * 1024 * 1024

export function mcpRoutes(walk: Walk): readonly Route[] {
  const sessions = createSessions()
  const door = { walk, sessions }
  const handlers = [
    { method: 'POST', metered: true, run: post },
    { method: 'GET', metered: false, run: stream },
    { method: 'DELETE', metered: false, run: endSession },
  ] as const
  return ['/mcp', '/mcp/:server'].flatMap((path) =>
    handlers.map(
      ({ method, metered, run }): Route => ({
        method,
        path,
        auth: 'holder',
        dialect: 'mcp',
        metered,
        audited: true,
        handle: (exchange) => run(door, exchange, exchange.params.server ?? null),
      }),
    ),
  )
}

async function post(door: Door, exchange: Exchange, server: string | null): Promise<void> {
  const { headers } = exchange.incoming
  const outlet = singleOutlet(exchange, /text\/event-stream|\*\/\*/.test(headers.accept ?? '*/*'))
  const type = (headers['content-type'] ?? '').split(';')[0]?.trim().toLowerCase()
  if (type !== 'application/json') {
    const why = 'must be application/json'
    return refuse(outlet, fault({ code: 'invalid_request', where: 'content-type', why, status: 415 }))
  }
  const parsed = await jsonBody(exchange, maxBody)
  if (parsed instanceof Fault) {
    const told = tell(parsed, null, null)
    if (parsed.body.code !== 'invalid_request' || (parsed.body.status ?? 400) !== 400) return refuse(outlet, parsed)
    const error = { code: rpcCodes.parseError, message: `Parse error: ${parsed.body.why}` }
    return outlet.end(told.status, told.headers, errorBody(null, error), nobody)
  }
  const inbound = classify(parsed.value, headers)
  if (inbound instanceof WireError) return end(outlet, inbound)
  if (inbound.era === 'modern') return modern(door, exchange, server, inbound, outlet)
  const session = sessionOf(door, exchange, server, inbound)
  if (session instanceof WireError) return end(outlet, session)
  const { codec, known } = session
  const requests = inbound.messages.filter((one) => one instanceof WireError || one.kind === 'request') as readonly (
    | RpcRequest
    | WireError
  )[]
  const rest = inbound.messages.filter(
    (one) => !(one instanceof WireError) && one.kind !== 'request',
  ) as readonly Exclude<RpcMessage, RpcRequest>[]
  if (requests.length === 0) return hear(door, exchange, server, known, rest, outlet)
  if (rest.length > 0) await hear(door, exchange, server, known, rest, silent)
  const outlets = inbound.batch ? batchOutlets(exchange, requests.length) : [outlet]
  await Promise.all(
    requests.map((message, i) => answer(door, exchange, server, codec, known, message, outlets[i] as Outlet)),
  )
}

async function modern(
  door: Door,
  exchange: Exchange,
  server: string | null,
  { codec, message }: Extract<Inbound, { era: 'modern' }>,
  outlet: Outlet,
): Promise<void> {
  // There is nothing a stateless client can tell beside its requests: it cancels by hanging up.
  if (message.kind === 'notification') return hear(door, exchange, server, null, [], outlet)
  return answer(door, exchange, server, codec, null, message, outlet)
}

async function answer(
  door: Door,
  exchange: Exchange,
  server: string | null,
  codec: Codec,
  session: McpSession | null,
  message: RpcRequest | WireError,
  outlet: Outlet,
): Promise<void> {
  if (message instanceof WireError) return end(outlet, message)
  const surface = codec.requests.get(message.method)
  if (surface === undefined) {
    const missing = methodNotFound(message)
    // Older clients take a 404 for the end of their session.
    return end(
      outlet,
      codec.era === 'modern' ? missing : new WireError(200, missing.body.code, missing.body.message, message.id),
    )
  }
  await surfaces[surface]({ exchange, ...door, server, codec, session, message, outlet })
}

/** The session an older message belongs to; the handshake has none yet. */
function sessionOf(
  door: Door,
  exchange: Exchange,
  server: string | null,
  inbound: Extract<Inbound, { era: 'legacy' }>,
): { readonly codec: Codec; readonly known: McpSession | null } | WireError {
  const first = inbound.messages[0]
  const id = idOfFirst(first)
  if (first !== undefined && !(first instanceof WireError) && first.kind === 'request' && first.method === 'initialize')
    return { codec: codecs[newestLegacy], known: null }
  const known = findSession(door, exchange, server, id)
  if (known instanceof WireError) return known
  if (inbound.batch && !known.codec.batches)
    return new WireError(400, rpcCodes.invalidRequest, `batches do not exist in revision ${known.codec.revision}`)
  return { codec: known.codec, known }
}

const idOfFirst = (message: RpcMessage | WireError | undefined) =>
  message instanceof WireError || message?.kind === 'request' ? message.id : null

/** Messages that expect no response. What they do is done once the caller is known. */
function hear(
  door: Door,
  exchange: Exchange,
  server: string | null,
  session: McpSession | null,
  messages: readonly Exclude<RpcMessage, RpcRequest>[],
  outlet: Outlet,
): Promise<void> {
  const entered = enterWith(exchange, { outlet, id: null, toolCodec: null, shape: () => ({}) })
  return door.walk(exchange.gateway, {
    ...entered,
    kind: 'mcp-protocol',
    method: 'notifications',
    server,
    answer() {
      for (const message of messages) {
        if (session === null || message.kind === 'response') continue
        if (session.codec.notifications.get(message.method) !== 'cancelled') continue
        const { requestId } = message.params
        if (typeof requestId === 'string' || typeof requestId === 'number')
          session.underWay.get(requestKey(requestId))?.()
      }
      return { ...whole({}), status: 202 }
    },
  })
}

function refuse(outlet: Outlet, cause: Fault): void {
  const told = tell(cause, null, null)
  outlet.end(told.status, told.headers, told.body, nobody)
}

/** For messages that travel beside requests in one batch: the batch is answered by its requests. */
const silent: Outlet = { started: false, streams: false, message() {}, end() {}, onHangup() {} }
