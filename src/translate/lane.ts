/**
 * The passthrough lane of model calls: upstream's bytes on their way to the caller. It taps usage, keeps back the end
 * until the ledger has the call, and tells a finished answer from a cut one. Whole replies and streams share it,
 * because the upstream decides which of the two it sends.
 * @module
 */
import { brotliDecompressSync, gunzipSync, inflateSync } from 'node:zlib'
import {
  type Answer,
  type Attempt,
  type Ending,
  type Lane,
  type LlmCall,
  noUsage,
  type ReplyFacts,
  type Usage,
} from '../call.ts'
import { closingEvents } from '../dialects/openai-chat/closing.ts'
import { outputSeen, usageSoFar } from '../dialects/openai-chat/stream.ts'
import { usageOfReply } from '../dialects/openai-chat/usage.ts'
import { type Fault, fault, mayHaveActed } from '../fault.ts'
import type { Clock } from '../gateway.ts'
import { skipSpace } from '../json.ts'
import { familyOf, mediaTokens } from '../tokens.ts'
import { passHeaders, retryAfterMs } from './headers.ts'
import type { Meter } from './meter.ts'
import { EventTap } from './tap.ts'

/** Largest whole reply; also after decompression. */
const maxReplyBytes = 64 * 1024 * 1024

/** @param meter of a stream that is paid for as it runs, else null */
export function laneOf(
  clock: Clock,
  call: LlmCall,
  attempt: Attempt,
  facts: ReplyFacts,
  meter: Meter | null = null,
): Lane {
  return new ModelLane(clock, call, attempt.target?.provider ?? 'upstream', facts, meter)
}

/** A class, because one of these is made for every attempt. */
class ModelLane implements Lane {
  readonly #clock: Clock
  readonly #call: LlmCall
  readonly #upstream: string
  readonly #facts: ReplyFacts
  readonly #meter: Meter | null
  readonly #begun: number
  #chunks: Buffer[] = []
  #size = 0
  #tap: EventTap | null = null
  #status: number | null = null
  #encoding = ''
  #headers: string[] = []
  /** Its end is marked, so what arrived without an error is all there is. */
  #framed = true
  #retryMs = 1000
  #firstByteMs: number | null = null

  constructor(clock: Clock, call: LlmCall, upstream: string, facts: ReplyFacts, meter: Meter | null) {
    this.#clock = clock
    this.#call = call
    this.#upstream = upstream
    this.#facts = facts
    this.#meter = meter
    this.#begun = clock.mono()
  }

