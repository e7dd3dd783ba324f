/** The nouns of rate limits on a call's walk: what it took, where it stands, what it used. Types only. @module */
import type { Fault } from './fault.ts'

/** The tightest matching rate limit of a unit. */
export interface RateLeft {
  readonly limit: number
  readonly remaining: number
  /** Ms until all of it is free again. */
  readonly resetMs: number
}

export interface RateStanding {
  readonly requests: RateLeft | null
  readonly tokens: RateLeft | null
}

/** What a call took of the rate limits. Ended once, however the call ends. */
export interface RateGrant {
  readonly standing: RateStanding
  /**
   * Takes what the limits ask of one target of a route, before it is tried.
   * @returns why it may not be tried now
   */
  enter(target: RateTarget | null): Fault | null | Promise<Fault | null>
  /** Corrects what was taken to what was used, and gives the places at work back. */
  end(tried: readonly RateSpent[]): void
}

export interface RateTarget {
  readonly provider: string
  readonly model: string
}

/** One attempt, as far as rate limits are concerned. */
export interface RateSpent {
  readonly attempt: { readonly target: RateTarget | null }
  readonly ending: { readonly outcome: string; readonly dispatched: boolean; readonly fault: Fault | null }
  readonly settlement: { readonly charged: { readonly tokens: number } }
}
