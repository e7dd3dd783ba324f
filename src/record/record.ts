/**
 * What is kept of a call: ledger rows committed before the caller hears the end, an audit row for what administrators
 * do, one log line, metrics. Called exactly once per call.
 * @module
 */
import type { Admitted, Attempt, Call, Ending, LedgerRow } from '../call.ts'
import { nothing, noUsage } from '../call.ts'
import type { EscrowHold } from '../escrow/escrow.ts'
import type { Gateway } from '../gateway.ts'
import { sessionOf } from '../identity/directory.ts'
import type { LedgerEntry } from '../stores/store.ts'

/** One attempt with its hold and what it came to. */
export interface Tried {
  readonly attempt: Attempt
  readonly hold: EscrowHold
  readonly ending: Ending
  readonly settlement: { readonly charged: Readonly<LedgerAmounts>; readonly priceVersion: string | null }
}
type LedgerAmounts = Pick<LedgerRow, 'usd' | 'tokens' | 'requests' | 'tool_calls'>

/** The whole call, when it is over. */
export interface Finished {
  readonly call: Call
  readonly admitted: Admitted | null
  readonly tried: readonly Tried[]
  readonly ending: Ending
}

/** @returns when the rows are durable; rejects when they are not */
export function record(gateway: Gateway, finished: Finished): Promise<void> {
  const { call, admitted, tried, ending } = finished
  const latencyMs = gateway.clock.mono() - call.startedAt
  const last = tried.at(-1)
  const target = last?.attempt.target ?? null
  const summary = {
    call,
    admitted,
    ending,
    attempts: tried.length,
    provider: target?.provider ?? null,
    model: target?.model ?? null,
    usd: tried.reduce((sum, { settlement }) => sum + settlement.charged.usd, 0),
    latencyMs,
  }
  gateway.log.call(summary)
  gateway.metrics.call(summary)
  if (call.kind === 'admin' || admitted === null) return audit(gateway, finished)
  return admitted.caller.role === 'admin' ? Promise.resolve() : gateway.ledger.append(entries(finished, latencyMs))
}

function entries({ call, admitted, tried, ending }: Finished, latencyMs: number): LedgerEntry[] {
  if (tried.length === 0) return [{ row: rowOf(call, admitted as Admitted, null, 0, ending, latencyMs), balances: [] }]
  return tried.map((one, index) => ({
    row: rowOf(call, admitted as Admitted, one, index + 1, one.ending, latencyMs),
    balances: one.hold.balances,
  }))
}

function rowOf(
  call: Call,
  admitted: Admitted,
  one: Tried | null,
  attempt: number,
  ending: Ending,
  latencyMs: number,
): LedgerRow {
  if (admitted.caller.role !== 'holder') throw new Error('ledger rows belong to holders')
  const { account } = admitted.caller
  const { usd, tokens, requests, tool_calls } = one?.settlement.charged ?? nothing
  const usage = one === null ? noUsage : ending.usage
  const target = one?.attempt.target ?? null
  return {
    id: attempt < 2 ? call.id : `${call.id}.${attempt}`,
    call: call.id,
    attempt,
    at: call.at,
    account: account.id,
    session: sessionOf(account)?.id ?? null,
    kind: call.kind,
    model: 'facts' in call ? call.facts.model : null,
    provider: target?.provider ?? null,
    upstreamModel: target?.model ?? null,
    tool: call.kind === 'tool-call' ? (admitted.tool?.outward ?? call.name.slice(0, 200)) : null,
    rule: admitted.rule,
    outcome: ending.outcome,
    code: ending.fault?.code ?? null,
    usd,
    tokens,
    requests,
    tool_calls,
    input: usage.input,
    output: usage.output,
    cacheRead: usage.cacheRead,
    cacheWrite: usage.cacheWrite,
    reasoning: usage.reasoning,
    usageSource: usage.source,
    priceVersion: one?.settlement.priceVersion ?? null,
    latencyMs: Math.round(latencyMs * 1000) / 1000,
    firstByteMs: ending.firstByteMs === null ? null : Math.round(ending.firstByteMs * 1000) / 1000,
    step: call.step,
    traceparent: call.traceparent,
    labels: call.labels === null ? null : JSON.stringify(call.labels),
  }
}

/** Refused strangers are audited a few times a second at most: a flood must not fill the disk. */
const strangersPerSecond = 10
let strangers = { second: 0, count: 0 }

function audit(gateway: Gateway, { call, admitted, ending }: Finished): Promise<void> {
  if (admitted === null) {
    const second = Math.floor(call.at / 1000)
    strangers = strangers.second === second ? { second, count: strangers.count + 1 } : { second, count: 1 }
    if (strangers.count > strangersPerSecond) return Promise.resolve()
  }
  const allowed = ending.outcome === 'answered'
  // A body that was refused was not read by a schema, so anything may stand in it.
  const body = call.kind === 'admin' && allowed ? call.body : undefined
  const cause = ending.fault?.body
  const detail = {
    ...(body === undefined || body === null ? {} : { body }),
    ...(cause === undefined ? {} : { code: cause.code }),
    ...(cause?.code === 'invalid_key' ? { reason: cause.reason } : {}),
  }
  return gateway.store.audit.append([
    {
      id: call.id,
      at: call.at,
      actor: actorOf(admitted),
      action: call.kind === 'admin' ? call.operation : call.kind,
      subject: call.kind === 'admin' ? call.subject : null,
      allowed,
      detail: JSON.stringify(detail).slice(0, 4000),
    },
  ])
}

function actorOf(admitted: Admitted | null): string {
  if (admitted === null) return 'anonymous'
  return admitted.caller.role === 'admin' ? 'admin' : admitted.caller.account.id
}