  head(code: number, received: Readonly<Record<string, string | string[] | undefined>>): void {
    this.#status = code
    this.#headers = passHeaders(received)
    if (received['retry-after'] !== undefined) this.#retryMs = retryAfterMs(received['retry-after'], this.#clock.now())
    const type = received['content-type']
    this.#encoding = String(received['content-encoding'] ?? '')
    this.#framed = received['content-length'] !== undefined || received['transfer-encoding'] !== undefined
    // Some vendors label their streams wrongly; only a JSON answer to a stream request is taken as whole.
    const streams = code === 200 && this.#call.facts.stream && !(typeof type === 'string' && type.includes('json'))
    if (streams && (this.#encoding === '' || this.#encoding === 'identity')) {
      this.#tap = new EventTap(this.#call, this.#meter, () => this.#begin())
    }
  }

  data(chunk: Buffer): 'more' | 'wait' | 'stop' {
    this.#firstByteMs ??= this.#elapsed()
    if (this.#tap !== null) return this.#tap.take(chunk)
    this.#size += chunk.length
    if (this.#size > maxReplyBytes) return 'stop'
    this.#chunks.push(chunk)
    return 'more'
  }

  ready(then: (next: 'more' | 'stop') => void): void {
    if (this.#tap === null) then('more')
    else this.#tap.ready(then)
  }

  end(): Ending {
    const tap = this.#tap
    if (tap === null) return this.#size > maxReplyBytes ? this.#broken('its answer is too large') : this.#endWhole()
    tap.close()
    const usage = this.#used()
    if (tap.complete()) return this.#ending('answered', null, usage, null, tap.tail)
    const stopped = this.#meter?.stopped ?? null
    if (stopped !== null) {
      const closing = closingEvents(this.#call, tap.state, tap.first, usage)
      return this.#ending('truncated', stopped, usage, null, closing)
    }
    const why = tap.state.error
    // Nothing was delivered: another target may still answer. One that says nothing at all may have worked on it.
    if (!this.#call.reply.started)
      return this.#ending('fault', this.#failed(why ?? emptyStream), why === null ? usage : noUsage)
    return this.#ending('truncated', why === null ? this.#truncated() : this.#failed(why), usage)
  }

  fail(cause: Fault | null, sent: boolean): Ending {
    const tap = this.#tap
    if (!sent) return this.#ending(cause === null ? 'hangup' : 'fault', cause, noUsage, null, null, false)
    const usage = this.#used()
    if (cause === null) return this.#ending('hangup', null, usage)
    if (!this.#call.reply.started) {
      const reached = this.#status !== null || mayHaveActed(cause.body)
      return this.#ending('fault', cause, reached ? usage : noUsage, null, null, reached)
    }
    // Everything was there and only the line broke afterwards.
    const owed = this.#call.facts.wantsUsage && tap?.state.usage === null
    if (tap?.complete() && !owed) return this.#ending('answered', null, usage, null, tap.tail)
    return this.#ending('truncated', cause.code === 'upstream_error' ? this.#truncated() : cause, usage)
  }

  #begin(): void {
    // Once something has been sent nothing else is tried, and an open stream need not keep the question.
    this.#call.body = empty
    const upstreamMs = (this.#facts.upstreamMs ?? 0) + this.#elapsed()
    this.#call.reply.begin(200, streamHeaders(this.#headers), { ...this.#facts, upstreamMs })
  }

  #endWhole(): Ending {
    const code = this.#status ?? 502
    const [first] = this.#chunks
    const raw = this.#chunks.length === 1 && first !== undefined ? first : Buffer.concat(this.#chunks, this.#size)
    const body = decode(raw, this.#encoding)
    if (body === null) return this.#broken('its answer could not be decoded')
    const answer = { kind: 'bytes', status: code, headers: this.#headers, body } as const
    if (code >= 200 && code < 300) {
      // A proxy's page, an empty answer or half a document is no reply of a model, whatever the status says.
      if (!isDocument(body, this.#framed)) return this.#broken('its answer is not a JSON object')
      return this.#ending('answered', null, usageOfReply(body) ?? this.#estimate(), answer)
    }
    if (code === 429) {
      return this.#ending(
        'fault',
        fault({ code: 'rate_limited', by: this.#upstream, retryAfterMs: this.#retryMs }),
        noUsage,
      )
    }
    const refused = code === 401 || code === 403
    const failed = this.#failed(refused ? "it refuses the gateway's credential" : 'see its status')
    // The caller's own mistake, told in the provider's words. Credential trouble is ours and stays ours.
    const told = code >= 400 && code < 500 && !refused && code !== 408
    return this.#ending('fault', failed, noUsage, told ? answer : null)
  }

  #broken(why: string): Ending {
    return this.#ending('fault', this.#failed(why), this.#estimate())
  }

  #failed(why: string): Fault {
    return fault({ code: 'upstream_error', upstream: this.#upstream, status: this.#status, why })
  }

  #truncated(): Fault {
    return fault({ code: 'upstream_truncated', upstream: this.#upstream })
  }

  /** What the provider reports for a whole answer is the truth; of one that was cut, what came after its report is added. */
  #used(): Usage {
    const tap = this.#tap
    if (tap === null) return this.#estimate()
    return (tap.complete() ? tap.state.usage : usageSoFar(tap.state)) ?? this.#estimate()
  }

  /** What was seen, where nobody reports usage: four bytes a token, media by their rules, at least a token an event. */
  #estimate(): Usage {
    const { model, textBytes, media } = this.#call.facts
    const family = familyOf(model)
    const seen = media.reduce((sum, part) => sum + mediaTokens(family, part, unknownMedia), 0)
    const input = Math.ceil(textBytes / 4) + seen
    const whole = this.#call.kind === 'embedding' ? 0 : Math.ceil(this.#size / 4)
    return { ...noUsage, input, output: this.#tap === null ? whole : outputSeen(this.#tap.state), source: 'estimated' }
  }

  #elapsed(): number {
    return this.#clock.mono() - this.#begun
  }

  #ending(
    outcome: Ending['outcome'],
    cause: Fault | null,
    usage: Usage,
    answer: Answer | null = null,
    tail: Buffer | null = null,
    dispatched = true,
  ): Ending {
    return {
      outcome,
      fault: cause,
      usage,
      answer,
      tail,
      status: this.#status,
      firstByteMs: this.#firstByteMs,
      upstreamMs: this.#elapsed(),
      upstreamHeaders: this.#headers,
      dispatched,
    }
  }
}

const empty: Buffer = Buffer.alloc(0)
/** What a file counts as of which nothing is known: one large picture. */
const unknownMedia = 3_000
const emptyStream = 'it ended the stream before the first event'

function streamHeaders(headers: string[]): string[] {
  const at = headers.indexOf('content-type')
  const labelled = at !== -1 && headers[at + 1]?.includes('text/event-stream') === true
  const own = labelled || at === -1 ? headers : headers.toSpliced(at, 2)
  return [
    ...own,
    ...(labelled ? [] : ['content-type', 'text/event-stream; charset=utf-8']),
    ...['cache-control', 'no-store', 'x-accel-buffering', 'no'],
  ]
}

/** Braces at both ends; where nothing but the end of the connection marks the end, the whole syntax. */
function isDocument(body: Buffer, framed: boolean): boolean {
  if (body[skipSpace(body, 0)] !== 0x7b) return false
  let last = body.length - 1
  while (last > 0 && (body[last] as number) <= 0x20) last--
  if (body[last] !== 0x7d) return false
  if (framed) return true
  try {
    JSON.parse(body.toString())
    return true
  } catch {
    return false
  }
}

/** We ask for no compression; a vendor that compresses all the same is read with a cap. @returns null when it cannot be */
function decode(body: Buffer, encoding: string): Buffer | null {
  const options = { maxOutputLength: maxReplyBytes }
  try {
    if (encoding === '' || encoding === 'identity') return body
    if (encoding === 'gzip') return gunzipSync(body, options)
    if (encoding === 'br') return brotliDecompressSync(body, options)
    if (encoding === 'deflate') return inflateSync(body, options)
  } catch {
    return null
  }
  return null
}
