/**
 * The last question of the decision: do the rate limits have room. It is asked once policy has allowed the call, so
 * that what is refused counts for nobody.
 *
 * | how a call ends | counts as a request or tool call | counts as tokens |
 * |---|---|---|
 * | refused before this: 400, 401, 403, 404, no such tool, 503 | no | no |
 * | refused by a rate limit (429), whichever of several it was | no, in none of them | no |
 * | refused after this, before any upstream was asked: budget, no provider with a key | no, given back | no, given back |
 * | certainly never left: connection refused, name not resolved | no, given back | no, given back |
 * | answered, whole or as a stream, with a cached answer too | yes, once, however many targets were tried | what the ledger charges |
 * | failed at the upstream, timed out, cut, the caller hung up | yes | what the ledger charges |
 * | the gateway itself failed on the way | yes | what the ledger charges |
 * | lists, handshakes, sessions, the admin plane | no | no |
 *
 * A place at work (`concurrent`) is given back with the end of every call.
 * @module
 */
import type { Account, Admitted, LlmCall, Tool, ToolCall } from '../call.ts'
import type { Limits } from '../config/limits.ts'
import type { Resolved } from '../config/resolve.ts'
import type { Gateway } from '../gateway.ts'
import type { RateAsk } from '../rates/match.ts'
import { byteBound } from '../tokens.ts'

type Holder = { readonly account: Account }

export function modelWithinRates(
  gateway: Gateway,
  call: LlmCall,
  { account }: Holder,
  resolved: Resolved,
  admitted: Admitted,
): Admitted | Promise<Admitted> {
  const { limits } = gateway.config
  if (limits.rates === null) return admitted
  const { model } = call.facts
  // What a route leads to is counted target by target, when it is tried.
  const names = 'route' in resolved ? [model] : [model, resolved.canonical]
  const most = 'route' in resolved ? null : (resolved.row?.maxOutput ?? null)
  const tokens = mostTokens(call, limits, most)
  return within(gateway, { id: call.id, account, about: 'model', names, tokens }, admitted)
}

export function toolWithinRates(
  gateway: Gateway,
  call: ToolCall,
  { account }: Holder,
  admitted: Admitted,
): Admitted | Promise<Admitted> {
  if (gateway.config.limits.rates === null) return admitted
  const { outward } = admitted.tool as Tool
  return within(gateway, { id: call.id, account, about: 'tool', names: [outward], tokens: 0 }, admitted)
}

function within(gateway: Gateway, ask: RateAsk, admitted: Admitted): Admitted | Promise<Admitted> {
  const { rates } = gateway.config.limits
  if (rates === null) return admitted
  const granted = gateway.rates.admit(rates, ask)
  return granted instanceof Promise
    ? granted.then((grant) => ({ ...admitted, refusal: grant.refusal, rates: grant }))
    : { ...admitted, refusal: granted.refusal, rates: granted }
}

/** Input is bounded by the body, output by the caller's cap, the model's own or the default: as budgets are held. */
function mostTokens(call: LlmCall, limits: Limits, most: number | null): number {
  const { kind, facts } = call
  const input = byteBound(call, facts.model, null)
  if (kind === 'embedding') return input
  const asked = facts.cap === null ? limits.defaultMaxOutput : Math.max(facts.cap.value, facts.cap.also?.value ?? 0)
  return input + Math.min(asked, most ?? asked) * facts.choices
}
