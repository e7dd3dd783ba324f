/**
 * The one frozen Config: everything registry/ and policies/ say, checked, as the rest of the gateway reads it.
 * @module
 */
import type { ModelTarget, Trigger } from '../call.ts'
import type { CredentialRow } from '../credentials/schemes.ts'
import type { CompiledPolicies } from '../policy/policies.ts'
import type { PriceOverride } from '../price.ts'
import type { StrategyName } from '../strategies/strategies.ts'
import type { Limits } from './limits.ts'
import type { Dialect } from './provider.ts'
import type { ServerConfig } from './server.ts'

/** A vendor: where it is, which formats it speaks, how it wants to be paid for with a credential. */
export interface Provider {
  readonly id: string
  /** Without a trailing slash; `builtin:<name>` for one that lives in this process. */
  readonly baseUrl: string
  readonly speaks: readonly Dialect[]
  /** Empty: none is sent. More than one: a pool. */
  readonly credentials: readonly CredentialRow[]
  readonly allowPrivate: readonly string[]
  /** It can be called: no credential is needed, or the secret of at least one is there. */
  readonly lit: boolean
  /** Sent with every request; never a secret. */
  readonly headers: Readonly<Record<string, string>>
  /** It bills nobody (a server of your own): a model without a price costs nothing there. */
  readonly free: boolean
  /** Put before the model name a caller writes, for vendors whose ids share a stem. */
  readonly prefix: string
}

/** What we say about a model ourselves. null: the catalogue's word stands. */
export interface ModelRow {
  readonly id: string
  readonly provider: string
  readonly upstream: string
  /** Tokens. */
  readonly context: number | null
  /** Tokens. */
  readonly maxOutput: number | null
  readonly price: PriceOverride | null
}

export interface Route {
  readonly id: string
  readonly strategy: StrategyName
  readonly to: readonly WeightedTarget[]
  /** Which failures of one target let the next be tried. */
  readonly on: readonly Trigger[]
  /** Targets used instead while less than `below` (0 to 1) of the tightest budget on the caller's path is left. */
  readonly whenBudget: { readonly below: number; readonly to: readonly WeightedTarget[] } | null
}

/** A target of a route. `weight` matters to the weighted strategy only. */
export interface WeightedTarget extends ModelTarget {
  readonly weight: number
}

export interface Config {
  readonly providers: ReadonlyMap<string, Provider>
  readonly models: ReadonlyMap<string, ModelRow>
  readonly routes: ReadonlyMap<string, Route>
  readonly servers: ReadonlyMap<string, ServerConfig>
  readonly policy: CompiledPolicies
  readonly limits: Limits
  /** One more with every swap. */
  readonly epoch: number
  /** First 16 hex digits of the SHA-256 over every file's path and bytes. */
  readonly hash: string
}
