/**
 * Processes of one gateway as the escrow knows them: each with a store handle of its own on one database, an escrow, its
 * accounts, and the beat that keeps them together. Real parts only; the clock is the test's.
 * @module
 */
import assert from 'node:assert/strict'
import type { Account, Amounts, LedgerBody, Limit, Unit } from '../../src/call.ts'
import { units } from '../../src/call.ts'
import { createEscrow, type Escrow, type EscrowHold } from '../../src/escrow/escrow.ts'
import { type Presence, startPresence } from '../../src/escrow/presence.ts'
import { Fault } from '../../src/fault.ts'
import { createDirectory, type Directory } from '../../src/identity/directory.ts'
import { openSqlite } from '../../src/stores/sqlite.ts'
import type { AccountRow, BalanceRow, LedgerEntry, Store } from '../../src/stores/store.ts'

/** How a test opens the database; the address says which one. */
export type OpenStore = (address: string, options: { readonly termMs?: number }) => Promise<Store>

/** The store behind an address: one line per database. */
export const stores: Readonly<Record<string, OpenStore>> = {
  sqlite: openSqlite,
}

export const none: Readonly<Amounts> = { usd: 0, tokens: 0, requests: 0, tool_calls: 0 }
export const tokens = (count: number): Amounts => ({ ...none, tokens: count })

export function stop(unit: Unit, max: number, more: Partial<Limit> = {}): Limit {
  return { unit, max, window: 'total', zone: 'UTC', action: 'stop', alertAt: [], ...more }
}

export function accountRow(id: string, parent: string | null, limits: readonly Limit[]): AccountRow {
  const free = { models: null, tools: null, roles: [], labels: {}, expiresAt: null, revokedAt: null, createdAt: 0 }
  return { id, parent, kind: parent === null ? 'organization' : 'session', name: id, limits, ...free, version: 1 }
}

export interface HouseOptions {
  /** Wall clock as the escrow is given it; the database's own unless said otherwise. */
  readonly now?: () => number
  /** What the database's clock says, for stories that move it. */
  readonly databaseNow?: () => number
  readonly termMs?: number
  /** How often it beats by itself, ms; a test that says nothing beats by hand. */
  readonly everyMs?: number
  readonly recallMs?: number
}

/** One process. */
export interface House {
  readonly store: Store
  readonly escrow: Escrow
  readonly directory: Directory
  readonly presence: Presence
  readonly warned: object[]
  /** The account in this process's memory. */
  account(id: string): Promise<Account>
  /** Takes a hold or says why not, and asserts nothing. */
  hold(id: string, amounts: Readonly<Amounts>): Promise<EscrowHold | Fault>
  close(): Promise<void>
}

export async function openHouse(store: Store, options: HouseOptions = {}): Promise<House> {
  const { now = Date.now, termMs = 15_000, everyMs = 1_000_000_000 } = options
  const mono = () => performance.now()
  const { leases, balances, writers, ledger } = store
  const recall = options.recallMs === undefined ? {} : { recallMs: options.recallMs }
  const escrow = createEscrow({
    now,
    mono,
    leases,
    balances,
    writers,
    reload: (id) => directory.reload(id),
    current: () => presence.current(),
    ...recall,
  })
  const directory = createDirectory({
    store,
    now,
    pepper: Buffer.alloc(32),
    onLoad: escrow.attach,
    onRevoke: () => {},
    onForget: async () => [],
    onChange: escrow.changed,
  })
  const warned: object[] = []
  const { databaseNow } = options
  const clocked: Escrow =
    databaseNow === undefined ? escrow : { ...escrow, beat: (_, processes) => escrow.beat(databaseNow(), processes) }
  const presence = startPresence({
    writers,
    ledger,
    escrow: clocked,
    mono,
    load: directory.load,
    onAccount: directory.reload,
    log: { warn: (fields) => warned.push(fields), info: () => undefined },
    termMs,
    everyMs: Math.min(everyMs, 2 ** 31 - 1),
  })
  await presence.beat()
  async function account(id: string): Promise<Account> {
    const found = await directory.load(id)
    assert.ok(found !== null, `account ${id}`)
    return found
  }
  return {
    store,
    escrow,
    directory,
    presence,
    warned,
    account,
    hold: async (id, amounts) => escrow.hold(await account(id), amounts),
    async close() {
      presence.stop()
      await store.close()
    },
  }
}

export function taken(hold: EscrowHold | Fault): EscrowHold {
  assert.ok(!(hold instanceof Fault), hold instanceof Fault ? JSON.stringify(hold.body) : '')
  return hold
}

/** Why there is no hold: code, account and unit. */
export function refusal(hold: EscrowHold | Fault): readonly [string, unknown, unknown] {
  assert.ok(hold instanceof Fault, 'the hold was taken')
  const { code, account, unit } = hold.body as { code: string; account?: unknown; unit?: unknown }
  return [code, account, unit]
}

/** The beginning of a line's body. */
export const head = '{"call":"c","attempt":1,"session":null,"kind":"chat"'

export function dispatch(hold: EscrowHold, id: string): void | Promise<void> {
  return hold.dispatch({ id, at: hold.booked, head })
}

/** The ledger's entry of a settled hold. */
export function entryOf(hold: EscrowHold, id: string, account: string, actual: Readonly<Amounts>): LedgerEntry {
  const body = `${head},"outcome":"answered"}`
  const line = { id, account, at: hold.booked, booked: hold.booked, ...actual, body, notes: null }
  return { line, ...hold.entry() }
}

/** Settles and books. */
export async function book(
  house: House,
  hold: EscrowHold,
  id: string,
  account: string,
  actual: Readonly<Amounts> = hold.amounts,
): Promise<void> {
  assert.equal(hold.settle(actual), true)
  await house.store.ledger.append([entryOf(hold, id, account, actual)])
}

/** All rows of the ledger. */
export async function allRows(store: Store) {
  const rows = await store.ledger.page({ limit: 1000 })
  const all = [...rows]
  let page = rows
  while (page.length === 1000) {
    page = await store.ledger.page({ limit: 1000, after: all.at(-1)?.id })
    all.push(...page)
  }
  return all
}

export const outcomeOf = (row: { readonly body: string }) => (JSON.parse(row.body) as LedgerBody).outcome

/** Sum over writers of one counter. */
export function sumOf(rows: readonly BalanceRow[], period: string, startsAt: number) {
  const used = { ...none }
  const leased = { ...none }
  for (const row of rows) {
    if (row.period !== period || row.startsAt !== startsAt) continue
    for (const unit of units) {
      used[unit] += row.used[unit]
      leased[unit] += row.leased[unit]
    }
  }
  return { used, leased }
}
