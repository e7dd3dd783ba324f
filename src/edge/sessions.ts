/** The door for sessions: what a key holder does with its budget. @module */
import type { SessionCall } from '../call.ts'
import { Fault } from '../fault.ts'
import type { Walk } from '../flow.ts'
import { enter, jsonBody } from './enter.ts'
import { httpReply } from './reply.ts'
import type { Exchange, Route } from './route.ts'

const maxBody = 64 * 1024

export function sessionRoutes(walk: Walk): readonly Route[] {
  const route = (method: Route['method'], path: string, operation: SessionCall['operation']): Route => ({
    method,
    path,
    auth: 'holder',
    dialect: 'openai',
    metered: false,
    audited: true,
    handle: (exchange) => handle(walk, exchange, operation),
  })
  return [
    route('POST', '/v1/sessions', 'mint'),
    route('GET', '/v1/sessions/:id', 'read'),
    route('PATCH', '/v1/sessions/:id', 'top-up'),
    route('DELETE', '/v1/sessions/:id', 'revoke'),
    route('GET', '/v1/sessions/:id/trace', 'trace'),
  ]
}

async function handle(walk: Walk, exchange: Exchange, operation: SessionCall['operation']): Promise<void> {
  const { gateway } = exchange
  const entered = enter(exchange, httpReply)
  const hasBody = operation === 'mint' || operation === 'top-up'
  const body = hasBody ? await jsonBody(exchange, maxBody) : { value: undefined }
  if (body instanceof Fault) return walk(gateway, { ...entered, kind: 'unreadable', flaw: body })
  const session = exchange.params.id ?? null
  return walk(gateway, { ...entered, kind: 'session', operation, session, body: body.value ?? {} })
}
