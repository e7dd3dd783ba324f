/**
 * What is kept, as interfaces: the account tree, keys, balances, the ledger, the audit trail and a few settings.
 * One SQL layer implements them for every database; test/contract/store.ts holds every implementation to the same suite.
 * @module
 */
import type { Account, Amounts, LedgerRow, Window } from '../call.ts'

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

/** Which counter a charge goes to. One object per counter and window start, so that a batch can add up by identity. */
export interface BalanceKey {
  readonly account: string
  readonly window: Window
  /** Start of the window, ms since the epoch; 0 for `total`. */
  readonly startsAt: number
}

export interface BalanceRow extends BalanceKey, Amounts {}

/** A row and the counters it adds to, written in one transaction. */
export interface LedgerEntry {
  readonly row: LedgerRow
  readonly balances: readonly BalanceKey[]
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

export interface AccountStore {
  /** Writes the account and, with it in one transaction, its key. Resolves after the commit. */
  insert(account: AccountRow, key: KeyRow | null): Promise<void>
  update(
    id: string,
    patch: Partial<
      Pick<AccountRow, 'name' | 'limits' | 'models' | 'tools' | 'roles' | 'labels' | 'expiresAt' | 'revokedAt'>
    >,
  ): Promise<boolean>
  get(id: string): Promise<AccountRow | null>
  /** The account and its ancestors, leaf first, in one query; empty when unknown. At most 33 rows. */
  path(id: string): Promise<readonly AccountRow[]>
  /** The account and everything below it. */
  subtree(id: string): Promise<readonly AccountRow[]>
  list(
    filter: { kind?: AccountRow['kind'] | undefined; parent?: string | undefined },
    page: Page,
  ): Promise<readonly AccountRow[]>
  balances(id: string): Promise<readonly BalanceRow[]>
  /** Adds to a balance: what a window had used before anything counted it. */
  addBalance(row: BalanceRow): Promise<void>
}

export interface KeyStore {
  byDigest(digest: string): Promise<KeyRow | null>
}

export interface LedgerStore {
  /**
   * Appends and adds to the balances in one transaction, together with whatever else waits (group commit).
   * A row id that is already there is skipped with its balances, so repeating after an unknown outcome is safe.
   * Resolves after the commit; rejects when nothing was written.
   */
  append(entries: readonly LedgerEntry[]): Promise<void>
  /** Rows of these accounts in order. */
  ofAccounts(ids: readonly string[], page: Page): Promise<readonly LedgerRow[]>
  page(page: Page): Promise<readonly LedgerRow[]>
  /** Sums from the rows of an account and everything below it since a time: how a new window starts its counter. */
  sumSince(account: string, since: number): Promise<Amounts>
  /** Sums grouped by one column of the ledger, of all rows or of these accounts' own. */
  usage(
    groupBy: 'account' | 'session' | 'model' | 'provider' | 'tool' | 'kind',
    since: number,
    accounts?: readonly string[],
  ): Promise<readonly UsageRow[]>
}

export interface UsageRow extends Amounts {
  readonly group: string | null
  readonly calls: number
}

export interface AuditStore {
  /** Resolves after the commit. */
  append(rows: readonly AuditRow[]): Promise<void>
  page(page: Page): Promise<readonly AuditRow[]>
}

export interface SettingStore {
  get(name: string): Promise<string | null>
  set(name: string, value: string): Promise<void>
}

/** Everything kept, behind one handle. */
export interface Store {
  readonly accounts: AccountStore
  readonly keys: KeyStore
  readonly ledger: LedgerStore
  readonly audit: AuditStore
  readonly settings: SettingStore
  /** True while the last write succeeded: readiness. */
  healthy(): boolean
  /** Writes what waits, then closes. */
  close(): Promise<void>
}
