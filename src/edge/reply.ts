/** Answers over HTTP in OpenAI's dialect: whole bodies, event streams, faults. One of these per request. @module */
import type { ServerResponse } from 'node:http'
import { type Answer, type Reply, type ReplyFacts, units } from '../call.ts'
import { faultBody, faultEvent } from '../dialects/openai-chat/fault.ts'
import { amount, type Fault, retryAfter, status } from '../fault.ts'

/** What the reply has to know of its request. */
export interface Replied {
  readonly outgoing: ServerResponse
  readonly id: string
  readonly traceparent: string
  readonly startedAt: number
  readonly mono: () => number
}

export function httpReply({ outgoing, id, traceparent, startedAt, mono }: Replied): Reply {
  let started = false
  let over = false
  let hungUp = false
  let onHangup: (() => void) | null = null

  outgoing.on('close', () => {
    if (over) return
    hungUp = true
    onHangup?.()
  })
  // A socket error is followed by 'close', which is what counts.
  outgoing.on('error', () => {})

  function headers(facts: ReplyFacts | null, more: readonly string[]): string[] {
    const out = ['x-gatehouse-request-id', id, 'traceparent', traceparent, ...more]
    if (facts === null) return out
    if (facts.session !== null) out.push('x-gatehouse-session', facts.session)
    if (facts.provider !== null) out.push('x-gatehouse-provider', facts.provider)
    if (facts.model !== null) out.push('x-gatehouse-model', printable(facts.model))
    if (facts.attempts > 0) out.push('x-gatehouse-attempts', String(facts.attempts))
    if (facts.cost !== null) out.push('x-gatehouse-cost-usd', amount('usd', facts.cost).slice(1))
    if (facts.remaining !== null) {
      const remaining = remainingText(facts.remaining)
      if (remaining !== '') out.push('x-gatehouse-budget-remaining', remaining)
    }
    const overhead = mono() - startedAt - (facts.upstreamMs ?? 0)
    out.push('x-gatehouse-overhead-ms', overhead.toFixed(2))
    return out
  }

  function whole(code: number, head: string[], body: Buffer): void {
    started = true
    over = true
    head.push('cache-control', 'no-store', 'content-length', String(body.length))
    outgoing.writeHead(code, head)
    outgoing.end(body)
  }

  return {
    get started() {
      return started
    },
    get closed() {
      return hungUp
    },
    answer(answer: Answer, facts) {
      if (answer.kind === 'bytes') whole(answer.status, headers(facts, answer.headers), answer.body)
      else whole(answer.status, headers(facts, json), Buffer.from(JSON.stringify(answer.value)))
    },
    fault(cause: Fault, facts) {
      if (started) {
        over = true
        outgoing.end(faultEvent(cause.body, id))
        return
      }
      const code = status(cause.body)
      const more = [...json]
      const wait = retryAfter(cause.body)
      if (wait !== null) more.push('retry-after', String(wait))
      if (code === 401) more.push('www-authenticate', 'Bearer realm="gatehouse"')
      if (cause.code === 'budget_exhausted' || cause.code === 'budget_too_small') more.push('x-should-retry', 'false')
      // What the caller still sends after a refusal is not read: the connection ends with the answer.
      if (code === 413) more.push('connection', 'close')
      whole(code, headers(facts, more), faultBody(cause.body, id))
    },
    begin(code, head, facts) {
      started = true
      outgoing.writeHead(code, headers(facts, head))
    },
    write: (chunk) => outgoing.write(chunk),
    finish(tail) {
      over = true
      if (tail === null) outgoing.end()
      else outgoing.end(tail)
    },
    onDrain(listener) {
      outgoing.once('drain', listener)
    },
    onHangup(listener) {
      if (hungUp) listener()
      else onHangup = listener
    },
  }
}

/** Facts of a request that was refused before anybody was known. */
export const nobody: ReplyFacts = Object.freeze({
  session: null,
  provider: null,
  model: null,
  attempts: 0,
  cost: null,
  remaining: null,
  upstreamMs: null,
  upstreamHeaders: [],
})

const json = ['content-type', 'application/json']

function remainingText(remaining: NonNullable<ReplyFacts['remaining']>): string {
  let text = ''
  for (const unit of units) {
    const left = remaining[unit]
    if (left !== undefined)
      text += `${text === '' ? '' : ', '}${unit}=${unit === 'usd' ? amount('usd', left).slice(1) : left}`
  }
  return text
}

/** Model names come from configuration, but nothing odd may get into a header. */
function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?').slice(0, 200)
}
