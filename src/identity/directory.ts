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

export interface Directory {
  /** @returns who it is, or invalid_key with the reason; a promise only when the store has to be asked */
  identify(credential: Credential | null): Caller | Fault | Promise<Caller | Fault>
  /** The account with its ancestors, in memory and attached to the escrow; null when unknown. */
  load(id: string): Promise<Account | null>
  /** Writes a new account (and its key) and makes it known. */
  create(row: AccountRow, digest: string | null): Promise<Account>
  /** Changes an account in the store and in memory. @returns false when unknown */
  update(id: string, patch: AccountPatch): Promise<boolean>
  /** Another process may have changed the account: where it is in memory it is read again. */
  reload(id: string): Promise<void>
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
  /** An account was revoked or ends at another time: what is at work below it may have to stop. */
  readonly onRevoke: () => void
}

export function createDirectory(deps: DirectoryDeps): Directory {
  const { store, now, pepper } = deps
  const accounts = new Map<string, Account>()
  const adopting = new Map<string, Promise<Account>>()
  const byDigest = new Map<string, Account>()
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
    const work = bring({ ...row, parent }).finally(() => adopting.delete(row.id))
    adopting.set(row.id, work)
    return work
  }

  async function bring(account: Account): Promise<Account> {
    deps.onLoad(account, await store.balances.of(account.id))
    accounts.set(account.id, account)
    return account
  }

  async function changed(account: Account): Promise<void> {
    if (account.revokedAt !== null || account.expiresAt !== null) deps.onRevoke()
    await deps.onChange(account)
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
      const account = accounts.get(id)
      if (version === null || account === undefined) return version !== null
      Object.assign(account, patch, { version })
      await changed(account)
      return true
    },
    async reload(id) {
      const account = accounts.get(id)
      const row = account === undefined ? null : await store.accounts.get(id)
      if (account === undefined || row === null || row.version <= account.version) return
      const { name, limits, models, tools, roles, labels, expiresAt, revokedAt, version } = row
      Object.assign(account, { name, limits, models, tools, roles, labels, expiresAt, revokedAt, version })
      await changed(account)
    },
    setAdmin(stored) {
      admin = Buffer.from(stored, 'hex')
    },
  }
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
