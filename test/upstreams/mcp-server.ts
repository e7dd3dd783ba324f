/**
 * A tool server to test against, written on the published SDK: both eras on one port, or one of them only.
 * It remembers the headers and bodies it was sent, and can be told to misbehave.
 * @module
 */
import { randomUUID } from 'node:crypto'
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http'
import type { AddressInfo } from 'node:net'
import {
  type NodeIncomingMessageLike,
  NodeStreamableHTTPServerTransport,
  toNodeHandler,
} from '@modelcontextprotocol/node'
import { createMcpHandler, type JSONRPCMessage, McpServer } from '@modelcontextprotocol/server'
import { z } from 'zod'

export interface Seen {
  readonly method: string
  readonly headers: IncomingHttpHeaders
  readonly body: { readonly method?: string; readonly id?: unknown; readonly params?: Record<string, unknown> } | null
}

export interface McpUpstream {
  readonly url: string
  readonly origin: string
  /** `CIDR:port` that a row needs to reach it. */
  readonly allow: string
  readonly seen: Seen[]
  /** Calls of `slow` that were cancelled, by its `tag`. */
  readonly cancelled: string[]
  /** Calls of `slow` that began, by its `tag`. */
  readonly begun: string[]
  /** Answers the next requests itself instead of the SDK; null gives it back. */
  intercept: ((seen: Seen, response: ServerResponse) => boolean) | null
  /** Adds a tool and tells connected clients. */
  addTool(name: string): void
  /** Forgets every legacy session, as after a restart. */
  forgetSessions(): void
  close(): Promise<void>
}

export async function startMcpUpstream(options: { readonly era: 'dual' | 'modern' | 'legacy' }): Promise<McpUpstream> {
  const seen: Seen[] = []
  const cancelled: string[] = []
  const begun: string[] = []
  const added: string[] = []
  const sessions = new Map<string, { transport: NodeStreamableHTTPServerTransport; server: McpServer }>()
  let upstream: McpUpstream

  const factory = () => toolServer({ cancelled, begun, added })
  const modernHandler = createMcpHandler(factory, { legacy: 'reject' })
  const modern = toNodeHandler(modernHandler)

  async function legacy(request: IncomingMessage, response: ServerResponse, body: unknown): Promise<void> {
    const id = request.headers['mcp-session-id']
    const known = typeof id === 'string' ? sessions.get(id) : undefined
    if (known !== undefined) return known.transport.handleRequest(request, response, body)
    if (id !== undefined || (body as Seen['body'])?.method !== 'initialize') {
      response.writeHead(id === undefined ? 400 : 404, { 'content-type': 'application/json' })
      const error = { code: -32000, message: 'Session not found' }
      response.end(JSON.stringify({ jsonrpc: '2.0', id: null, error }))
      return
    }
    const server = factory()
    const transport = new NodeStreamableHTTPServerTransport({
      sessionIdGenerator: () => randomUUID(),
      eventStore: eventStore(),
      retryInterval: 50,
      onsessioninitialized: (session) => void sessions.set(session, { transport, server }),
    })
    await server.connect(transport)
    await transport.handleRequest(request, response, body)
  }

  const http: Server = createServer((request, response) => {
    void (async () => {
      const chunks: Buffer[] = []
      for await (const chunk of request) chunks.push(chunk as Buffer)
      const text = Buffer.concat(chunks).toString()
      const body = text === '' ? null : (JSON.parse(text) as Seen['body'])
      const entry = { method: request.method ?? '', headers: request.headers, body }
      seen.push(entry)
      if (upstream.intercept?.(entry, response)) return
      const claim = (body?.params?._meta as Record<string, unknown> | undefined)?.[
        'io.modelcontextprotocol/protocolVersion'
      ]
      const wantsModern = options.era === 'modern' || (options.era === 'dual' && claim !== undefined)
      if (wantsModern) await modern(request as NodeIncomingMessageLike, response, body ?? undefined)
      else await legacy(request, response, body ?? undefined)
    })().catch(() => response.destroy())
  })
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve))
  const { port } = http.address() as AddressInfo

  upstream = {
    url: `http://127.0.0.1:${port}/mcp`,
    origin: `http://127.0.0.1:${port}`,
    allow: `127.0.0.1/32:${port}`,
    seen,
    cancelled,
    begun,
    intercept: null,
    addTool(name) {
      added.push(name)
      modernHandler.notify.toolsChanged()
      for (const { server } of sessions.values()) registerEcho(server, name)
    },
    forgetSessions: () => sessions.clear(),
    async close() {
      for (const { server } of sessions.values()) await server.close()
      await modernHandler.close()
      http.closeAllConnections()
      await new Promise((resolve) => http.close(resolve))
    },
  }
  return upstream
}

