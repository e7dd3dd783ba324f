/**
 * What a stream may still cost. Its hold grows in slices, asked for ahead of need: while an answer is awaited the rest of
 * the hold is the reserve for what is in flight, and when that is used up as well the upstream has to wait. Where nothing
 * more is to be had the stream ends with what was paid for.
 * @module
 */
import type { Account, Amounts, Attempt, Hold, LlmCall, Slices } from '../call.ts'
import { bytesPerToken, outputCertain, outputSeen, type StreamState } from '../dialects/openai-chat/stream.ts'
import { type Fault, fault } from '../fault.ts'
import type { Gateway } from '../gateway.ts'

/** A slice is never smaller: what fits less is not worth asking for. Output tokens. */
const leastSlice = 16
/** Slices double up to this, so that a long stream asks seldom and holds little that others could use. */
const largestSlice = 4096
/** A mark below every count: look at once. */
const always = -1
const leastReserve = 16
const largestReserve = 256

export interface Paid {
  readonly gateway: Gateway
  readonly call: LlmCall
  readonly account: Account
  readonly attempt: Attempt
  readonly hold: Hold
}

/** @returns null where output is not held: for whole answers, and where nothing limits it */
export function meterOf(paid: Paid): Meter | null {
  const { call, attempt } = paid
  return call.facts.stream && attempt.cap !== null ? new Meter(paid, attempt.cap * call.facts.choices) : null
}

/** A class, because one of these is made for every stream. Counts are output tokens over all answers. */
export class Meter {
  /** Why the stream has to end, or null while it may go on. */
  stopped: Fault | null = null
  readonly #paid: Paid
  readonly #slices: Slices | null
  readonly #most: number
  #held: number
  #slice: number
  /** Up to here nobody needs to look. */
  #mark = always
  #seen = 0
  /** The most that came at once so far: what the next chunk may bring. */
  #step = 1
  #asking = false
  /** Seen when nothing was to be had; then only the least is asked for, and not at once again. */
  #refusedAt: number | null = null
  #failure: Fault | null = null
  #listener: (() => void) | null = null

  constructor(paid: Paid, cap: number) {
    this.#paid = paid
    this.#slices = paid.attempt.slices
    this.#most = this.#slices?.most ?? cap
    this.#held = Math.min(this.#slices?.first ?? cap, this.#most)
    this.#slice = Math.max(leastSlice, this.#held)
  }

  /** Whether what has been seen needs no look: what every chunk pays for. */
  passes(state: StreamState): boolean {
    return state.events <= this.#mark && state.text <= this.#mark * bytesPerToken
  }

