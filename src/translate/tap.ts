/** Event streams passing by: whole events go on at once, the end is kept back. @module */
import type { LlmCall } from '../call.ts'
import { lastEventEnd, maxEventBytes, ordinaryEvents, readEvents, streamState } from '../dialects/openai-chat/stream.ts'
import type { Meter } from './meter.ts'

const done = Buffer.from('data: [DONE]\n\n')
/** Bytes of an unfinished event that a separator can reach back into. */
const overlap = 3
/** Kept of the first event, for the closing ones to share its members. */
const firstBytes = 4096
const nothing: Buffer = Buffer.alloc(0)

/** A class, because streams are many and long: what one holds is what an idle stream costs. */
export class EventTap {
  readonly state = streamState()
  /** The terminator, as the vendor wrote it or supplied where it left it out. */
  tail: Buffer = done
  /** The beginning of the stream, where the stream may have to be closed by us. */
  first: Buffer | null = null
  readonly #call: LlmCall
  readonly #meter: Meter | null
  readonly #begin: () => void
  /** The reply takes no more for now. */
  #full = false
  /** Bytes of an event that is not whole yet. */
  #partial: Buffer[] | null = null
  #partialSize = 0
  /** Its last bytes. */
  #reach = nothing
  /** Comments and pings before the first event: nobody is told anything until there is something to tell. */
  #early: Buffer[] | null = null
  #earlySize = 0

  /** @param begin sends the head; called once, before the first event that is worth it */
  constructor(call: LlmCall, meter: Meter | null, begin: () => void) {
    this.#call = call
    this.#meter = meter
    this.#begin = begin
  }

  take(chunk: Buffer): 'more' | 'wait' | 'stop' {
    const bytes = this.#whole(chunk)
    if (this.#partialSize > maxEventBytes) {
      this.state.error = 'an event of the stream is too large'
      return 'stop'
    }
    if (bytes === null) return 'more'
    return ordinaryEvents(bytes, this.state) ? this.#paid(this.#send(bytes)) : this.#inspect(bytes)
  }

  /** After `wait`: the reply has drained, and what comes next is paid for or never will be. */
  ready(then: (next: 'more' | 'stop') => void): void {
    if (this.#full) {
      this.#call.reply.onDrain(() => {
        this.#full = false
        this.ready(then)
      })
      return
    }
    const next = this.#paid('more')
    if (next === 'wait') this.#meter?.onAnswer(() => this.ready(then))
    else then(next)
  }

  /** What was sent is there to be paid; whether more may come is what the meter says. */
  #paid(sent: 'more' | 'wait' | 'stop'): 'more' | 'wait' | 'stop' {
    if (this.#meter === null || this.#meter.passes(this.state) || this.complete()) return sent
    const next = this.#meter.look(this.state)
    return next === 'more' ? sent : next
  }

  /** Upstream ended: a last event without its empty line still counts when it is readable. */
  close(): void {
    if (this.#partial === null || this.state.error !== null) return
    const last = Buffer.concat([...this.#partial, Buffer.from('\n\n')])
    const probe = streamState()
    for (const _ of readEvents(last, probe));
    if (probe.done || probe.finished !== null || probe.usage !== null) this.#inspect(last)
  }

  /** Every answer asked for has said why it ended. `[DONE]` alone proves nothing. */
  complete(): boolean {
    const { error, finished } = this.state
    return error === null && (finished?.size ?? 0) >= this.#call.facts.choices
  }

  #whole(chunk: Buffer): Buffer | null {
    if (this.#partial === null) {
      const end = lastEventEnd(chunk)
      if (end < chunk.length) this.#keep(chunk.subarray(end))
      if (end === chunk.length) return chunk
      return end === 0 ? null : chunk.subarray(0, end)
    }
    const seam = lastEventEnd(Buffer.concat([this.#reach, chunk]))
    if (seam === 0) {
      this.#keep(chunk)
      return null
    }
    const end = Math.max(0, seam - this.#reach.length)
    const events = Buffer.concat([...this.#partial, chunk.subarray(0, end)])
    this.#partial = null
    this.#partialSize = 0
    this.#reach = nothing
    if (end < chunk.length) this.#keep(chunk.subarray(end))
    return events
  }

  #keep(rest: Buffer): void {
    this.#partial ??= []
    this.#partial.push(rest)
    this.#partialSize += rest.length
    this.#reach = (rest.length < overlap ? Buffer.concat([this.#reach, rest]) : rest).subarray(-overlap)
  }

  #send(bytes: Buffer): 'more' | 'wait' | 'stop' {
    const { reply } = this.#call
    if (!reply.started) {
      if (this.state.events === 0) return this.#hold(bytes)
      if (this.#meter !== null) this.first = Buffer.from(bytes.subarray(0, firstBytes))
      this.#begin()
      for (const waiting of this.#early ?? []) reply.write(waiting)
      this.#early = null
    }
    if (reply.write(bytes)) return 'more'
    this.#full = true
    return 'wait'
  }

  #hold(bytes: Buffer): 'more' | 'stop' {
    this.#early ??= []
    this.#early.push(bytes)
    this.#earlySize += bytes.length
    if (this.#earlySize <= maxEventBytes) return 'more'
    this.state.error = 'it sent too much before its first event'
    return 'stop'
  }

  #inspect(bytes: Buffer): 'more' | 'wait' | 'stop' {
    const { state } = this
    const kept: Buffer[] = []
    for (const event of readEvents(bytes, state)) {
      // The vendor's error frame is replaced by ours, which says what to do.
      if (state.error !== null) break
      if (event.done) this.tail = event.bytes
      else if (!(event.usageOnly && !this.#call.facts.wantsUsage)) kept.push(event.bytes)
      if (state.done) break
    }
    // What came with an error is only worth telling where the caller has the beginning: else another target may answer.
    if (state.error !== null && !this.#call.reply.started) return 'stop'
    const sent = kept.length === 0 ? 'more' : this.#send(kept.length === 1 ? (kept[0] as Buffer) : Buffer.concat(kept))
    return state.done || state.error !== null ? 'stop' : this.#paid(sent)
  }
}
