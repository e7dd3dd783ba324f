/** From what an attempt used to what it costs; the hold is replaced by it, once. @module */
import { type Amounts, type Attempt, type Call, type Ending, type Hold, nothing, type ToolCall } from '../call.ts'
import { priceFor } from '../config/resolve.ts'
import type { Gateway } from '../gateway.ts'
import { costOf, type PriceRow } from '../price.ts'
import { readReportedCost } from './reported.ts'

/** The charge of one attempt, as booked. */
export interface Settlement {
  readonly charged: Readonly<Amounts>
  /** The rates the cost was computed with, so that it can be computed again; null where nothing was priced. */
  readonly price: PriceRow | null
  /** Version of `price`, for the ledger. */
  readonly priceVersion: string | null
}

/**
 * What the attempt really used is charged, even above the hold: the provider bills it too, and the next call is refused.
 *
 * @returns the settlement; the hold is resolved when it was still open
 */
export function settle(gateway: Gateway, call: Call, attempt: Attempt, hold: Hold, ending: Ending): Settlement {
  const settlement = chargeOf(gateway, call, attempt, ending)
  if (hold.settle(settlement.charged)) warnOfOverrun(gateway, call, attempt, hold, settlement.charged)
  return settlement
}

/** Only where output was held at all: without a limit a hold counts the request and nothing else. */
function warnOfOverrun(gateway: Gateway, call: Call, { target }: Attempt, hold: Hold, used: Readonly<Amounts>): void {
  const held = hold.amounts
  if (held.tokens === 0 || (used.tokens <= held.tokens && used.usd <= held.usd)) return
  const { provider = null, model = null } = target ?? {}
  gateway.alerts.overrun({ call: call.id, provider, model, held, used })
  gateway.log.warn(
    { event: 'overrun', call: call.id, held, used },
    'a provider reports more than was held for the call',
  )
}

function chargeOf(gateway: Gateway, call: Call, attempt: Attempt, ending: Ending): Settlement {
  if (call.kind === 'tool-call') {
    const charged = ending.dispatched
      ? { ...nothing, tool_calls: 1, usd: toolCost(gateway, call, attempt, ending) }
      : nothing
    return { charged, price: null, priceVersion: null }
  }
  if (attempt.target === null || ending.usage.source === 'none')
    return { charged: nothing, price: null, priceVersion: null }
  const { provider, model } = attempt.target
  const price = priceFor(gateway.config, provider, model)
  const { usage } = ending
  const charged = {
    usd: price === null ? 0 : costOf(price, usage),
    tokens: usage.input + usage.output,
    requests: 1,
    tool_calls: 0,
  }
  return { charged, price, priceVersion: price?.version ?? null }
}

/** The server's word where it is taken and can be read, within its bound; else the price of the row. Micro-dollars. */
function toolCost(gateway: Gateway, call: ToolCall, { toolPrice }: Attempt, { answer }: Ending): number {
  if (toolPrice === null) return 0
  const { call: each, reported: most } = toolPrice
  if (most === null || answer?.kind !== 'value') return each
  const said = readReportedCost(answer.value)
  if (said === undefined) return each
  if (said !== null) return Math.min(Math.max(0, said), most)
  gateway.log.warn(
    { call: call.id, tool: call.name.slice(0, 200) },
    'the tool server reported a cost that is no amount; its price was charged',
  )
  return each
}
