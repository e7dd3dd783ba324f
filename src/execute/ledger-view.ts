/** Ledger rows as people see them: dollars as decimal text, times as ISO 8601. @module */
import { type LedgerBody, type LedgerNotes, type LedgerRow, noUsage } from '../call.ts'
import { amountOut, when } from './account-view.ts'

/** A row in the trace of a session. */
export function traceLine(row: LedgerRow): Record<string, unknown> {
  const { call, attempt, kind, model, provider, tool, rule, outcome, code, traceparent, ms, firstByteMs, ...body } =
    bodyOf(row)
  const { input, output, cacheRead, reasoning, source } = body.usage ?? noUsage
  const { step, labels } = notesOf(row)
  return {
    id: row.id,
    call,
    attempt,
    at: when(row.at),
    account: row.account,
    kind,
    model,
    provider,
    tool,
    rule,
    outcome,
    code,
    cost_usd: amountOut('usd', row.usd),
    tokens: { input, output, cached: cacheRead, reasoning, source },
    tool_calls: row.tool_calls,
    latency_ms: ms,
    first_byte_ms: firstByteMs,
    step,
    traceparent,
    labels,
  }
}

/** A row of the admin API and of exports: everything there is, flat, with its place in the chain. */
export function ledgerView(row: LedgerRow): Record<string, unknown> {
  const { usage, overrun, firstByteMs, ms, price, upstream, ...body } = bodyOf(row)
  const counted = usage ?? noUsage
  return {
    id: row.id,
    ...body,
    account: row.account,
    at: when(row.at),
    booked: when(row.booked),
    upstream_model: upstream,
    usd: amountOut('usd', row.usd),
    tokens: row.tokens,
    requests: row.requests,
    tool_calls: row.tool_calls,
    input: counted.input,
    output: counted.output,
    cache_read: counted.cacheRead,
    cache_write: counted.cacheWrite,
    reasoning: counted.reasoning,
    usage_source: counted.source,
    price_version: price,
    overrun: overrun !== null,
    latency_ms: ms,
    first_byte_ms: firstByteMs,
    ...notesOf(row),
    writer: row.writer,
    seq: row.seq,
    hash: row.hash,
  }
}

/** Written by record, so its shape is known. */
export function bodyOf(row: LedgerRow): LedgerBody {
  return JSON.parse(row.body) as LedgerBody
}

function notesOf(row: LedgerRow): LedgerNotes {
  return row.notes === null ? { step: null, labels: null } : (JSON.parse(row.notes) as LedgerNotes)
}
