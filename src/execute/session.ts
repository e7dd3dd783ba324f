/** What a holder does with sessions: mint narrower ones, look at them, top them up, end them, read their trace. @module */
import type { Account, Admitted, Amounts, Answer, LedgerRow, Limit, SessionCall, Unit } from '../call.ts'
import { Fault, fault } from '../fault.ts'
import type { Gateway } from '../gateway.ts'
import { maxDepth } from '../identity/directory.ts'
import { depthOf, effective, expiry, isWithin, widening } from '../identity/narrow.ts'
import { asLimits, mintSchema, read, topUpSchema } from '../identity/requests.ts'
import { newId, newToken } from '../identity/token.ts'
import type { AccountRow } from '../stores/store.ts'
import { amountOut, amountsOut, limitsOut, standingOf, when } from './account-view.ts'
import { traceLine } from './ledger-view.ts'

/** A session without a ttl lives an hour. */
const defaultTtlSeconds = 3600
const tracePage = 1000

export async function session(gateway: Gateway, call: SessionCall, admitted: Admitted): Promise<Answer | Fault> {
  if (admitted.caller.role !== 'holder') return fault({ code: 'forbidden', why: 'Sessions belong to keys.' })
  const { account } = admitted.caller
  if (call.operation === 'mint') return mint(gateway, call, account)
  const subject =
    call.session === null || call.session === 'current' ? account : await gateway.directory.load(call.session)
  // A foreign session looks like none.
  if (subject === null || !isWithin(subject, account)) return fault({ code: 'not_found', what: 'The session' })
  switch (call.operation) {
    case 'read':
      return ok(await standingOf(gateway, subject))
    case 'top-up':
      return topUp(gateway, call, account, subject)
    case 'revoke':
      return revoke(gateway, subject)
    case 'trace':
      return trace(gateway, subject)
  }
}

async function mint(gateway: Gateway, call: SessionCall, parent: Account): Promise<Answer | Fault> {
  const asked = read(mintSchema, call.body)
  if (asked instanceof Fault) return asked
  const now = gateway.clock.now()
  const rest = await restOf(gateway, parent)
  const limits = asked.limits === undefined ? defaults(gateway, rest) : asLimits(asked.limits)
  const expiresAt = expiryFor(parent, asked.ttl, now)
  const refused =
    expiresAt instanceof Fault ? expiresAt : (wider(parent, asked) ?? (asked.limits && dearer(limits, rest)) ?? null)
  if (refused instanceof Fault) return refused
  if (depthOf(parent) >= maxDepth) return fault({ code: 'forbidden', why: `Accounts nest at most ${maxDepth} deep.` })
  const id = newId('s_', gateway.random)
  const { token, digest } = newToken(id, gateway.random)
  const created = await gateway.directory.create(
    {
      id,
      parent: parent.id,
      kind: 'session',
      name: 'session',
      limits,
      models: asked.models ?? null,
      tools: asked.tools ?? null,
      roles: [],
      labels: asked.labels ?? {},
      expiresAt: expiresAt as number,
      revokedAt: null,
      createdAt: now,
      version: 1,
    },
    digest,
  )
  return {
    kind: 'value',
    status: 201,
    value: {
      id,
      key: token,
      expires_at: when(created.expiresAt),
      limits: limitsOut(limits),
      models: effective(created, 'models'),
      tools: effective(created, 'tools'),
    },
  }
}

/** A ttl past the parent's own end is refused; without one, the session ends with its parent or after an hour. */
function expiryFor(parent: Account, ttl: number | undefined, now: number): number | Fault {
  const end = expiry(parent)
  const wanted = now + (ttl ?? defaultTtlSeconds) * 1000
  if (end === null || wanted <= end) return wanted
  if (ttl === undefined) return end
  return fault({ code: 'forbidden', why: `ttl: the parent expires at ${when(end)}; a session cannot outlive it.` })
}

function wider(parent: Account, asked: { models?: string[] | undefined; tools?: string[] | undefined }): Fault | null {
  for (const kind of ['models', 'tools'] as const) {
    const found = asked[kind] === undefined ? null : widening(parent, asked[kind], kind)
    if (found !== null)
      return fault({
        code: 'forbidden',
        why: `${kind}: "${found.pattern}" is more than account ${found.account} may use.`,
      })
  }
  return null
}

type Rest = Partial<Amounts>

