/**
 * The HTTP server: the guard, then Hono's router over the table of routes, on Node's own request and response. No web
 * stream and no global fetch stands between a socket and a stage.
 * @module
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { getRequestListener, type HttpBindings } from '@hono/node-server'
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response'
import { Hono } from 'hono'
import { faultBody } from '../dialects/openai-chat/fault.ts'
import { explain, Fault, type FaultBody, fault, retryAfter, status } from '../fault.ts'
import type { Walk } from '../flow.ts'
import type { Gateway } from '../gateway.ts'
import { adminRoutes } from './admin.ts'
import { type GuardOptions, guard, type Passed } from './guard.ts'
import { createIds, type Ids } from './ids.ts'
import { mcpRoutes } from './mcp.ts'
import { openaiRoutes } from './openai.ts'
import { opsRoutes } from './ops.ts'
import type { Route } from './route.ts'
import { sessionRoutes } from './sessions.ts'

/** Every route there is. */
export function allRoutes(walk: Walk): readonly Route[] {
  return [...openaiRoutes(walk), ...mcpRoutes(walk), ...sessionRoutes(walk), ...adminRoutes(walk), ...opsRoutes()]
}

/** A door: its router (for the inventory) and its server (not yet listening). */
export interface Door {
  readonly app: Hono<{ Bindings: HttpBindings }>
  readonly server: Server
  /** Requests at work. */
  inFlight(): number
}

const seconds = 1000
const none: Readonly<Record<string, string>> = Object.freeze({})

/** What the guard found, kept on the request itself: a weak map of requests costs the garbage collector dearly. */
const passed = Symbol('passed the guard')
type Guarded = IncomingMessage & { [passed]?: Passed }

export function openDoor(gateway: Gateway, routes: readonly Route[], options: GuardOptions): Door {
  const ids = createIds(gateway.random)
  let inFlight = 0

  const app = new Hono<{ Bindings: HttpBindings }>()
  for (const route of routes) {
    const hasParams = route.path.includes(':')
    app.on(route.method, route.path, (context) => {
      const { incoming, outgoing } = context.env
      const found = (incoming as Guarded)[passed] as Passed
      if (route.metered && inFlight > gateway.config.limits.maxInFlight) {
        refuse(gateway, outgoing, ids, fault({ code: 'overloaded', retryAfterMs: 1000 }), found.path)
        return RESPONSE_ALREADY_SENT
      }
      const at = gateway.clock.now()
      const done = route.handle({
        gateway,
        incoming,
        outgoing,
        params: hasParams ? context.req.param() : none,
        path: found.path,
        search: found.search,
        id: ids.request(at),
        at,
        startedAt: gateway.clock.mono(),
        credential: found.credential,
        traceparent: ids.trace(incoming.headers.traceparent as string | undefined),
      })
      if (done instanceof Promise) done.catch((error: unknown) => broke(gateway, ids, outgoing, error, found.path))
      return RESPONSE_ALREADY_SENT
    })
  }
  app.notFound((context) => {
    const { incoming, outgoing } = context.env
    const known = routes.some((route) => route.path === incoming.url)
    const why = known ? 'is not allowed here' : 'is not a path of this gateway; see the README for the paths'
    const body: FaultBody = known
      ? { code: 'invalid_request', where: incoming.method ?? 'method', why, status: 405 }
      : { code: 'not_found', what: `${incoming.method} ${(incoming as Guarded)[passed]?.path ?? ''}` }
    refuse(gateway, outgoing, ids, fault(body), (incoming as Guarded)[passed]?.path ?? '')
    return RESPONSE_ALREADY_SENT
  })

  const listener = getRequestListener(app.fetch, { overrideGlobalObjects: false, autoCleanupIncoming: false })
  const server = createServer(
    {
      keepAliveTimeout: 65 * seconds,
      // With the checking interval: a request head that drips is cut off within 15 seconds.
      headersTimeout: 10 * seconds,
      requestTimeout: 120 * seconds,
      connectionsCheckingInterval: 5 * seconds,
      noDelay: true,
      maxHeaderSize: 32 * 1024,
    },
    (incoming, outgoing) => {
      const result = guard(incoming, options)
      if (result instanceof Fault) {
        refuse(gateway, outgoing, ids, result, incoming.url ?? '')
        return
      }
      inFlight++
      outgoing.on('close', () => {
        inFlight--
      })
      if (gateway.draining) outgoing.setHeader('connection', 'close')
      ;(incoming as Guarded)[passed] = result
      void listener(incoming, outgoing)
    },
  )
  // By default Node keeps the first 1000 headers and drops the rest silently; the guard counts them all instead.
  server.maxHeadersCount = 0
  return { app, server, inFlight: () => inFlight }
}

/** A refusal before any door knows the call: in JSON-RPC on the MCP paths, in OpenAI's shape elsewhere. */
function refuse(gateway: Gateway, outgoing: ServerResponse, ids: Ids, cause: Fault, path: string): void {
  const id = ids.request(gateway.clock.now())
  const code = status(cause.body)
  const body = path.startsWith('/mcp')
    ? Buffer.from(JSON.stringify({ jsonrpc: '2.0', id: null, error: { code: -32600, message: explain(cause.body) } }))
    : faultBody(cause.body, id)
  const wait = retryAfter(cause.body)
  outgoing.writeHead(code, {
    'content-type': 'application/json',
    'content-length': body.length,
    'cache-control': 'no-store',
    'x-gatehouse-request-id': id,
    // The rest of a refused request is not read, so the connection cannot be used again.
    connection: 'close',
    ...(wait === null ? {} : { 'retry-after': String(wait) }),
    ...(code === 401 ? { 'www-authenticate': 'Bearer realm="gatehouse"' } : {}),
  })
  outgoing.end(body)
}

function broke(gateway: Gateway, ids: Ids, outgoing: ServerResponse, error: unknown, path: string): void {
  gateway.log.error({ error: error instanceof Error ? error.stack : String(error) }, 'a door failed')
  if (outgoing.headersSent) outgoing.destroy()
  else refuse(gateway, outgoing, ids, fault({ code: 'internal_error' }), path)
}
