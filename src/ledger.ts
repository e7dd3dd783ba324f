/** The nouns of what is kept of a call: a line of the ledger, and what it is made of. Types only. @module */
import type { Amounts } from './account.ts'
import type { Usage } from './usage.ts'

/** What the ledger books: an attempt, or a call refused before any (attempt 0). Amounts are what was charged. */
export interface LedgerLine extends Amounts {
  /** Unique over all processes; a line whose id is there already is not booked again. */
  readonly id: string
  /** The leaf that asked. */
  readonly account: string
  /** When the call entered, ms since the epoch. */
  readonly at: number
  /** When its hold was taken: the moment that decides which windows it counts in. */
  readonly booked: number
  /** Everything else, as JSON text: a `LedgerBody`. */
  readonly body: string
  /** What the caller wrote and may ask to have erased, as JSON text: a `LedgerNotes`; null when it wrote nothing. */
  readonly notes: string | null
}

/** The part of a ledger line that no sum is made of. */
export interface LedgerBody {
  readonly call: string
  readonly attempt: number
  readonly session: string | null
  /** Of a call: `chat`, `tool-call`, ... */
  readonly kind: string
  /** The name the caller wrote. */
  readonly model: string | null
  readonly provider: string | null
  /** The name the provider knows. */
  readonly upstream: string | null
  readonly tool: string | null
  readonly rule: string | null
  readonly traceparent: string | null
  /**
   * `recovered`: the process died with the attempt dispatched, so what was held is booked. `corrected`: the difference
   * between that and what was used, where the process came back.
   */
  readonly outcome: 'answered' | 'fault' | 'hangup' | 'truncated' | 'recovered' | 'corrected'
  readonly code: string | null
  readonly usage: Usage | null
  /** Which price list the cost was computed with; null where nothing was priced. */
  readonly price: string | null
  /** The hold, where more was used than it had. */
  readonly overrun: Amounts | null
  readonly ms: number
  readonly firstByteMs: number | null
}

export interface LedgerNotes {
  readonly step: string | null
  readonly labels: Readonly<Record<string, string>> | null
}

/** A line as it is read back, with its place in the chain of the process that wrote it. */
export interface LedgerRow extends LedgerLine {
  readonly writer: string
  readonly seq: number
  readonly hash: string
}