  /** @returns `wait` while an answer is awaited and nothing is left: see `onAnswer` */
  look(state: StreamState): 'more' | 'wait' | 'stop' {
    if (this.stopped !== null) return 'stop'
    const seen = outputSeen(state)
    // Only where nothing passed unseen in between is the difference that of one chunk.
    if (this.#mark <= this.#seen) this.#step = Math.max(this.#step, seen - this.#seen)
    this.#seen = seen
    if (this.#isShort()) this.#grow()
    if (this.#held >= this.#most) return this.#atMost(state)
    this.#mark = this.#isShort() ? seen : this.#held - this.#reserve()
    if (seen + this.#step <= this.#held) return 'more'
    this.#mark = always
    if (this.#asking) return 'wait'
    return this.#stop(this.#failure ?? this.#exhausted())
  }

  /** After `wait`: called once, when the answer is there. */
  onAnswer(listener: () => void): void {
    this.#listener = listener
  }

  /** The whole cap is held: only a vendor that does not keep to it gets beyond. */
  #atMost(state: StreamState): 'more' | 'stop' {
    this.#mark = Math.max(this.#seen, this.#most)
    return outputCertain(state) > this.#most ? this.#stop(this.#beyondCap()) : 'more'
  }

  #stop(cause: Fault): 'stop' {
    this.stopped = cause
    return 'stop'
  }

  /** For what is in flight: never less than what one chunk may bring. */
  #reserve(): number {
    return Math.max(this.#step, Math.min(largestReserve, Math.max(leastReserve, Math.ceil(this.#held / 4))))
  }

  #isShort(): boolean {
    return this.#held < this.#most && this.#seen + this.#reserve() > this.#held
  }

  #grow(): void {
    if (this.#asking) return
    if (this.#refusedAt !== null) {
      // A last time where the hold is spent, unless that was just refused.
      const wait = this.#seen + this.#step > this.#held ? 1 : leastSlice
      if (this.#seen >= this.#refusedAt + wait) this.#ask(leastSlice)
      return
    }
    const needed = this.#seen + 2 * this.#reserve() - this.#held
    this.#ask(Math.max(this.#slice, needed))
  }

  /** Asks for a slice, and for less where that much is not to be had. */
  #ask(wanted: number): void {
    let size = Math.min(wanted, this.#most - this.#held)
    for (;;) {
      const taken = this.#take(size)
      if (typeof taken !== 'boolean') {
        this.#asking = true
        void this.#await(taken, size)
        return
      }
      if (this.#heard(taken, size)) return
      size = smaller(size)
    }
  }

  /** @returns whether that is the last word for now */
  #heard(taken: boolean, size: number): boolean {
    if (taken) {
      this.#held += size
      this.#slice = Math.min(largestSlice, Math.max(this.#slice, size) * 2)
      this.#refusedAt = null
      return true
    }
    if (size > leastSlice && this.#failure === null) return false
    this.#slice = leastSlice
    this.#refusedAt = this.#seen
    return true
  }

  #take(size: number): boolean | Promise<boolean> {
    const more = this.#slices?.more(this.#held, this.#held + size)
    if (more === undefined) return false
    this.#failure = null
    try {
      return this.#paid.hold.extend(more)
    } catch (error) {
      return this.#failed(error)
    }
  }

  async #await(answer: Promise<boolean>, size: number): Promise<void> {
    let taken: boolean
    try {
      taken = await answer
    } catch (error) {
      taken = this.#failed(error)
    }
    this.#asking = false
    if (!this.#heard(taken, size)) this.#ask(smaller(size))
    if (this.#asking) return
    // Whether it goes on or ends, the next chunk or the listener finds out.
    this.#mark = always
    const listener = this.#listener
    this.#listener = null
    listener?.()
  }

  /** Money fails closed: where nobody can say whether there is more, there is not. */
  #failed(error: unknown): false {
    const { gateway, call } = this.#paid
    gateway.log.error({ call: call.id, error: String(error) }, 'a hold could not be extended')
    this.#failure = fault({ code: 'store_unavailable' })
    return false
  }

  #exhausted(): Fault {
    const more = this.#slices?.more(this.#held, this.#held + Math.min(leastSlice, this.#most - this.#held))
    return tightest(this.#paid, more ?? oneToken)?.cause ?? fault({ code: 'store_unavailable' })
  }

  #beyondCap(): Fault {
    const found = tightest(this.#paid, this.#slices?.more(this.#most, this.#most + 1) ?? oneToken)
    if (found !== null && found.left < 0) return found.cause
    const why = `it went on beyond the ${this.#most} output tokens it was asked for, and was stopped there`
    return fault({ code: 'upstream_error', upstream: this.#paid.attempt.target?.provider ?? '', status: null, why })
  }
}

const oneToken: Amounts = Object.freeze({ usd: 0, tokens: 1, requests: 0, tool_calls: 0 })

function smaller(size: number): number {
  return Math.max(leastSlice, Math.ceil(size / 4))
}

/** The limit on the account's path that leaves the least beside these amounts, told as used up. */
function tightest({ gateway, account }: Paid, more: Amounts): { readonly left: number; readonly cause: Fault } | null {
  let found: { left: number; cause: Fault } | null = null
  for (let level: Account | null = account; level !== null; level = level.parent) {
    for (const { limit, remaining, resetsAt } of gateway.escrow.near(level)) {
      const { unit, max } = limit
      const left = remaining - more[unit]
      if (limit.action !== 'stop' || more[unit] === 0 || (found !== null && found.left <= left)) continue
      found = { left, cause: fault({ code: 'budget_exhausted', unit, account: level.id, max, resetsAt }) }
    }
  }
  return found
}
