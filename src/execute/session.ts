/** What a holder does with sessions: mint narrower ones, look at them, top them up, end them, read their trace. @module */
import type { Account, Admitted, Answer, LedgerRow, SessionCall, Unit } from '../call.ts'
import { Fault, fault } from '../fault.ts'
import type { Gateway } from '../gateway.ts'
import { maxDepth } from '../identity/directory.ts'
import { depthOf, effective, expiry, isWithin, widening } from '../identity/narrow.ts'
import { asLimits, mintSchema, read, topUpSchema } from '../identity/requests.ts'
import { newId, newToken } from '../identity/token.ts'
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
  const limits = asLimits(asked.limits ?? {})
  const expiresAt = expiryFor(parent, asked.ttl, now)
  const refused = expiresAt instanceof Fault ? expiresAt : wider(gateway, parent, asked, limits)
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

function wider(
  gateway: Gateway,
  parent: Account,
  asked: { models?: string[] | undefined; tools?: string[] | undefined },
  limits: ReturnType<typeof asLimits>,
): Fault | null {
  for (const kind of ['models', 'tools'] as const) {
    const found = asked[kind] === undefined ? null : widening(parent, asked[kind], kind)
    if (found !== null)
      return fault({
        code: 'forbidden',
        why: `${kind}: "${found.pattern}" is more than account ${found.account} may use.`,
      })
  }
  const free = gateway.escrow.free(parent)
  for (const { unit, max } of limits) {
    const left = free[unit]
    if (left !== undefined && max > left) {
      return fault({
        code: 'forbidden',
        why: `limits.${unit}: ${amountOut(unit, max)} asked, ${amountOut(unit, left)} left above.`,
      })
    }
  }
  return null
}

/** Top-ups at work, so that of two at once neither is lost. */
const toppingUp = new WeakMap<Account, Promise<unknown>>()

function topUp(gateway: Gateway, call: SessionCall, caller: Account, subject: Account): Promise<Answer | Fault> {
  const work = () => topUpNow(gateway, call, caller, subject)
  const mine = (toppingUp.get(subject) ?? Promise.resolve()).then(work, work)
  toppingUp.set(subject, mine)
  return mine
}

async function topUpNow(
  gateway: Gateway,
  call: SessionCall,
  caller: Account,
  subject: Account,
): Promise<Answer | Fault> {
  if (subject === caller || subject.kind !== 'session') {
    return fault({ code: 'forbidden', why: 'A session is topped up by the key or session that minted it.' })
  }
  const asked = read(topUpSchema, call.body)
  if (asked instanceof Fault) return asked
  const add = asLimits(asked.add)
  const missing = add.find(({ unit }) => !subject.limits.some((limit) => limit.unit === unit))
  if (missing !== undefined) {
    return fault({
      code: 'invalid_request',
      where: `add.${missing.unit}`,
      why: 'the session has no such limit to add to',
    })
  }
  const refused = wider(gateway, subject.parent as Account, {}, add)
  if (refused !== null) return refused
  const more = new Map<Unit, number>(add.map(({ unit, max }) => [unit, max]))
  const limits = subject.limits.map((limit) => ({ ...limit, max: limit.max + (more.get(limit.unit) ?? 0) }))
  await gateway.directory.update(subject.id, { limits })
  return ok(await standingOf(gateway, subject))
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
