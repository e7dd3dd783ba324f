/** Answers over HTTP in OpenAI's dialect: whole bodies, event streams, faults. One of these per request. @module */
import type { ServerResponse } from 'node:http'
import { type Answer, type Reply, type ReplyFacts, units } from '../call.ts'
import { faultBody, faultEvent } from '../dialects/openai-chat/fault.ts'
import { amount, type Fault, retryAfter, status } from '../fault.ts'
import { rateHeaders } from './rate-headers.ts'

/** What the reply has to know of its request. */
export interface Replied {
  readonly outgoing: ServerResponse
  readonly id: string
  readonly traceparent: string
  readonly startedAt: number
  readonly mono: () => number
}

export function httpReply(replied: Replied): HttpReply {
  return new HttpReply(replied)
}

/**
 * A class where the rest of the house has closures: one object literal with getters per request gives every request a
 * hidden class of its own, which keeps all it refers to alive until the next full garbage collection.
 */
export class HttpReply implements Reply {
  started = false
  closed = false
  readonly #to: Replied
  #over = false
  #onHangup: (() => void) | null = null

  constructor(replied: Replied) {
    this.#to = replied
    const { outgoing } = replied
    outgoing.on('close', () => this.#hungUp())
    // A socket error is followed by 'close', which is what counts.
    outgoing.on('error', ignore)
  }

  #hungUp(): void {
    if (this.#over) return
    this.closed = true
    this.#onHangup?.()
  }

  answer(answer: Answer, facts: ReplyFacts): void {
    if (answer.kind === 'bytes') this.#whole(answer.status, this.#headers(facts, answer.headers), answer.body)
    else if (answer.kind === 'value')
      this.#whole(answer.status, this.#headers(facts, json), Buffer.from(JSON.stringify(answer.value)))
    else void this.#pieces(answer.pieces, answer.status, [...answer.headers, 'cache-control', 'no-store'], facts)
  }

  /** A failure on the way cuts the connection: what came so far must not look complete. */
  async #pieces(
    pieces: AsyncIterable<Buffer>,
    code: number,
    head: readonly string[],
    facts: ReplyFacts,
  ): Promise<void> {
    try {
      this.begin(code, head, facts)
      for await (const piece of pieces) {
        if (this.closed) return
        if (!this.write(piece)) await this.#drained()
      }
      this.finish(null)
    } catch {
      this.#to.outgoing.destroy()
    }
  }

  #drained(): Promise<void> {
    return new Promise((resolve) => {
      this.onDrain(resolve)
      this.onHangup(resolve)
    })
  }

  fault(cause: Fault, facts: ReplyFacts, tail: Buffer | null = null): void {
    const { outgoing, id } = this.#to
    if (this.started) {
      this.#over = true
      const last = faultEvent(cause.body, id)
      outgoing.end(tail === null ? last : Buffer.concat([tail, last]))
      return
    }
    const code = status(cause.body)
    const more = [...json]
    const wait = retryAfter(cause.body)
    if (wait !== null) more.push('retry-after', String(wait))
    if (code === 401) more.push('www-authenticate', 'Bearer realm="gatehouse"')
    if (cause.code === 'budget_exhausted' || cause.code === 'budget_too_small') more.push('x-should-retry', 'false')
    const body = faultBody(cause.body, id)
    if (code === 413) this.#lastWord(this.#headers(facts, more), body)
    else this.#whole(code, this.#headers(facts, more), body)
  }

  begin(code: number, head: readonly string[], facts: ReplyFacts): void {
    this.started = true
    this.#to.outgoing.writeHead(code, this.#headers(facts, head))
  }

  write(chunk: Buffer): boolean {
    return this.#to.outgoing.write(chunk)
  }

  finish(tail: Buffer | null): void {
    this.#over = true
    if (tail === null) this.#to.outgoing.end()
    else this.#to.outgoing.end(tail)
  }

  onDrain(listener: () => void): void {
    this.#to.outgoing.once('drain', listener)
  }

  onHangup(listener: () => void): void {
    if (this.closed) listener()
    else this.#onHangup = listener
  }

  /**
   * Refuses a body that is still being sent. What comes is not read, so closing at once would reset the connection and
   * take the answer with it; a moment is enough for the caller to read it.
   */
  #lastWord(head: string[], body: Buffer): void {
    const { outgoing } = this.#to
    this.started = true
    this.#over = true
    head.push('cache-control', 'no-store', 'connection', 'close', 'content-length', String(body.length))
    outgoing.writeHead(413, head)
    outgoing.write(body)
    setTimeout(() => outgoing.end(), lingerMs)
  }

  #whole(code: number, head: string[], body: Buffer): void {
    this.started = true
    this.#over = true
    head.push('cache-control', 'no-store', 'content-length', String(body.length))
    this.#to.outgoing.writeHead(code, head)
    this.#to.outgoing.end(body)
  }

  #headers(facts: ReplyFacts, more: readonly string[]): string[] {
    const { id, traceparent, startedAt, mono } = this.#to
    const out = ['x-gatehouse-request-id', id, 'traceparent', traceparent, ...more]
    if (facts.session !== null) out.push('x-gatehouse-session', facts.session)
    if (facts.provider !== null) out.push('x-gatehouse-provider', facts.provider)
    if (facts.model !== null) out.push('x-gatehouse-model', printable(facts.model))
    if (facts.attempts > 0) out.push('x-gatehouse-attempts', String(facts.attempts))
    if (facts.cost !== null) out.push('x-gatehouse-cost-usd', amount('usd', facts.cost).slice(1))
    if (facts.remaining !== null) {
      const remaining = remainingText(facts.remaining)
      if (remaining !== '') out.push('x-gatehouse-budget-remaining', remaining)
    }
    if (facts.budgetWarning !== null) out.push('x-gatehouse-budget-warning', facts.budgetWarning)
    if (facts.rates !== null) out.push(...rateHeaders(facts.rates))
    const overhead = mono() - startedAt - (facts.upstreamMs ?? 0)
    out.push('x-gatehouse-overhead-ms', overhead.toFixed(2))
    return out
  }
}

const lingerMs = 500

function ignore(): void {}

/** Facts of a request that was refused before anybody was known. */
export const nobody: ReplyFacts = Object.freeze({
  session: null,
  provider: null,
  model: null,
  attempts: 0,
  cost: null,
  remaining: null,
  budgetWarning: null,
  upstreamMs: null,
  upstreamHeaders: [],
  rates: null,
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
