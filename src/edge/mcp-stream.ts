/** What older MCP clients have beside POST: the stream of unasked messages, and ending their session. @module */
import { Fault } from '../fault.ts'
import { notificationBody, rpcCodes, WireError } from '../mcp/wire/jsonrpc.ts'
import { type Door, end, findSession, sessionless, stranger } from './mcp-knock.ts'
import { type Outlet, openStream, singleOutlet } from './mcp-outlet.ts'
import type { McpSession } from './mcp-sessions.ts'
import { enterWith, whole } from './mcp-surfaces.ts'
import type { Exchange } from './route.ts'

/** How often an open stream looks for changes and at its key, ms. */
const watchMs = 1000

export function endSession(door: Door, exchange: Exchange, server: string | null): Promise<void> | void {
  const outlet = singleOutlet(exchange, false)
  if (exchange.credential === null) return stranger(door, exchange, server, outlet)
  const refused = sessionless(exchange)
  if (refused !== null) return end(outlet, refused)
  const session = findSession(door, exchange, server, null)
  if (session instanceof WireError) return end(outlet, session)
  const entered = enterWith(exchange, { outlet, id: null, toolCodec: null, shape: () => ({}) })
  const answer = () => {
    door.sessions.end(session)
    return { ...whole({}), status: 200 }
  }
  return door.walk(exchange.gateway, { ...entered, kind: 'mcp-protocol', method: 'session/end', server, answer })
}

/** The stream on which older clients hear what they did not ask for: here, that the tools have changed. */
export function stream(door: Door, exchange: Exchange, server: string | null): Promise<void> | void {
  const { gateway, incoming, credential } = exchange
  const outlet = singleOutlet(exchange, false)
  if (credential === null) return stranger(door, exchange, server, outlet)
  const refused = sessionless(exchange)
  if (refused !== null) return end(outlet, refused)
  if (!/text\/event-stream|\*\/\*/.test(incoming.headers.accept ?? ''))
    return end(outlet, new WireError(406, rpcCodes.invalidRequest, 'Accept must include text/event-stream'))
  const session = findSession(door, exchange, server, null)
  if (session instanceof WireError) return end(outlet, session)
  // The walk decides; what it would answer with 200 is the stream.
  const listening: Outlet = {
    started: false,
    streams: false,
    message() {},
    end: (status, ...rest) => (status === 200 ? listen(exchange, session) : outlet.end(status, ...rest)),
    onHangup: outlet.onHangup,
  }
  const entered = enterWith(exchange, { outlet: listening, id: null, toolCodec: null, shape: () => ({}) })
  return door.walk(gateway, { ...entered, kind: 'mcp-protocol', method: 'stream', server, answer: () => whole({}) })
}

function listen(exchange: Exchange, session: McpSession): void {
  const { gateway, outgoing, credential } = exchange
  if (outgoing.destroyed) return
  let seen = [gateway.catalogue.tools(), gateway.config] as const
  // A client that comes again has lost its first stream, so the newest one counts.
  session.endStream?.()
  const opened = openStream(exchange, () => {
    clearInterval(watch)
    if (session.endStream === opened.end) session.endStream = null
  })
  session.endStream = opened.end
  const watch = setInterval(() => void look(), watchMs)
  watch.unref()

  async function look(): Promise<void> {
    if (gateway.draining) return opened.end()
    const now = [gateway.catalogue.tools(), gateway.config] as const
    if (now[0] !== seen[0] || now[1] !== seen[1])
      opened.message(notificationBody('notifications/tools/list_changed', {}))
    seen = now
    // A key that has been revoked hears no more.
    if ((await gateway.directory.identify(credential)) instanceof Fault) opened.end()
  }
}
