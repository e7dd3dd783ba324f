/**
 * What is kept, as interfaces: the account tree, keys, balances and leases, the ledger, the audit trail, who is writing,
 * and a few settings. One SQL layer implements them for every database; test/contract/store.ts holds every
 * implementation to the same suite.
 * @module
 */
import type { Account, Amounts, LedgerLine, LedgerRow } from '../call.ts'

/** An account as stored: the tree by parent id. Lists and limits are JSON in the database. */
export type AccountRow = Omit<Account, 'parent'> & { readonly parent: string | null }

/** A key: the digest of its token and the leaf account it stands for. The token itself is never stored. */
export interface KeyRow {
  /** The id inside the token; also the id of the key's or session's own account. */
  readonly id: string
  /** HMAC-SHA-256, under the pepper, of the SHA-256 of the whole token; hex. */
  readonly digest: string
  readonly createdAt: number
}

/** Which counter a charge goes to. One object per counter, so that a batch can add up by identity. */
export interface BalanceKey {
  readonly account: string
  /** A window, with the time zone where that is not UTC: `total`, `hour`, `day@Europe/Berlin`. */
  readonly period: string
  /** Start of the window, ms since the epoch; 0 for `total`. */
  readonly startsAt: number
}

/** One counter as one writer sees it. The counter's own amount is the sum over all writers. */
export interface BalanceRow extends BalanceKey {
  /** The process that used and leased this; `''` for what processes that are gone have left. */
  readonly writer: string
  readonly used: Amounts
  /** Set aside for the writer and not yet used. */
  readonly leased: Amounts
}

/** A counter that a ledger line adds to, and the units of it that the writer spends from a lease. */
export interface Posting {
  readonly key: BalanceKey
  readonly leased: Readonly<Record<keyof Amounts, 0 | 1>>
}

/** Of a counter that nothing is spent of from a lease. */
export const unleased: Posting['leased'] = Object.freeze({ usd: 0, tokens: 0, requests: 0, tool_calls: 0 })

/** A line and the counters it adds to, written in one transaction. */
export interface LedgerEntry {
  readonly line: LedgerLine
  readonly postings: readonly Posting[]
  /** What the leases did not have, by posting and unit: used all the same, and not taken from them. */
  readonly short: readonly { readonly posting: Posting; readonly amounts: Amounts }[] | null
  /** Whose leases it is taken from. Once this process goes by another id, nothing is: what it had leased is gone. */
  readonly lessee?: string
  /** Called once the line is durable. */
  readonly posted: (() => void) | null
}

/** What a process asks of a counter: at most `want` more, as long as the counter stays within `max`. */
export interface LeaseAsk {
  readonly key: BalanceKey
  /** Version of the account that `max` comes from; against a newer one nothing is given. */
  readonly version: number
  /** Negative: given back. */
  readonly want: Readonly<Amounts>
  readonly max: Readonly<Amounts>
}

/** A counter after asking. */
export interface LeaseAnswer {
  /** Of all writers. */
  readonly used: Amounts
  readonly leasedByAll: Amounts
  /** Of the asking writer, in all. */
  readonly leased: Amounts
  /** The account has changed since `version`. */
  readonly stale: boolean
}

export interface LeaseStore {
  /**
   * Gives what fits, counter by counter, in one transaction in which no other process is given anything of the same
   * accounts: at no time do used and leased amounts together pass a limit.
   */
  ask(asks: readonly LeaseAsk[]): Promise<readonly LeaseAnswer[]>
}

/** A process that books calls. */
export interface WriterRow {
  readonly id: string
  /** Where it runs: machine and process, as far as another process can tell whether it is still there. */
  readonly place: string
  readonly startedAt: number
  /** It is taken for dead after this, unless it renews. */
  readonly expiresAt: number
  /** When it ended or was declared dead; null while it lives. */
  readonly endedAt: number | null
  /** Length and head of its chain, as last told. */
  readonly seq: number
  readonly hash: string
}

/** An attempt that may have left for an upstream, kept until its line is in the ledger. */
export interface Mark {
  readonly line: Omit<LedgerLine, 'body' | 'notes'>
  /** The beginning of the line's body: what is known of an attempt before its end. */
  readonly head: string
}

/** One thing other processes should know of. */
export interface Change {
  readonly seq: number
  readonly kind: 'account' | 'recall'
  /** Account id, or for a recall the counter's account, period and start, and who asks for it. */
  readonly subject: string
}

export interface Beat {
  /** The database's clock, ms since the epoch. */
  readonly now: number
  /** False once another process declared this one dead: its leases are gone. */
  readonly alive: boolean
  /** What changed since the beat before, each once or more often. */
  readonly changes: readonly Change[]
  /** Every writer that has not been wound up, this one included. */
  readonly writers: readonly WriterRow[]
}

