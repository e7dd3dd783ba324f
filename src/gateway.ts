/**
 * What a request may touch, in one object that main builds once and passes in; nothing here is imported as a global.
 * @module
 */

import type { Alerts } from './alerts/alerts.ts'
import type { Admitted, Call, Ending, LedgerLine, Target, Tool } from './call.ts'
import type { Config } from './config/config.ts'
import type { Egress } from './egress.ts'
import type { Escrow } from './escrow/escrow.ts'
import type { Directory } from './identity/directory.ts'
import type { Rates } from './rates/rates.ts'
import type { Running } from './running.ts'
import type { LedgerEntry, Store } from './stores/store.ts'
import type { TokenCounter } from './tokens.ts'

export interface Clock {
  /** Wall clock, ms since the epoch. */
  now(): number
  /** Monotonic, ms. */
  mono(): number
}

/** Tool servers by id, and their tools under every name they answer to. */
export interface Catalogue {
  targets(): ReadonlyMap<string, Target>
  /** Every known tool in stable order (server id, then name). */
  tools(): readonly Tool[]
  /**
   * Resolves the name a caller wrote.
   * @param server the endpoint's server, or null on the aggregate, where the name is split at the first `__`
   */
  find(server: string | null, name: string): Tool | null
}

/** One finished call for log and metrics; everything is known by then. */
export interface CallSummary {
  readonly call: Call
  readonly admitted: Admitted | null
  readonly ending: Ending
  readonly attempts: number
  readonly provider: string | null
  readonly model: string | null
  readonly usd: number
  readonly latencyMs: number
}

export interface Log {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
  /** One line per call, batched off the request path. */
  call(summary: CallSummary, line: LedgerLine | null): void
}

export interface Metrics {
  call(summary: CallSummary): void
  /** A budget has reached a threshold, in percent. */
  alert(unit: string, threshold: number): void
  /** Prometheus text. */
  render(): Promise<string>
}

/** The ledger as calls see it: a failed write is told, kept, and tried again until it is durable. */
export interface LedgerWriter {
  /** Resolves after the commit; rejects when the rows are not durable yet. */
  append(entries: readonly LedgerEntry[]): Promise<void>
  /** Makes a last attempt at what is not durable yet. */
  close(): Promise<void>
}

export interface Gateway {
  readonly clock: Clock
  /** Cryptographic random bytes. */
  readonly random: (bytes: number) => Buffer
  /** The current configuration; one frozen snapshot, swapped whole. Read it once per stage. */
  readonly config: Config
  readonly directory: Directory
  readonly escrow: Escrow
  readonly rates: Rates
  /** Tells people of budgets that run low. */
  readonly alerts: Pick<Alerts, 'overrun'>
  readonly store: Store
  readonly ledger: LedgerWriter
  readonly egress: Egress
  /** Counts tokens where the length of a text does not settle it. */
  readonly tokens: TokenCounter
  readonly catalogue: Catalogue
  readonly log: Log
  readonly metrics: Metrics
  /** Resolves `env:NAME` and `file:PATH`. @throws {Error} naming the reference */
  readonly secret: (ref: string) => string
  /** Where callers reach this gateway, without a trailing slash. */
  readonly publicUrl: string
  draining: boolean
  /** Calls at work that can be stopped. */
  readonly running: Running
  /** Reads and swaps the configuration again; resolves to the faults found (empty: swapped). */
  reload(): Promise<readonly string[]>
}
