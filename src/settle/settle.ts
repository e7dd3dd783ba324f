/** From what an attempt used to what it costs; the hold is replaced by it, once. @module */
import { type Amounts, type Attempt, type Call, type Ending, type Hold, nothing } from '../call.ts'
import { priceFor } from '../config/resolve.ts'
import type { Gateway } from '../gateway.ts'
import { costOf } from '../price.ts'

/** The charge of one attempt, as booked. */
export interface Settlement {
  readonly charged: Readonly<Amounts>
  /** Which price list the cost was computed with, so that it can be computed again; null where nothing was priced. */
  readonly priceVersion: string | null
}

/**
 * What the attempt really used is charged, even above the hold: the provider bills it too, and the next call is refused.
 *
 * @returns the settlement; the hold is resolved when it was still open
 */
export function settle(gateway: Gateway, call: Call, attempt: Attempt, hold: Hold, ending: Ending): Settlement {
  const settlement = chargeOf(gateway, call, attempt, ending)
  hold.settle(settlement.charged)
  return settlement
}

function chargeOf(gateway: Gateway, call: Call, attempt: Attempt, ending: Ending): Settlement {
  if (call.kind === 'tool-call') {
    return { charged: { ...nothing, tool_calls: ending.dispatched ? 1 : 0 }, priceVersion: null }
  }
  if (attempt.target === null || ending.usage.source === 'none') return { charged: nothing, priceVersion: null }
  const { provider, model } = attempt.target
  const price = priceFor(gateway.config, provider, model)
  const { usage } = ending
  const charged = {
    usd: price === null ? 0 : costOf(price, usage),
    tokens: usage.input + usage.output,
    requests: 1,
    tool_calls: 0,
  }
  return { charged, priceVersion: price?.version ?? null }
}