/** Events of streams that may be read again, as the transport asks for them. */
function eventStore() {
  const events: { id: string; stream: string; message: JSONRPCMessage }[] = []
  return {
    async storeEvent(stream: string, message: JSONRPCMessage) {
      const id = `${stream}/${events.length}`
      events.push({ id, stream, message })
      return id
    },
    async getStreamIdForEventId(id: string) {
      return events.find((event) => event.id === id)?.stream
    },
    async replayEventsAfter(
      last: string,
      { send }: { send: (eventId: string, message: JSONRPCMessage) => Promise<void> },
    ) {
      const from = events.findIndex(({ id }) => id === last)
      const stream = events[from]?.stream ?? ''
      for (const event of events.slice(from + 1)) if (event.stream === stream) await send(event.id, event.message)
      return stream
    },
  }
}

function registerEcho(server: McpServer, name: string): void {
  server.registerTool(
    name,
    { description: 'Says what it was told', inputSchema: z.object({ text: z.string() }) },
    ({ text }) => ({ content: [{ type: 'text', text }] }),
  )
}

interface Shared {
  readonly cancelled: string[]
  readonly begun: string[]
  readonly added: readonly string[]
}

/** The tools; also served over stdio by `mcp-stdio.ts`. */
export function toolServer({ cancelled, begun, added }: Shared): McpServer {
  const server = new McpServer(
    { name: 'test-tools', version: '1.0.0' },
    { capabilities: { tools: { listChanged: true } } },
  )
  registerEcho(server, 'echo')
  for (const name of added) registerEcho(server, name)
  server.registerTool('fail', { description: 'Fails as a tool', inputSchema: z.object({}) }, () => ({
    isError: true,
    content: [{ type: 'text', text: 'it did not work' }],
  }))
  server.registerTool('steps', { description: 'Reports progress', inputSchema: z.object({}) }, async (_args, ctx) => {
    const token = ctx.mcpReq._meta?.progressToken
    for (const progress of token === undefined ? [] : [1, 2, 3]) {
      await ctx.mcpReq.notify({
        method: 'notifications/progress',
        params: { progressToken: token as string | number, progress, total: 3, message: `step ${progress}` },
      })
    }
    return { content: [{ type: 'text', text: 'done' }] }
  })
  server.registerTool(
    'slow',
    { description: 'Waits until it is cancelled', inputSchema: z.object({ tag: z.string() }) },
    ({ tag }, ctx) => {
      begun.push(tag)
      return new Promise((resolve) => {
        ctx.mcpReq.signal.addEventListener('abort', () => {
          cancelled.push(tag)
          resolve({ content: [{ type: 'text', text: 'cancelled' }] })
        })
      })
    },
  )
  server.registerTool(
    'numbers',
    { description: 'Answers with an array', inputSchema: z.object({}), outputSchema: z.array(z.number()) },
    () => ({ content: [{ type: 'text', text: '[1,2]' }], structuredContent: [1, 2] }),
  )
  server.registerTool(
    'hangs-up',
    { description: 'Closes the stream before it answers', inputSchema: z.object({}) },
    async (_args, ctx) => {
      ctx.http?.closeSSE?.()
      await new Promise((resolve) => setTimeout(resolve, 100))
      return { content: [{ type: 'text', text: 'after all' }] }
    },
  )
  server.registerTool(
    'regional',
    {
      description: 'Takes a parameter that travels as a header',
      inputSchema: z.object({
        region: z.string().meta({ 'x-mcp-header': 'Region' }),
        count: z.number().int().optional(),
      }),
    },
    ({ region }) => ({ content: [{ type: 'text', text: region }] }),
  )
  return server
}
