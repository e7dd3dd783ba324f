/** The admin door: every operation of the admin plane with its address. @module */
import { z } from 'zod'
import type { AdminOperation } from '../call.ts'
import { Fault } from '../fault.ts'
import type { Walk } from '../flow.ts'
import { accountSchema, changeSchema, keySchema } from '../identity/requests.ts'
import { enter, jsonBody } from './enter.ts'
import { httpReply } from './reply.ts'
import type { Exchange, Route } from './route.ts'

const maxBody = 256 * 1024

interface Address {
  readonly method: Route['method']
  readonly path: string
  readonly operation: AdminOperation
  readonly summary: string
  readonly body?: z.ZodType
}

const addresses: readonly Address[] = [
  ...crud('accounts', accountSchema),
  ...crud('keys', keySchema),
  { method: 'GET', path: '/sessions', operation: 'sessions.list', summary: 'Sessions' },
  { method: 'GET', path: '/sessions/:id', operation: 'sessions.read', summary: 'One session with what it used' },
  {
    method: 'DELETE',
    path: '/sessions/:id',
    operation: 'sessions.revoke',
    summary: 'End a session and everything below it',
  },
  { method: 'GET', path: '/servers', operation: 'servers.list', summary: 'Tool servers with status and tools' },
  {
    method: 'GET',
    path: '/servers/:id',
    operation: 'servers.read',
    summary: 'One tool server with its tool definitions',
  },
  {
    method: 'GET',
    path: '/usage',
    operation: 'usage',
    summary: 'What was used; group_by, zone, since, until, account',
  },
  {
    method: 'GET',
    path: '/ledger',
    operation: 'ledger',
    summary: 'Ledger rows; after, limit, since, until, account; format (csv, json, jsonl) for all of them',
  },
  { method: 'GET', path: '/audit', operation: 'audit', summary: 'Audit records; after, limit' },
  { method: 'POST', path: '/reload', operation: 'reload', summary: 'Read registry/ and policies/ again' },
]

function crud(noun: 'accounts' | 'keys', create: z.ZodType): Address[] {
  const one = noun.slice(0, -1)
  return [
    { method: 'POST', path: `/${noun}`, operation: `${noun}.create`, summary: `Create: ${one}`, body: create },
    { method: 'GET', path: `/${noun}`, operation: `${noun}.list`, summary: `List: ${noun}; after, limit, parent` },
    { method: 'GET', path: `/${noun}/:id`, operation: `${noun}.read`, summary: `Read: ${one}, with what it used` },
    {
      method: 'PATCH',
      path: `/${noun}/:id`,
      operation: `${noun}.update`,
      summary: `Change: ${one}`,
      body: changeSchema,
    },
    {
      method: 'DELETE',
      path: `/${noun}/:id`,
      operation: `${noun}.revoke`,
      summary: `Revoke: ${one} and everything below it; erase=true also takes names, labels and notes away`,
    },
  ]
}

export function adminRoutes(walk: Walk): readonly Route[] {
  return [
    ...addresses.map(
      ({ method, path, operation }): Route => ({
        method,
        path: `/admin/v1${path}`,
        auth: 'admin',
        dialect: 'openai',
        metered: false,
        audited: true,
        handle: (exchange) => handle(walk, exchange, operation),
      }),
    ),
    {
      method: 'GET',
      path: '/admin/v1/openapi.json',
      auth: 'none',
      dialect: 'openai',
      metered: false,
      audited: false,
      handle: ({ outgoing }) => {
        outgoing.writeHead(200, { 'content-type': 'application/json' })
        outgoing.end(JSON.stringify(document()))
      },
    },
  ]
}

async function handle(walk: Walk, exchange: Exchange, operation: AdminOperation): Promise<void> {
  const entered = enter(exchange, httpReply)
  const body = await jsonBody(exchange, maxBody)
  if (body instanceof Fault) return walk(exchange.gateway, { ...entered, kind: 'unreadable', flaw: body })
  return walk(exchange.gateway, {
    ...entered,
    kind: 'admin',
    operation,
    subject: exchange.params.id ?? null,
    query: Object.fromEntries(new URLSearchParams(exchange.search)),
    body: body.value,
  })
}

/** The admin plane as an OpenAPI 3.1 document, from the same table that mounts it. */
function document(): Record<string, unknown> {
  const paths: Record<string, Record<string, unknown>> = {}
  for (const { method, path, operation, summary, body } of addresses) {
    const address = `/admin/v1${path.replace(/:(\w+)/g, '{$1}')}`
    const parameters = [...path.matchAll(/:(\w+)/g)].map(([, name]) => ({
      name,
      in: 'path',
      required: true,
      schema: { type: 'string' },
    }))
    paths[address] ??= {}
    paths[address][method.toLowerCase()] = {
      operationId: operation,
      summary,
      parameters,
      ...(body === undefined
        ? {}
        : {
            requestBody: {
              required: true,
              content: { 'application/json': { schema: z.toJSONSchema(body, { io: 'input' }) } },
            },
          }),
      responses: { 200: { description: 'done' }, default: { description: 'an error with a stable code' } },
    }
  }
  return {
    openapi: '3.1.0',
    info: { title: 'Gatehouse admin API', version: '1' },
    components: { securitySchemes: { admin: { type: 'http', scheme: 'bearer' } } },
    security: [{ admin: [] }],
    paths,
  }
}
