/** The OpenAI door: chat, completions, embeddings, models. @module */
import type { IncomingMessage } from 'node:http'
import type { Call, LlmCall } from '../call.ts'
import { readBody as readFacts } from '../dialects/openai-chat/body.ts'
import { Fault, fault } from '../fault.ts'
import type { Walk } from '../flow.ts'
import { type Entered, enter } from './enter.ts'
import { httpReply } from './reply.ts'
import { type Exchange, type Route, readBody } from './route.ts'

const keyMissing = fault({ code: 'invalid_key', reason: 'missing' })

export function openaiRoutes(walk: Walk): readonly Route[] {
  const llm = (path: string, kind: LlmCall['kind']): Route => ({
    method: 'POST',
    path,
    auth: 'holder',
    dialect: 'openai',
    metered: true,
    audited: true,
    handle: (exchange) => model(walk, exchange, kind),
  })
  const list = (path: string): Route => ({
    method: 'GET',
    path,
    auth: 'holder',
    dialect: 'openai',
    metered: false,
    audited: true,
    handle: (exchange) => walk(exchange.gateway, listCall(exchange)),
  })
  return [
    llm('/v1/chat/completions', 'chat'),
    llm('/v1/completions', 'completion'),
    llm('/v1/embeddings', 'embedding'),
    list('/v1/models'),
    list('/v1/models/:model{.+}'),
  ]
}

/** Not an async function: what reads the body must not stay, with the body, for as long as the answer takes. */
function model(walk: Walk, exchange: Exchange, kind: LlmCall['kind']): Promise<void> {
  const { gateway, incoming, credential } = exchange
  const entered = enter(exchange, httpReply)
  // Strangers are told so before their body is read.
  if (credential === null) return walk(gateway, { ...entered, kind: 'unreadable', flaw: keyMissing })
  const { bodyBytes } = gateway.config.limits
  return readBody(incoming, bodyBytes).then((body) => walk(gateway, modelCall(incoming, entered, kind, body)))
}

function modelCall(incoming: IncomingMessage, entered: Entered, kind: LlmCall['kind'], body: Buffer | Fault): Call {
  if (body instanceof Fault) return { ...entered, kind: 'unreadable', flaw: body }
  const facts = readFacts(body, kind)
  if (facts instanceof Fault) return { ...entered, kind: 'unreadable', flaw: facts }
  return {
    ...entered,
    kind,
    body,
    facts,
    timeoutMs: positive(incoming.headers['x-gatehouse-timeout-ms']),
    maxAttempts: positive(incoming.headers['x-gatehouse-max-attempts']),
  }
}

function listCall(exchange: Exchange): Call {
  const { model } = exchange.params
  return { ...enter(exchange, httpReply), kind: 'model-list', model: model ?? null }
}

/** A positive integer header; anything else is as if it was not sent. */
function positive(value: string | string[] | undefined): number | null {
  if (typeof value !== 'string' || !/^[1-9][0-9]{0,8}$/.test(value)) return null
  return Number(value)
}