/** Where a chain ends. */
export interface ChainHead {
  readonly writer: string
  /** 0 while the chain is empty. */
  readonly seq: number
  readonly hash: string
}

/** Who writes, and what happens to what a dead process left behind. */
export interface WriterStore {
  /** The id of this process in the ledger. */
  readonly id: string
  /** What of this process's lines is committed. */
  readonly head: ChainHead
  /** Renews this process for a term and looks around. */
  beat(termMs: number): Promise<Beat>
  /** Tells the other processes. */
  announce(changes: readonly Omit<Change, 'seq'>[]): Promise<void>
  /** Attempts about to leave. Durable at least against the death of the process when this returns or resolves. */
  mark(marks: readonly Mark[]): void | Promise<void>
  /** These attempts are in the ledger. */
  unmark(ids: readonly string[]): void
  /** Whether the process is certainly gone, without waiting for its term to end. */
  gone(writer: WriterRow): boolean
  /** Marks of a writer whose lines are not in the ledger. */
  marksOf(writer: string): Promise<readonly Mark[]>
  /** Declares a silent writer dead, unless it renewed meanwhile. From then on nothing of it is booked. */
  fence(writer: WriterRow): Promise<boolean>
  /** Hands what a dead writer used to the common balance, its leases back to everyone, and forgets its marks. */
  windUp(writer: string): Promise<void>
}

export interface AuditRow {
  readonly id: string
  readonly at: number
  /** Account id, or `admin`, or `anonymous`. */
  readonly actor: string
  readonly action: string
  readonly subject: string | null
  readonly allowed: boolean
  /** JSON without secrets. */
  readonly detail: string | null
}

export interface Page {
  /** Rows after this id (exclusive), in id order. */
  readonly after?: string | undefined
  /** 1 to 1000. */
  readonly limit: number
}

export type AccountPatch = Partial<
  Pick<AccountRow, 'name' | 'limits' | 'models' | 'tools' | 'roles' | 'labels' | 'expiresAt' | 'revokedAt'>
>

export interface AccountStore {
  /** Writes the account and, with it in one transaction, its key. Resolves after the commit. */
  insert(account: AccountRow, key: KeyRow | null): Promise<void>
  /**
   * Changes an account and tells the other processes.
   *
   * @param only the version it must still have; left out: whatever it is
   * @returns its new version, or null when there is no such account, or not at that version
   */
  update(id: string, patch: AccountPatch, only?: number): Promise<number | null>
  get(id: string): Promise<AccountRow | null>
  /** The account and its ancestors, leaf first, in one query; empty when unknown. At most 33 rows. */
  path(id: string): Promise<readonly AccountRow[]>
  /** The account and everything below it. */
  subtree(id: string): Promise<readonly AccountRow[]>
  list(
    filter: { kind?: AccountRow['kind'] | undefined; parent?: string | undefined },
    page: Page,
  ): Promise<readonly AccountRow[]>
}

export interface BalanceStore {
  /** Every counter of an account, by period, start and writer. */
  of(account: string): Promise<readonly BalanceRow[]>
  /** What is used of each of these counters over all writers, in order. */
  totals(keys: readonly BalanceKey[]): Promise<readonly Amounts[]>
  /**
   * Sets the common part of a counter so that the whole is what the ledger says: lines of the account and everything
   * below it booked in [startsAt, endsAt). For a counter that began after lines it has to count.
   */
  recount(key: BalanceKey, endsAt: number): Promise<void>
}

export interface KeyStore {
  byDigest(digest: string): Promise<KeyRow | null>
}

export const usageGroups = ['account', 'session', 'model', 'provider', 'tool', 'kind'] as const
export type UsageGroup = (typeof usageGroups)[number]

export interface UsageRow extends Amounts {
  readonly group: string | null
  readonly calls: number
}

/** What a report may be grouped by beside labels; the moments of `quarter` hours make hours, days and months anywhere. */
export const reportFields = [
  'account',
  'key',
  'session',
  'model',
  'provider',
  'tool',
  'kind',
  'hour',
  'quarter',
] as const

/** A field of a line, or a label that callers gave. */
export type ReportGroup = (typeof reportFields)[number] | `label:${string}`

/** Which lines are meant; ms since the epoch, `until` excluded. */
export interface LedgerFilter {
  readonly since?: number | undefined
  readonly until?: number | undefined
  /** With everything below it. */
  readonly account?: string | undefined
}

export interface ReportRow extends Amounts {
  /** One value per group asked for; the times of `hour` and `quarter` in ms since the epoch, as text. */
  readonly groups: readonly (string | null)[]
  readonly calls: number
  readonly input: number
  readonly output: number
  readonly cacheRead: number
  readonly cacheWrite: number
  readonly reasoning: number
}

