/** What the processes of one deployment may count together. Never more than an aid: it may vanish at any time. @module */
import type { Want } from './match.ts'
import type { Room } from './window.ts'

/** Taken together, in the order of the wants. */
export interface SharedTaken {
  readonly taken: true
  readonly slots: readonly number[]
  readonly rooms: readonly Room[]
}

/** Nothing was taken, because of one of the wants. */
export interface SharedRefused {
  readonly taken: false
  readonly want: number
  readonly waitMs: number
  readonly rooms: readonly Room[]
}

/** A change of what was taken, by `take`'s slot; the whole amount of a place at work gives it back. */
export interface SharedChange {
  readonly want: Want
  readonly slot: number
  readonly delta: number
}

export interface SharedRates {
  /** It answers. While it does not, nobody waits for it. */
  up(): boolean
  /**
   * Takes all wants or none.
   * @param member names the call's places at work
   * @returns null when it did not answer in time; never rejects
   */
  take(wants: readonly Want[], member: string): Promise<SharedTaken | SharedRefused | null>
  /** Told and forgotten: what does not arrive expires. */
  change(changes: readonly SharedChange[], member: string): void
}
