/**
 * Who a credential is. Accounts in use are kept in memory as one tree of shared objects, so that narrowing or revoking
 * a parent is seen by everything below it at its next use.
 * @module
 */
import { timingSafeEqual } from 'node:crypto'
import type { Account, Caller, Credential } from '../call.ts'
import { Fault, fault } from '../fault.ts'
import type { AccountPatch, AccountRow, BalanceRow, KeyRow, Store } from '../stores/store.ts'
import { storedDigest } from './token.ts'

/** Deepest account tree. */
export const maxDepth = 32
/** Keys kept in memory; the least recently loaded goes first. */
const maxKnown = 100_000
/** How long an account is kept after it has ended, ms: what asks about it mostly asks soon. */
const keptMs = 60_000
/** Accounts forgotten in one go. */
const mostAtOnce = 1000
/** How often an amendment gives way to others before the store is taken for unable. */
const maxRounds = 100

export interface Directory {
  /** @returns who it is, or invalid_key with the reason; a promise only when the store has to be asked */
  identify(credential: Credential | null): Caller | Fault | Promise<Caller | Fault>
  /** The account with its ancestors, in memory and attached to the escrow; null when unknown. */
  load(id: string): Promise<Account | null>
  /** Writes a new account (and its key) and makes it known. */
  create(row: AccountRow, digest: string | null): Promise<Account>
  /** Changes an account in the store and in memory. @returns false when unknown */
  update(id: string, patch: AccountPatch): Promise<boolean>
  /**
   * Changes an account by what it is in the store now: of several changes at once, in whichever processes, each sees
   * what the one before it made.
   *
   * @param make asked again when another change came first
   * @returns why nothing was changed, or null
   */
  amend(id: string, make: (row: AccountRow) => Promise<AccountPatch | Fault>): Promise<Fault | null>
  /** Another process may have changed the account: where it is in memory it is read again. */
  reload(id: string): Promise<void>
  /** Forgets accounts that ended a while ago and that nothing in memory needs. @returns how many */
  sweep(): Promise<number>
  /** Accounts in memory. */
  size(): number
  setAdmin(storedDigest: string): void
}

export interface DirectoryDeps {
  readonly store: Store
  readonly now: () => number
  readonly pepper: Buffer
  /** Awaited once for each account before it becomes known, ancestors first. */
  readonly onLoad: (account: Account, balances: readonly BalanceRow[]) => void
  /** Told after an account in memory has changed, here or in another process. */
  readonly onChange: (account: Account) => Promise<void>
  /**
   * Accounts that have ended are about to be forgotten.
   * @returns those that are not needed any more
   */
  readonly onForget: (accounts: readonly Account[]) => Promise<readonly Account[]>
  /** An account was revoked or ends at another time: what is at work below it may have to stop. */
  readonly onRevoke: () => void
}

