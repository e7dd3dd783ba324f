/**
 * What is kept of a call: ledger rows committed before the caller hears the end, an audit row for what administrators
 * do, one log line, metrics. Called exactly once per call.
 * @module
 */
import type { Admitted, Amounts, Attempt, Call, Ending, LedgerLine, ModelTarget, Usage } from '../call.ts'
import { nothing, units } from '../call.ts'
import type { EscrowHold } from '../escrow/hold.ts'
import type { Gateway } from '../gateway.ts'
import { isErased, sessionOf } from '../identity/directory.ts'
import type { PriceRow } from '../price.ts'
import type { LedgerEntry } from '../stores/store.ts'
import { keepPrice } from './prices.ts'

/** One attempt with its hold and what it came to. */
export interface Tried {
  readonly attempt: Attempt
  readonly hold: EscrowHold
  readonly ending: Ending
  readonly settlement: {
    readonly charged: Readonly<Amounts>
    readonly price: PriceRow | null
    readonly priceVersion: string | null
  }
}

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
  for (const { settlement } of tried) if (settlement.price !== null) keepPrice(gateway.store, settlement.price)
  gateway.metrics.call(summary)
  const booked =
    call.kind === 'admin' || admitted === null || admitted.caller.role === 'admin' ? null : entries(finished, latencyMs)
  gateway.log.call(summary, booked?.at(-1)?.line ?? null)
  if (booked !== null) return gateway.ledger.append(booked)
  return call.kind === 'admin' || admitted === null ? audit(gateway, finished) : Promise.resolve()
}

function entries({ call, admitted, tried, ending }: Finished, latencyMs: number): LedgerEntry[] {
  const known = admitted as Admitted
  if (tried.length === 0) {
    const head = lineHead(call, known, null, 0)
    const line = lineOf(call, known, 0, call.at, nothing, head + lineTail(ending, null, latencyMs))
    return [{ line, postings: [], short: null, posted: null }]
  }
  return tried.map((one, index) => {
    const { attempt, hold, settlement, ending: end } = one
    const number = index + 1
    const head = hold.head ?? lineHead(call, known, attempt.target, number)
    const line = lineOf(call, known, number, hold.booked, settlement.charged, head + lineTail(end, one, latencyMs))
    return { line, ...hold.entry() }
  })
}

function lineOf(
  call: Call,
  { caller }: Admitted,
  attempt: number,
  booked: number,
  { usd, tokens, requests, tool_calls }: Readonly<Amounts>,
  body: string,
): LedgerLine {
  if (caller.role !== 'holder') throw new Error('ledger lines belong to holders')
  const none = (call.step === null && call.labels === null) || isErased(caller.account)
  const notes = none ? null : JSON.stringify({ step: call.step, labels: call.labels })
  const id = lineId(call, attempt)
  return { id, account: caller.account.id, at: call.at, booked, usd, tokens, requests, tool_calls, body, notes }
}

/** Id of an attempt's line: the call's own for the first. */
export function lineId(call: Call, attempt: number): string {
  return attempt < 2 ? call.id : `${call.id}.${attempt}`
}

/**
 * The beginning of a line's body (LedgerBody): what is known of an attempt before its end. Written by hand, because it
 * is made for every call; names from outside are escaped, the rest is made here.
 */
export function lineHead(call: Call, admitted: Admitted, target: ModelTarget | null, attempt: number): string {
  const { caller } = admitted
  const session = caller.role === 'holder' ? (sessionOf(caller.account)?.id ?? null) : null
  let head = `{"call":"${call.id}","attempt":${attempt},"session":${session === null ? 'null' : `"${session}"`},"kind":"${call.kind}"`
  head += `,"model":${'facts' in call ? JSON.stringify(call.facts.model) : 'null'}`
  head +=
    target === null
      ? ',"provider":null,"upstream":null'
      : `,"provider":"${target.provider}","upstream":${JSON.stringify(target.model)}`
  head += `,"tool":${call.kind === 'tool-call' ? JSON.stringify(admitted.tool?.outward ?? call.name.slice(0, 200)) : 'null'}`
  return `${head},"rule":${admitted.rule === null ? 'null' : JSON.stringify(admitted.rule)},"traceparent":"${call.traceparent}"`
}

function lineTail(ending: Ending, one: Tried | null, latencyMs: number): string {
  const { usage, fault, firstByteMs } = ending
  const code = fault === null ? 'null' : `"${fault.code}"`
  const counted = one === null || usage.source === 'none' ? 'null' : usageText(usage)
  const price = one?.settlement.priceVersion ?? null
  const first = firstByteMs === null ? 'null' : firstByteMs.toFixed(3)
  return `,"outcome":"${ending.outcome}","code":${code},"usage":${counted},"price":${JSON.stringify(price)},"overrun":${overrunOf(one)},"ms":${latencyMs.toFixed(3)},"firstByteMs":${first}}`
}

/** JSON of a usage, by hand: its fields are numbers and a name from a table. */
function usageText(usage: Usage): string {
  const { input, output, cacheRead, cacheWrite, cacheWriteLong, reasoning, audioInput, audioOutput, source } = usage
  return `{"input":${input},"output":${output},"cacheRead":${cacheRead},"cacheWrite":${cacheWrite},"cacheWriteLong":${cacheWriteLong},"reasoning":${reasoning},"audioInput":${audioInput},"audioOutput":${audioOutput},"source":"${source}"}`
}

/** What was held, where more was used. */
function overrunOf(one: Tried | null): string {
  if (one === null) return 'null'
  const { hold, settlement } = one
  const over = units.some((unit) => settlement.charged[unit] > hold.amounts[unit])
  return over ? JSON.stringify(hold.amounts) : 'null'
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
      subject: call.kind === 'admin' ? (call.subject ?? madeBy(ending)) : null,
      allowed,
      detail: JSON.stringify(detail).slice(0, 4000),
    },
  ])
}

/** Id of what an administrator's call has made. */
function madeBy({ answer }: Ending): string | null {
  if (answer?.kind !== 'value' || answer.status !== 201) return null
  const { id } = answer.value as { readonly id?: unknown }
  return typeof id === 'string' ? id : null
}

function actorOf(admitted: Admitted | null): string {
  if (admitted === null) return 'anonymous'
  return admitted.caller.role === 'admin' ? 'admin' : admitted.caller.account.id
}
