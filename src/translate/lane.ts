/**
 * The passthrough lane of model calls: upstream's bytes on their way to the caller. It taps usage, keeps back the end
 * until the ledger has the call, and tells a finished answer from a cut one. Whole replies and streams share it,
 * because the upstream decides which of the two it sends.
 * @module
 */
import { brotliDecompressSync, gunzipSync, inflateSync } from 'node:zlib'
import {
  type Attempt,
  type Ending,
  endingOf,
  type Lane,
  type LlmCall,
  noUsage,
  type ReplyFacts,
  type Usage,
} from '../call.ts'
import { usageOfReply } from '../dialects/openai-chat/usage.ts'
import { type Fault, fault } from '../fault.ts'
import type { Clock } from '../gateway.ts'
import { skipSpace } from '../json.ts'
import { passHeaders, retryAfterMs } from './headers.ts'
import { type EventTap, eventTap } from './tap.ts'

/** Largest whole reply; also after decompression. */
const maxReplyBytes = 64 * 1024 * 1024

export function laneOf(clock: Clock, call: LlmCall, attempt: Attempt, facts: ReplyFacts): Lane {
  const begun = clock.mono()
  const upstream = attempt.target?.provider ?? 'upstream'
  const chunks: Buffer[] = []
  let size = 0
  let tap: EventTap | null = null
  let status: number | null = null
  let encoding = ''
  let headers: string[] = []
  /** Its end is marked, so what arrived without an error is all there is. */
  let framed = true
  let retryMs = 1000
  let firstByteMs: number | null = null

  function ending(outcome: Ending['outcome'], part: Partial<Ending>): Ending {
    return endingOf(outcome, {
      status,
      firstByteMs,
      upstreamMs: clock.mono() - begun,
      upstreamHeaders: headers,
      dispatched: true,
      ...part,
    })
  }

  function estimate(): Usage {
    return {
      ...noUsage,
      input: Math.ceil(call.body.length / 4),
      output: tap?.events() ?? Math.ceil(size / 4),
      source: 'estimated',
    }
  }

  function endWhole(): Ending {
    const code = status ?? 502
    const body = decode(Buffer.concat(chunks, size), encoding)
    if (body === null) return broken('its answer could not be decoded')
    if (code >= 200 && code < 300) {
      // A proxy's page, an empty answer or half a document is no reply of a model, whatever the status says.
      if (!isDocument(body, framed)) return broken('its answer is not a JSON object')
      const usage = usageOfReply(body) ?? { ...estimate(), output: call.kind === 'embedding' ? 0 : Math.ceil(size / 4) }
      return ending('answered', { usage, answer: { kind: 'bytes', status: code, headers, body } })
    }
    if (code === 429)
      return ending('fault', { fault: fault({ code: 'rate_limited', by: upstream, retryAfterMs: retryMs }) })
    const why = code === 401 || code === 403 ? "it refuses the gateway's credential" : 'see its status'
    const failed = fault({ code: 'upstream_error', upstream, status: code, why })
    // The caller's own mistake, told in the provider's words. Credential trouble is ours and stays ours.
    const told = code >= 400 && code < 500 && code !== 401 && code !== 403 && code !== 408
    return ending('fault', { fault: failed, answer: told ? { kind: 'bytes', status: code, headers, body } : null })
  }

  function broken(why: string): Ending {
    return ending('fault', { fault: fault({ code: 'upstream_error', upstream, status, why }), usage: estimate() })
  }

  return {
    head(code, received) {
      status = code
      headers = passHeaders(received)
      retryMs = retryAfterMs(received['retry-after'], clock.now())
      const type = received['content-type']
      encoding = String(received['content-encoding'] ?? '')
      framed = received['content-length'] !== undefined || received['transfer-encoding'] !== undefined
      // Some vendors label their streams wrongly; only a JSON answer to a stream request is taken as whole.
      const streams = code === 200 && call.facts.stream && !(typeof type === 'string' && type.includes('json'))
      if (streams && (encoding === '' || encoding === 'identity')) {
        tap = eventTap(call, () =>
          call.reply.begin(200, streamHeaders(headers), {
            ...facts,
            upstreamMs: (facts.upstreamMs ?? 0) + clock.mono() - begun,
          }),
        )
      }
    },
    data(chunk) {
      firstByteMs ??= clock.mono() - begun
      if (tap !== null) return tap.take(chunk)
      size += chunk.length
      if (size > maxReplyBytes) return 'stop'
      chunks.push(chunk)
      return 'more'
    },
    end() {
      if (tap === null) return size > maxReplyBytes ? broken('its answer is too large') : endWhole()
      tap.close()
      const usage = tap.usage() ?? estimate()
      if (tap.complete()) return ending('answered', { usage, tail: tap.tail() })
      const why = tap.error()
      // Nothing was delivered: another target may still answer.
      if (!call.reply.started)
        return ending('fault', { fault: fault({ code: 'upstream_error', upstream, status, why: why ?? emptyStream }) })
      const cause =
        why === null
          ? fault({ code: 'upstream_truncated', upstream })
          : fault({ code: 'upstream_error', upstream, status, why })
      return ending('truncated', { usage, fault: cause })
    },
    fail(cause: Fault | null) {
      if (cause === null) return ending('hangup', { usage: tap?.usage() ?? estimate() })
      if (call.reply.started) {
        // Everything was there and only the line broke afterwards.
        const owed = call.facts.wantsUsage && tap?.usage() === null
        if (tap?.complete() && !owed) return ending('answered', { usage: tap.usage() ?? estimate(), tail: tap.tail() })
        const truncated = cause.code === 'upstream_error' ? fault({ code: 'upstream_truncated', upstream }) : cause
        return ending('truncated', { usage: tap?.usage() ?? estimate(), fault: truncated })
      }
      const reached = status !== null || cause.code !== 'upstream_error'
      return ending('fault', { fault: cause, usage: reached ? estimate() : noUsage, dispatched: reached })
    },
  }
}

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
