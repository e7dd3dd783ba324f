/**
 * The HTTP server: the guard, then Hono's router over the table of routes, on Node's own request and response. No web
 * stream and no global fetch stands between a socket and a stage.
 * @module
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { Hono } from 'hono'
import { faultBody } from '../dialects/openai-chat/fault.ts'
import { explain, Fault, fault, retryAfter, status } from '../fault.ts'
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
  readonly app: Hono
  readonly server: Server
  /** Calls at work, from the door to their recorded end. */
  inFlight(): number
}

const seconds = 1000
const none: Readonly<Record<string, string>> = Object.freeze({})

const serverOptions = {
  keepAliveTimeout: 65 * seconds,
  // With the checking interval: a request head that drips is cut off within 15 seconds.
  headersTimeout: 10 * seconds,
  requestTimeout: 120 * seconds,
  connectionsCheckingInterval: 5 * seconds,
  noDelay: true,
  maxHeaderSize: 32 * 1024,
}

export function openDoor(gateway: Gateway, routes: readonly Route[], options: GuardOptions): Door {
  const ids = createIds(gateway.random)
  let inFlight = 0
  const left = () => {
    inFlight--
  }

  // Hono keeps the routes and finds them; what it finds is asked directly, without a web Request and Response per call
  // that nothing here reads. Its handlers stand for their routes and never run.
  const app = new Hono()
  const byHandler = new Map<unknown, Route>()
  for (const route of routes) {
    const handler = () => new Response(null, { status: 404 })
    byHandler.set(handler, route)
    app.on(route.method, route.path, handler)
  }

  function enter(route: Route, params: Readonly<Record<string, string>>, shown: Passed, exchange: HttpExchange): void {
    const { incoming, outgoing } = exchange
    if (route.metered && inFlight >= gateway.config.limits.maxInFlight) {
      refuse(gateway, outgoing, ids, fault({ code: 'overloaded', retryAfterMs: 1000 }), shown.path)
      return
    }
    const at = gateway.clock.now()
    let done: void | Promise<void>
    try {
      done = route.handle({
        gateway,
        incoming,
        outgoing,
        params,
        path: shown.path,
        search: shown.search,
        id: ids.request(at),
        at,
        startedAt: gateway.clock.mono(),
        credential: shown.credential,
        traceparent: ids.trace(incoming.headers.traceparent as string | undefined),
      })
    } catch (error) {
      broke(gateway, ids, outgoing, error, shown.path)
      return
    }
    if (!(done instanceof Promise)) return
    inFlight++
    done.then(left, (error: unknown) => {
      left()
      broke(gateway, ids, outgoing, error, shown.path)
    })
  }

  function unmatched(method: string, path: string): Fault {
    const known = routes.some((route) => app.router.match(route.method, path)[0].length > 0)
    if (known) return fault({ code: 'invalid_request', where: method, why: 'is not allowed here', status: 405 })
    return fault({ code: 'not_found', what: `${method} ${path}` })
  }

  const server = createServer(serverOptions, (incoming, outgoing) => {
    const shown = guard(incoming, options)
    if (shown instanceof Fault) {
      refuse(gateway, outgoing, ids, shown, incoming.url ?? '')
      return
    }
    if (gateway.draining) outgoing.setHeader('connection', 'close')
    // A HEAD is a GET whose body Node leaves out.
    const method = incoming.method === 'HEAD' ? 'GET' : (incoming.method ?? 'GET')
    const [matched, stash] = app.router.match(method, shown.path)
    const found = matched[0]
    const route = found === undefined ? undefined : byHandler.get(found[0][0])
    const params = found === undefined ? none : paramsOf(found[1], stash)
    if (route === undefined || params === null) {
      refuse(gateway, outgoing, ids, unmatched(method, shown.path), shown.path)
      return
    }
    enter(route, params, shown, { incoming, outgoing })
  })
  // By default Node keeps the first 1000 headers and drops the rest silently; the guard counts them all instead.
  server.maxHeadersCount = 0
  return { app, server, inFlight: () => inFlight }
}

interface HttpExchange {
  readonly incoming: IncomingMessage
  readonly outgoing: ServerResponse
}

/** Path parameters, decoded; null when one of them is not valid text. */
function paramsOf(
  given: Readonly<Record<string, string | number>>,
  stash: readonly string[] | undefined,
): Readonly<Record<string, string>> | null {
  let params: Record<string, string> | null = null
  for (const name in given) {
    const value = given[name]
    const raw = typeof value === 'number' ? stash?.[value] : value
    if (raw === undefined) continue
    params ??= {}
    try {
      params[name] = decodeURIComponent(raw)
    } catch {
      return null
    }
  }
  return params ?? none
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