/** The first lines of a chain, to be removed together. */
export interface Prefix {
  readonly writer: string
  /** The checkpoint it is built on: the seq of the last line removed before, 0 for none. */
  readonly after: number
  readonly last: ChainHead
  readonly ids: readonly string[]
  /** What the lines add to each account on their paths. */
  readonly sums: readonly (Amounts & { readonly account: string })[]
}

/** What makes the ledger forget without breaking its chains. */
export interface RetentionStore {
  /** Erases what callers wrote beside these accounts' lines. @returns how many lines had something */
  eraseNotes(accounts: readonly string[]): Promise<number>
  /** The same for the lines of one page by id that entered before a moment. @returns the last id looked at, or null */
  eraseNotesBefore(before: number, page: Page): Promise<string | null>
  /** Where each chain begins, for chains whose first lines are gone. */
  checkpoints(): Promise<ReadonlyMap<string, number>>
  /** Removes the beginning of a chain and keeps its sums. @returns false when another process was faster */
  remove(prefix: Prefix): Promise<boolean>
  /** Forgets counters of windows that began before a moment. */
  forgetWindows(before: number): Promise<void>
}

export interface LedgerStore {
  /**
   * Appends and adds to the balances in one transaction, together with whatever else waits (group commit).
   * A line whose id is there already is skipped with its balances, so repeating after an unknown outcome is safe; where
   * the one that is there was recovered for a process taken for dead, the difference is booked once as `<id>.c`.
   * Resolves after the commit; rejects when nothing was written.
   */
  append(entries: readonly LedgerEntry[]): Promise<void>
  /** Rows of these accounts in order. */
  ofAccounts(ids: readonly string[], page: Page): Promise<readonly LedgerRow[]>
  page(page: Page, filter?: LedgerFilter): Promise<readonly LedgerRow[]>
  /** Sums of calls, tokens and amounts by these groups, in their order; for reports over many lines. */
  report(groups: readonly ReportGroup[], filter: LedgerFilter): Promise<readonly ReportRow[]>
  /** Sums grouped by one field of the ledger, of all rows or of these accounts' own. */
  usage(group: UsageGroup, since: number, accounts?: readonly string[]): Promise<readonly UsageRow[]>
}

export interface AuditStore {
  /** Where this process's chain of audit rows ends. */
  readonly head: ChainHead
  /** Resolves after the commit. */
  append(rows: readonly AuditRow[]): Promise<void>
  page(page: Page): Promise<readonly AuditRow[]>
}

/** A limit's threshold that was reached: told once for each of these. */
export interface Crossing {
  readonly account: string
  readonly unit: keyof Amounts
  /** The limit's window, as balances are kept by. */
  readonly period: string
  readonly startsAt: number
  /** Percent of `max`. */
  readonly threshold: number
  readonly max: number
}

/** A message for one address, kept until it was acknowledged or given up. */
export interface Delivery {
  /** Of the message: the same at every address and every try. */
  readonly id: string
  readonly url: string
  readonly event: string
  /** JSON, as it is sent. */
  readonly body: string
  /** Ms since the epoch. */
  readonly createdAt: number
  /** Tries so far. */
  readonly attempts: number
  readonly nextAt: number
}

export interface AlertStore {
  /**
   * Notes a crossing and queues its message, unless whatever process did so before.
   *
   * @param crossing null: nothing has to be noted first
   * @param message its id, and the addresses it goes to
   * @returns whether it was the first
   */
  note(
    crossing: Crossing | null,
    message: Pick<Delivery, 'id' | 'event' | 'body'> & { readonly at: number; readonly urls: readonly string[] },
  ): Promise<boolean>
  /** Messages for an address whose time has come, the oldest first. */
  due(url: string, now: number, most: number): Promise<readonly Delivery[]>
  /** Takes a message up for one try; no other process does before `until`. @returns null when another was faster */
  claim(delivery: Delivery, until: number): Promise<Delivery | null>
  /** The try failed: when the next one is. Says nothing where the claim has been lost. */
  again(claimed: Delivery, nextAt: number): Promise<void>
  /** It was acknowledged, or is given up. */
  end(claimed: Delivery, outcome: 'delivered' | 'given_up', at: number): Promise<void>
}

export interface SettingStore {
  get(name: string): Promise<string | null>
  set(name: string, value: string): Promise<void>
}

/** Everything kept, behind one handle. */
export interface Store {
  readonly accounts: AccountStore
  readonly keys: KeyStore
  readonly balances: BalanceStore
  readonly leases: LeaseStore
  readonly ledger: LedgerStore
  readonly retention: RetentionStore
  readonly writers: WriterStore
  readonly audit: AuditStore
  readonly settings: SettingStore
  readonly alerts: AlertStore
  /** True while the last write succeeded: readiness. */
  healthy(): boolean
  /** Writes what waits, ends this writer, then closes. */
  close(): Promise<void>
}
