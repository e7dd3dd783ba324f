/** The nouns of who pays: units and amounts, limits, the account tree, callers. Types and their tables only. @module */

/** What budgets are counted in. `usd` is always in micro-dollars (integer millionths); the rest are plain counts. */
export type Unit = 'usd' | 'tokens' | 'requests' | 'tool_calls'

/** One amount per unit, integers >= 0. */
export type Amounts = Record<Unit, number>

export const units: readonly Unit[] = ['usd', 'tokens', 'requests', 'tool_calls']
export const nothing: Readonly<Amounts> = Object.freeze({ usd: 0, tokens: 0, requests: 0, tool_calls: 0 })

/** Amounts to add up in. */
export function zero(): Amounts {
  return { usd: 0, tokens: 0, requests: 0, tool_calls: 0 }
}

export function add(to: Amounts, amounts: Readonly<Amounts>, sign: 1 | -1 = 1): void {
  to.usd += sign * amounts.usd
  to.tokens += sign * amounts.tokens
  to.requests += sign * amounts.requests
  to.tool_calls += sign * amounts.tool_calls
}

export const windows = ['total', 'minute', 'hour', 'day', 'week', 'month'] as const
export type Window = (typeof windows)[number]

/** One limit of an account. `max` in the unit's integer (usd: micro-dollars). */
export interface Limit {
  readonly unit: Unit
  readonly max: number
  readonly window: Window
  /** IANA name of the time zone whose midnight begins days, weeks and months. */
  readonly zone: string
  readonly action: 'stop' | 'warn'
  readonly alertAt: readonly number[]
}

export const accountKinds = ['organization', 'team', 'user', 'application', 'feature', 'key', 'session'] as const
export type AccountKind = (typeof accountKinds)[number]

/**
 * A node of the one account tree. Keys and sessions are nodes too: a key is a leaf that can be presented, a session is
 * a leaf minted by one. A list that is null inherits, an empty list is nothing.
 */
export interface Account {
  readonly id: string
  readonly parent: Account | null
  readonly kind: AccountKind
  readonly name: string
  limits: readonly Limit[]
  models: readonly string[] | null
  tools: readonly string[] | null
  roles: readonly string[]
  labels: Readonly<Record<string, string>>
  /** Milliseconds since the epoch, or null. */
  expiresAt: number | null
  /** Milliseconds since the epoch, or null while live. */
  revokedAt: number | null
  readonly createdAt: number
  /** Counts its changes in the store. */
  version: number
}

/** Who asks: the administrator, or a key or session by its leaf account. */
export type Caller = { readonly role: 'admin' } | { readonly role: 'holder'; readonly account: Account }

/** The one credential a request presented: SHA-256 (hex) of the whole token. The token itself stays in the edge. */
export interface Credential {
  readonly digest: string
  /** It has the form and checksum of a key; anything else can only be the admin key. Asked only of tokens not yet known. */
  readonly isKey: () => boolean
}
