/** Event streams passing by: whole events go on at once, the end is kept back. @module */
import type { LlmCall, Usage } from '../call.ts'
import {
  countEvents,
  isOrdinary,
  lastEventEnd,
  maxEventBytes,
  readEvents,
  streamState,
} from '../dialects/openai-chat/stream.ts'

export interface EventTap {
  take(chunk: Buffer): 'more' | 'wait' | 'stop'
  /** Upstream ended: a last event without its empty line still counts when it is readable. */
  close(): void
  /** Every answer asked for has said why it ended. `[DONE]` alone proves nothing. */
  complete(): boolean
  /** The terminator, as the vendor wrote it or supplied where it left it out. */
  tail(): Buffer
  usage(): Usage | null
  error(): string | null
  /** Data events delivered. */
  events(): number
}

const done = Buffer.from('data: [DONE]\n\n')
/** Bytes of an unfinished event that a separator can reach back into. */
const overlap = 3
const nothing: Buffer = Buffer.alloc(0)

/** @param begin sends the head; called once, before the first event that is worth it */
export function eventTap(call: LlmCall, begin: () => void): EventTap {
  const state = streamState()
  // Bytes of an event that is not whole yet.
  let partial: Buffer[] = []
  let partialSize = 0
  /** Its last bytes. */
  let reach = nothing
  // Comments and pings before the first event: nobody is told anything until there is something to tell.
  let early: Buffer[] = []
  let earlySize = 0
  let tail: Buffer = done

  function whole(chunk: Buffer): Buffer | null {
    if (partialSize === 0) {
      const end = lastEventEnd(chunk)
      if (end < chunk.length) keep(chunk.subarray(end))
      return end === 0 ? null : chunk.subarray(0, end)
    }
    const seam = lastEventEnd(Buffer.concat([reach, chunk]))
    if (seam === 0) {
      keep(chunk)
      return null
    }
    const end = Math.max(0, seam - reach.length)
    const events = Buffer.concat([...partial, chunk.subarray(0, end)])
    partial = []
    partialSize = 0
    reach = nothing
    if (end < chunk.length) keep(chunk.subarray(end))
    return events
  }

  function keep(rest: Buffer): void {
    partial.push(rest)
    partialSize += rest.length
    reach = (rest.length < overlap ? Buffer.concat([reach, rest]) : rest).subarray(-overlap)
  }

  function send(bytes: Buffer): 'more' | 'wait' | 'stop' {
    if (!call.reply.started) {
      if (state.events === 0) {
        early.push(bytes)
        earlySize += bytes.length
        if (earlySize <= maxEventBytes) return 'more'
        state.error = 'it sent too much before its first event'
        return 'stop'
      }
      begin()
      for (const waiting of early) call.reply.write(waiting)
      early = []
    }
    return call.reply.write(bytes) ? 'more' : 'wait'
  }

  function inspect(bytes: Buffer): 'more' | 'wait' | 'stop' {
    const kept: Buffer[] = []
    for (const event of readEvents(bytes, state)) {
      // The vendor's error frame is replaced by ours, which says what to do.
      if (state.error !== null) break
      if (event.done) tail = event.bytes
      else if (!(event.usageOnly && !call.facts.wantsUsage)) kept.push(event.bytes)
      if (state.done) break
    }
    // What came with an error is only worth telling where the caller has the beginning: else another target may answer.
    if (state.error !== null && !call.reply.started) return 'stop'
    const sent = kept.length === 0 ? 'more' : send(kept.length === 1 ? (kept[0] as Buffer) : Buffer.concat(kept))
    return state.done || state.error !== null ? 'stop' : sent
  }

  return {
    take(chunk) {
      const bytes = whole(chunk)
      if (partialSize > maxEventBytes) {
        state.error = 'an event of the stream is too large'
        return 'stop'
      }
      if (bytes === null) return 'more'
      if (!isOrdinary(bytes)) return inspect(bytes)
      state.events += countEvents(bytes)
      return send(bytes)
    },
    close() {
      if (partialSize === 0 || state.error !== null) return
      const last = Buffer.concat([...partial, Buffer.from('\n\n')])
      const probe = streamState()
      for (const _ of readEvents(last, probe));
      if (probe.done || probe.finished.size > 0 || probe.usage !== null) inspect(last)
    },
    complete: () => state.error === null && state.finished.size >= call.facts.choices,
    tail: () => tail,
    usage: () => state.usage,
    error: () => state.error,
    events: () => state.events,
  }
}