export function createDirectory(deps: DirectoryDeps): Directory {
  const { store, now, pepper } = deps
  const accounts = new Map<string, Account>()
  const adopting = new Map<string, Promise<Account>>()
  const byDigest = new Map<string, Account>()
  /** Forgotten, and perhaps still in somebody's hands: who asks for it again gets the same object. */
  const forgotten = new Map<string, WeakRef<Account>>()
  let admin: Buffer | null = null

  async function load(id: string): Promise<Account | null> {
    const known = accounts.get(id)
    if (known !== undefined) return known
    let parent: Account | null = null
    for (const row of [...(await store.accounts.path(id))].reverse()) parent = await adopt(row, parent)
    return parent
  }

  /** One object per account, whoever asks first: narrowing and the counters rely on it. */
  function adopt(row: AccountRow, parent: Account | null): Promise<Account> | Account {
    const known = accounts.get(row.id) ?? adopting.get(row.id)
    if (known !== undefined) return known
    const before = forgotten.get(row.id)?.deref()
    const account = before === undefined ? { ...row, parent } : renewed(before, row)
    const work = bring(account).finally(() => adopting.delete(row.id))
    adopting.set(row.id, work)
    return work
  }

  async function bring(account: Account): Promise<Account> {
    deps.onLoad(account, await store.balances.of(account.id))
    accounts.set(account.id, account)
    forgotten.delete(account.id)
    return account
  }

  async function sweep(): Promise<number> {
    const before = now() - keptMs
    const above = new Set([...accounts.values()].map(({ parent }) => parent))
    const over = [...accounts.values()].filter((account) => !above.has(account) && endedBefore(account, before))
    // The rest follows with the next look, so that the store is not kept from its other work.
    const gone = new Set(over.length === 0 ? [] : await deps.onForget(over.slice(0, mostAtOnce)).catch(() => []))
    for (const account of gone) {
      accounts.delete(account.id)
      forgotten.set(account.id, new WeakRef(account))
    }
    if (gone.size > 0) for (const [digest, account] of byDigest) if (gone.has(account)) byDigest.delete(digest)
    for (const [id, ref] of forgotten) if (ref.deref() === undefined) forgotten.delete(id)
    return gone.size
  }

  async function changed(account: Account): Promise<void> {
    if (account.revokedAt !== null || account.expiresAt !== null) deps.onRevoke()
    await deps.onChange(account)
  }

  async function reload(id: string): Promise<void> {
    const account = accounts.get(id)
    const row = account === undefined ? null : await store.accounts.get(id)
    if (account === undefined || row === null || row.version <= account.version) return
    await changed(renewed(account, row))
  }

  /** A change is durable: what is in memory follows. */
  async function took(id: string, patch: AccountPatch, version: number): Promise<void> {
    const account = accounts.get(id)
    if (account === undefined || account.version >= version) return
    // Another process changed it in between, and that change is part of the new version.
    if (account.version !== version - 1) return reload(id)
    Object.assign(account, patch, { version })
    await changed(account)
  }

  async function fromStore(credential: Credential): Promise<Caller | Fault> {
    const stored = storedDigest(credential.digest, pepper)
    if (admin !== null && timingSafeEqual(admin, Buffer.from(stored, 'hex'))) return { role: 'admin' }
    if (!credential.isKey()) return fault({ code: 'invalid_key', reason: 'malformed' })
    let key: KeyRow | null
    let account: Account | null
    try {
      key = await store.keys.byDigest(stored)
      account = key === null ? null : await load(key.id)
    } catch {
      return fault({ code: 'store_unavailable' })
    }
    if (account === null) return fault({ code: 'invalid_key', reason: 'unknown' })
    if (byDigest.size >= maxKnown) byDigest.delete(byDigest.keys().next().value as string)
    byDigest.set(credential.digest, account)
    return standing(account, now())
  }

  return {
    identify(credential) {
      if (credential === null) return fault({ code: 'invalid_key', reason: 'missing' })
      const account = byDigest.get(credential.digest)
      return account === undefined ? fromStore(credential) : standing(account, now())
    },
    load,
    async create(row, digest) {
      const parent = row.parent === null ? null : await load(row.parent)
      const key =
        digest === null ? null : { id: row.id, digest: storedDigest(digest, pepper), createdAt: row.createdAt }
      await store.accounts.insert(row, key)
      return adopt(row, parent)
    },
    async update(id, patch) {
      // A revocation is in force at once, whatever the store does next; anything else only when it is durable.
      const known = accounts.get(id)
      if (known !== undefined && patch.revokedAt != null) known.revokedAt = patch.revokedAt
      if (patch.revokedAt != null) deps.onRevoke()
      const version = await store.accounts.update(id, patch)
      if (version === null) return false
      await took(id, patch, version)
      return true
    },
    async amend(id, make) {
      for (let round = 0; round < maxRounds; round++) {
        const row = await store.accounts.get(id)
        if (row === null) return fault({ code: 'not_found', what: 'The account' })
        const patch = await make(row)
        if (patch instanceof Fault) return patch
        const version = await store.accounts.update(id, patch, row.version)
        if (version === null) continue
        await took(id, patch, version)
        return null
      }
      return fault({ code: 'store_unavailable' })
    },
    reload,
    sweep,
    size: () => accounts.size,
    setAdmin(stored) {
      admin = Buffer.from(stored, 'hex')
    },
  }
}

/** The same object with what the store has of it now. */
function renewed(account: Account, row: AccountRow): Account {
  const { name, limits, models, tools, roles, labels, expiresAt, revokedAt, version } = row
  return Object.assign(account, { name, limits, models, tools, roles, labels, expiresAt, revokedAt, version })
}

/** Whether it, or an account above it, ended before a moment. */
function endedBefore(account: Account, at: number): boolean {
  for (let level: Account | null = account; level !== null; level = level.parent) {
    if (level.revokedAt !== null && level.revokedAt < at) return true
    if (level.expiresAt !== null && level.expiresAt < at) return true
  }
  return false
}

/** A key is as good as the weakest account above it. */
export function standing(account: Account, at: number): Caller | Fault {
  for (let level: Account | null = account; level !== null; level = level.parent) {
    if (level.revokedAt !== null) return fault({ code: 'invalid_key', reason: 'revoked' })
    if (level.expiresAt !== null && level.expiresAt <= at) return fault({ code: 'invalid_key', reason: 'expired' })
  }
  return { role: 'holder', account }
}

/** Instead of the name of an account whose people were erased. */
export const erasedName = 'erased'

/** Whether the people of an account were erased: what its last calls still bring along is not kept either. */
export function isErased(account: Account): boolean {
  return account.name === erasedName && standing(account, 0) instanceof Fault
}

/** The nearest session at or above an account: what calls are booked to. */
export function sessionOf(account: Account): Account | null {
  for (let level: Account | null = account; level !== null; level = level.parent)
    if (level.kind === 'session') return level
  return null
}
