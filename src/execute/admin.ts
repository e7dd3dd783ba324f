/** The admin plane: accounts, keys, sessions, servers, and what was used. One function per operation. @module */
import type { AdminCall, AdminOperation, Admitted, Answer } from '../call.ts'
import { Fault, fault } from '../fault.ts'
import type { Gateway } from '../gateway.ts'
import { erasedName, maxDepth } from '../identity/directory.ts'
import { depthOf } from '../identity/narrow.ts'
import { accountSchema, changeSchema, keySchema, read } from '../identity/requests.ts'
import { newId, newToken } from '../identity/token.ts'
import type { AccountRow } from '../stores/store.ts'
import { accountView, standingOf } from './account-view.ts'
import { exported } from './export.ts'
import { filterOf } from './ledger-query.ts'
import { ledgerView } from './ledger-view.ts'
import { usage } from './usage.ts'

type Operation = (gateway: Gateway, call: AdminCall) => Promise<Answer | Fault>
type Kinds = 'account' | 'key' | 'session'

const operations: Readonly<Record<AdminOperation, Operation>> = {
  'accounts.create': createAccount,
  'accounts.list': (gateway, call) => list(gateway, call, 'account'),
  'accounts.read': (gateway, call) => readOne(gateway, call, 'account'),
  'accounts.update': (gateway, call) => change(gateway, call, 'account'),
  'accounts.revoke': (gateway, call) => revoke(gateway, call, 'account'),
  'keys.create': createKey,
  'keys.list': (gateway, call) => list(gateway, call, 'key'),
  'keys.read': (gateway, call) => readOne(gateway, call, 'key'),
  'keys.update': (gateway, call) => change(gateway, call, 'key'),
  'keys.revoke': (gateway, call) => revoke(gateway, call, 'key'),
  'sessions.list': (gateway, call) => list(gateway, call, 'session'),
  'sessions.read': (gateway, call) => readOne(gateway, call, 'session'),
  'sessions.revoke': (gateway, call) => revoke(gateway, call, 'session'),
  'servers.list': async (gateway) =>
    ok({ data: [...gateway.catalogue.targets().keys()].map((id) => serverView(gateway, id)) }),
  'servers.read': readServer,
  usage,
  ledger,
  audit: async (gateway, call) => {
    const page = pageOf(call)
    return page instanceof Fault ? page : ok({ data: await gateway.store.audit.page(page) })
  },
  reload,
}

export function admin(gateway: Gateway, call: AdminCall, _admitted: Admitted): Promise<Answer | Fault> {
  return operations[call.operation](gateway, call)
}

async function createAccount(gateway: Gateway, call: AdminCall): Promise<Answer | Fault> {
  const asked = read(accountSchema, call.body)
  if (asked instanceof Fault) return asked
  const refused = await placeUnder(gateway, asked.parent)
  if (refused !== null) return refused
  const kind = asked.kind as AccountRow['kind']
  const limits = asked.limits ?? defaultsOf(gateway, kind)
  const account = await gateway.directory.create(
    { ...blank(gateway, 'a_'), ...asked, kind, limits, roles: [], expiresAt: null },
    null,
  )
  return ok(accountView(account), 201)
}

async function createKey(gateway: Gateway, call: AdminCall): Promise<Answer | Fault> {
  const asked = read(keySchema, call.body)
  if (asked instanceof Fault) return asked
  const refused = await placeUnder(gateway, asked.account)
  if (refused !== null) return refused
  const { account, expires_at, ...rest } = asked
  const limits = asked.limits ?? defaultsOf(gateway, 'key')
  const row: AccountRow = {
    ...blank(gateway, 'k_'),
    ...rest,
    limits,
    kind: 'key',
    parent: account,
    expiresAt: expires_at,
  }
  const { token, digest } = newToken(row.id, gateway.random)
  const created = await gateway.directory.create(row, digest)
  return ok({ ...accountView(created), key: token }, 201)
}

/** What an account of a kind gets when nothing is said of limits. */
function defaultsOf({ config }: Gateway, kind: AccountRow['kind']): AccountRow['limits'] {
  return config.limits.defaults[kind] ?? []
}

function blank(gateway: Gateway, prefix: string) {
  return { id: newId(prefix, gateway.random), revokedAt: null, createdAt: gateway.clock.now(), version: 1 }
}

async function placeUnder(gateway: Gateway, parent: string | null): Promise<Fault | null> {
  if (parent === null) return null
  const found = await gateway.directory.load(parent)
  if (found === null || found.kind === 'session' || found.kind === 'key') {
    return fault({ code: 'invalid_request', where: 'account', why: 'no such account to put it under' })
  }
  if (depthOf(found) < maxDepth) return null
  return fault({ code: 'invalid_request', where: 'account', why: `accounts nest at most ${maxDepth} deep` })
}

