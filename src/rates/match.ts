/** Which limits a call is counted against, and in which counters. Pure. @module */
import type { Account } from '../call.ts'
import { rolesOf } from '../policy/decide.ts'
import { firstMatch } from '../policy/glob.ts'
import type { RateCount, RateLimit, RateScope, RateUnit } from './limit.ts'

/** What a call is, as limits see it. */
export interface RateAsk {
  /** Of the call: names its places at work. */
  readonly id: string
  readonly account: Account
  readonly about: 'model' | 'tool'
  /** Every name of the model or tool: as written, and what it means. */
  readonly names: readonly string[]
  /** The most tokens it may need. */
  readonly tokens: number
}

/** An amount wanted from one counter. */
export interface Want {
  /** Of the counter: limit, unit and scope. */
  readonly key: string
  readonly limit: RateLimit
  readonly count: RateCount
  readonly amount: number
  /** Whose counter it is, for people: `key k_1, model openai/gpt-5`. */
  readonly whose: string
}

/**
 * Names are compared without case and surrounding space: a provider that does not care about them must not be a way to
 * a fresh counter.
 */
export function folded(name: string): string {
  return name.trim().toLowerCase()
}

/** @returns at most one want per counter, in the order of the configuration */
export function wantsOf(limits: readonly RateLimit[], ask: RateAsk): readonly Want[] {
  const names = [...new Set(ask.names.map(folded))]
  const matched = limits.map((limit) => ({ limit, scopes: scopesOf(limit, ask, names) }))
  const replaced = new Set<string>()
  for (const { limit, scopes } of matched)
    for (const other of limit.replaces) for (const scope of scopes) replaced.add(`${other}|${scope}`)
  const wants: Want[] = []
  for (const { limit, scopes } of matched) {
    for (const scope of scopes) {
      if (replaced.has(`${limit.name}|${scope}`)) continue
      for (const count of limit.counts) {
        const amount = amountOf(count, ask)
        if (amount > 0) {
          wants.push({ key: `${limit.name}|${count.unit}|${scope}`, limit, count, amount, whose: whose(limit, scope) })
        }
      }
    }
  }
  return wants
}

const counted: Readonly<Record<RateAsk['about'], ReadonlySet<RateUnit>>> = {
  model: new Set<RateUnit>(['requests', 'tokens', 'concurrent']),
  tool: new Set<RateUnit>(['tool_calls', 'concurrent']),
}

function amountOf(count: RateCount, ask: RateAsk): number {
  if (!counted[ask.about].has(count.unit)) return 0
  // What alone is more than the limit is let in when nothing else is: refusing it forever would be no rate.
  return count.unit === 'tokens' ? Math.min(ask.tokens, count.max + count.burst) : 1
}

/** The counters of a limit that a call goes into, by the values of its scopes; empty when it does not match. */
function scopesOf(limit: RateLimit, ask: RateAsk, names: readonly string[]): readonly string[] {
  const globs = limit[ask.about === 'model' ? 'models' : 'tools']
  if (limit[ask.about === 'model' ? 'tools' : 'models'] !== null) return none
  const named = globs === null ? names : names.filter((name) => firstMatch(globs, name) !== -1)
  if (named.length === 0 || !selects(limit, ask.account)) return none
  const values: Readonly<Record<RateScope, () => readonly string[]>> = {
    key: () => [keyOf(ask.account).id],
    account: () => accountsOf(limit, ask.account),
    model: () => (ask.about === 'model' ? named : none),
    tool: () => (ask.about === 'tool' ? named : none),
  }
  // The name comes last of all scopes, and alone may hold any character: no two combinations read alike.
  return limit.per.reduce<readonly string[]>(
    (made, scope) => made.flatMap((head) => values[scope]().map((value) => (head === '' ? value : `${head}|${value}`))),
    [''],
  )
}

const none: readonly string[] = []

function whose({ per }: RateLimit, scope: string): string {
  const values = scope.split('|')
  return per.map((name, at) => `${name} ${at === per.length - 1 ? values.slice(at).join('|') : values[at]}`).join(', ')
}

/** The key a call came with; sessions belong to the key that minted them. */
function keyOf(account: Account): Account {
  for (let at: Account | null = account; at !== null; at = at.parent) if (at.kind === 'key') return at
  return account
}

/** Of the caller's path, the accounts that have a counter of their own. */
function accountsOf({ kinds, accounts }: RateLimit, leaf: Account): readonly string[] {
  const found: string[] = []
  for (let at: Account | null = leaf; at !== null; at = at.parent)
    if (kinds === null ? accounts?.includes(at.id) : kinds.includes(at.kind) && below(accounts, at)) found.push(at.id)
  return found
}

function selects({ accounts, keys, roles, labels }: RateLimit, account: Account): boolean {
  return (
    below(accounts, account) &&
    (keys === null || keys.includes(keyOf(account).id)) &&
    (roles === null || rolesOf(account).some((role) => roles.includes(role))) &&
    (labels === null || Object.entries(labels).every(([name, value]) => labelOf(account, name) === value))
  )
}

function below(accounts: readonly string[] | null, account: Account): boolean {
  if (accounts === null) return true
  for (let at: Account | null = account; at !== null; at = at.parent) if (accounts.includes(at.id)) return true
  return false
}

/** The nearest label of that name. A session is labelled by its holder, who must not choose its limits so. */
function labelOf(account: Account, name: string): string | undefined {
  for (let at: Account | null = account; at !== null; at = at.parent) {
    if (at.kind !== 'session' && Object.hasOwn(at.labels, name)) return at.labels[name]
  }
  return undefined
}