/** What is left above, by unit, over all processes; a unit without a limit that stops is absent. */
async function restOf(gateway: Gateway, parent: Account): Promise<Rest> {
  const rest: Rest = {}
  for (let level: Account | null = parent; level !== null; level = level.parent) {
    if (level.limits.length === 0) continue
    for (const { limit, remaining } of await gateway.escrow.states(level)) {
      if (limit.action === 'stop') rest[limit.unit] = Math.min(rest[limit.unit] ?? remaining, remaining)
    }
  }
  return rest
}

/** What a session gets that says nothing of limits: by the configuration, and no more than there is. */
function defaults({ config }: Gateway, rest: Rest): readonly Limit[] {
  const given = config.limits.defaults.session ?? []
  return given.map((limit) =>
    limit.window === 'total' ? { ...limit, max: Math.min(limit.max, rest[limit.unit] ?? limit.max) } : limit,
  )
}

function dearer(wanted: readonly { readonly unit: Unit; readonly max: number }[], rest: Rest): Fault | null {
  for (const { unit, max } of wanted) {
    const left = rest[unit]
    if (left === undefined || max <= left) continue
    const why = `limits.${unit}: ${amountOut(unit, max)} asked, ${amountOut(unit, left)} left above.`
    return fault({ code: 'forbidden', why })
  }
  return null
}

async function topUp(gateway: Gateway, call: SessionCall, caller: Account, subject: Account): Promise<Answer | Fault> {
  if (subject === caller || subject.kind !== 'session') {
    return fault({ code: 'forbidden', why: 'A session is topped up by the key or session that minted it.' })
  }
  const asked = read(topUpSchema, call.body)
  if (asked instanceof Fault) return asked
  const add = asLimits(asked.add)
  const refused = await gateway.directory.amend(subject.id, (row) => toppedUp(gateway, subject, row, add))
  return refused ?? ok(await standingOf(gateway, subject))
}

/** The limits after a top-up; what the session may use then is never more than what is left above it. */
async function toppedUp(
  gateway: Gateway,
  subject: Account,
  { limits }: AccountRow,
  add: readonly Limit[],
): Promise<{ limits: readonly Limit[] } | Fault> {
  const used = await gateway.escrow.states(subject)
  const rest = await restOf(gateway, subject.parent as Account)
  let topped = limits
  for (const { unit, max: more } of add) {
    const own = limits.filter((limit) => limit.unit === unit)
    if (own.length === 0)
      return fault({ code: 'invalid_request', where: `add.${unit}`, why: 'the session has no such limit to add to' })
    // Where a unit is limited over several windows, more in all does not mean more in an hour.
    const totals = own.filter(({ window }) => window === 'total')
    const raised = totals.length > 0 ? totals : own
    const wanted = raised.map((limit) => {
      const state = used.find((one) => one.limit.unit === unit && one.limit.window === 'total')
      const open = limit.window !== 'total' || state === undefined ? 0 : limit.max - state.used - state.held
      return { unit, max: Math.max(0, open) + more }
    })
    const refused = dearer(wanted, rest)
    if (refused !== null) return refused
    topped = topped.map((limit) => (raised.includes(limit) ? { ...limit, max: limit.max + more } : limit))
  }
  if (topped.some(({ max }) => max > Number.MAX_SAFE_INTEGER))
    return fault({ code: 'invalid_request', where: 'add', why: 'the limit would be larger than can be counted' })
  return { limits: topped }
}

async function revoke(gateway: Gateway, subject: Account): Promise<Answer | Fault> {
  if (subject.kind !== 'session') return fault({ code: 'forbidden', why: 'Keys are revoked through the admin API.' })
  await gateway.directory.update(subject.id, { revokedAt: gateway.clock.now() })
  return ok({ id: subject.id, revoked: true })
}

async function trace(gateway: Gateway, subject: Account): Promise<Answer> {
  const ids = (await gateway.store.accounts.subtree(subject.id)).map((row) => row.id)
  const rows: LedgerRow[] = []
  for (let after: string | undefined; ; after = rows.at(-1)?.id) {
    const page = await gateway.store.ledger.ofAccounts(ids, { after, limit: tracePage })
    rows.push(...page)
    if (page.length < tracePage) break
  }
  return ok({ id: subject.id, used: amountsOut(await gateway.escrow.used(subject)), calls: rows.map(traceLine) })
}

function ok(value: unknown): Answer {
  return { kind: 'value', status: 200, value }
}