async function list(gateway: Gateway, call: AdminCall, kind: Kinds): Promise<Answer | Fault> {
  const page = pageOf(call)
  if (page instanceof Fault) return page
  const rows = await gateway.store.accounts.list(
    { kind: kind === 'account' ? undefined : kind, parent: call.query.parent },
    page,
  )
  const data = rows.filter((row) => isKind(row, kind)).map(accountView)
  return ok({ data, next: rows.length === page.limit ? (rows.at(-1)?.id ?? null) : null })
}

async function readOne(gateway: Gateway, call: AdminCall, kind: Kinds): Promise<Answer | Fault> {
  const account = await gateway.directory.load(call.subject ?? '')
  if (account === null || !isKind(account, kind)) return missing(kind)
  return ok({ ...accountView(account), standing: await standingOf(gateway, account) })
}

async function change(gateway: Gateway, call: AdminCall, kind: Kinds): Promise<Answer | Fault> {
  const asked = read(changeSchema, call.body)
  if (asked instanceof Fault) return asked
  const account = await gateway.directory.load(call.subject ?? '')
  if (account === null || !isKind(account, kind)) return missing(kind)
  if (asked.roles !== undefined && kind !== 'key')
    return fault({ code: 'invalid_request', where: 'roles', why: 'only keys have roles' })
  const { expires_at, ...rest } = asked
  const patch = { ...rest, ...(expires_at === undefined ? {} : { expiresAt: expires_at }) }
  const given = Object.fromEntries(Object.entries(patch).filter(([, value]) => value !== undefined))
  await gateway.directory.update(account.id, given)
  return ok(accountView(account))
}

async function revoke(gateway: Gateway, call: AdminCall, kind: Kinds): Promise<Answer | Fault> {
  const account = await gateway.directory.load(call.subject ?? '')
  if (account === null || !isKind(account, kind)) return missing(kind)
  const { erase = 'false' } = call.query
  if (erase !== 'true' && erase !== 'false')
    return fault({ code: 'invalid_request', where: 'erase', why: 'must be true or false' })
  if (account.revokedAt === null) await gateway.directory.update(account.id, { revokedAt: gateway.clock.now() })
  if (erase === 'false') return ok(accountView(account))
  const erased = await erasePeople(gateway, account.id)
  return ok({ ...accountView(account), erased })
}

/** Takes away what identifies people: names and labels from here down, and what they wrote beside their calls. */
async function erasePeople(gateway: Gateway, id: string): Promise<{ accounts: number; rows: number }> {
  const rows = await gateway.store.accounts.subtree(id)
  for (const row of rows) await gateway.directory.update(row.id, { name: erasedName, labels: {} })
  return { accounts: rows.length, rows: await gateway.store.retention.eraseNotes(rows.map((row) => row.id)) }
}

function isKind(row: { readonly kind: AccountRow['kind'] }, kind: Kinds): boolean {
  return kind === 'account' ? row.kind !== 'key' && row.kind !== 'session' : row.kind === kind
}

function missing(kind: Kinds): Fault {
  return fault({ code: 'not_found', what: `The ${kind}` })
}

async function readServer(gateway: Gateway, call: AdminCall): Promise<Answer | Fault> {
  const target = gateway.catalogue.targets().get(call.subject ?? '')
  if (target === undefined) return fault({ code: 'not_found', what: 'The server' })
  return ok({ ...serverView(gateway, target.id), definitions: target.tools().map((tool) => tool.definition) })
}

function serverView(gateway: Gateway, id: string): Record<string, unknown> {
  const target = gateway.catalogue.targets().get(id)
  const state = target?.state()
  return {
    id,
    kind: target?.kind,
    status: state?.status,
    era: state?.era,
    last_failure: state?.lastFailure,
    tools: target?.tools().map((tool) => tool.name) ?? [],
  }
}

async function ledger(gateway: Gateway, call: AdminCall): Promise<Answer | Fault> {
  const filter = filterOf(call.query)
  if (filter instanceof Fault) return filter
  if (call.query.format !== undefined) return exported(gateway, call.query.format, filter)
  const page = pageOf(call)
  if (page instanceof Fault) return page
  const rows = await gateway.store.ledger.page(page, filter)
  return ok({ data: rows.map(ledgerView), next: rows.length === page.limit ? (rows.at(-1)?.id ?? null) : null })
}

async function reload(gateway: Gateway): Promise<Answer | Fault> {
  const faults = await gateway.reload()
  if (faults.length === 0) return ok({ reloaded: true, epoch: gateway.config.epoch, hash: gateway.config.hash })
  return { kind: 'value', status: 400, value: { reloaded: false, epoch: gateway.config.epoch, faults } }
}

function pageOf(call: AdminCall): { after: string | undefined; limit: number } | Fault {
  const limit = call.query.limit === undefined ? 100 : Number(call.query.limit)
  if (!Number.isInteger(limit) || limit < 1 || limit > 1000) {
    return fault({ code: 'invalid_request', where: 'limit', why: 'must be an integer from 1 to 1000' })
  }
  return { after: call.query.after, limit }
}

function ok(value: unknown, status = 200): Answer {
  return { kind: 'value', status, value }
}
