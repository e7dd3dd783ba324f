/** What is known of a call by the time it answers, for the caller's headers. @module */
import type { Account, Admitted, Attempt, Ending, ReplyFacts } from '../call.ts'
import type { Gateway } from '../gateway.ts'
import { sessionOf } from '../identity/directory.ts'
import type { Tried } from './record.ts'

/** What has happened to a call so far. */
export interface SoFar {
  readonly admitted: Admitted | null
  readonly tried: readonly Tried[]
  readonly open: { readonly attempt: Attempt } | null
}

/** @param ending null while the call is at work */
export function factsOf(gateway: Gateway, { admitted, tried, open }: SoFar, ending: Ending | null): ReplyFacts {
  const account = admitted?.caller.role === 'holder' ? admitted.caller.account : null
  const target = (open ?? tried.at(-1))?.attempt.target ?? null
  return {
    session: account === null ? null : (sessionOf(account)?.id ?? null),
    provider: target?.provider ?? null,
    model: target?.model ?? null,
    attempts: tried.length + (open === null ? 0 : 1),
    cost: ending === null ? null : tried.reduce((sum, { settlement }) => sum + settlement.charged.usd, 0),
    remaining: ending === null || account === null ? null : gateway.escrow.free(account),
    budgetWarning: account === null ? null : warningOf(gateway, account),
    upstreamMs: tried.reduce<number | null>((sum, one) => (sum ?? 0) + (one.ending.upstreamMs ?? 0), null),
    upstreamHeaders: ending?.upstreamHeaders ?? [],
    rates: admitted?.rates?.standing ?? null,
  }
}

/** As far as this process knows. */
function warningOf(gateway: Gateway, account: Account): string | null {
  const tight = gateway.escrow.tightest(account)
  if (tight === null) return null
  const { limit, used, resetsAt } = tight
  const share = Math.floor((used / limit.max) * 100)
  const resets = resetsAt === null ? 'does not reset' : `resets at ${new Date(resetsAt).toISOString()}`
  return `${limit.unit} ${share}% of account ${tight.account} used; ${resets}`
}
