/** How much one attempt may cost at most, and the output cap that makes this true. Pure. @module */
import {
  type Admitted,
  type Amounts,
  type Attempt,
  type Call,
  type LlmCall,
  type ModelTarget,
  nothing,
} from '../call.ts'
import { modelRow, priceFor } from '../config/resolve.ts'
import { type Fault, fault } from '../fault.ts'
import type { Gateway } from '../gateway.ts'
import { costOf } from '../price.ts'

/** Output tokens below which an answer is not worth starting; what is left is reported as too small instead. */
const leastOutput = 16
const oneToolCall: Amounts = Object.freeze({ usd: 0, tokens: 0, requests: 0, tool_calls: 1 })

/** @returns the attempt, or model_not_allowed where dollars are limited and nobody knows what the model costs */
export function sizeAttempt(
  gateway: Gateway,
  call: Call,
  admitted: Admitted,
  target: ModelTarget | null,
): Attempt | Fault {
  if (call.kind === 'tool-call') return { target: null, hold: oneToolCall, cap: null, slices: null }
  if (target === null || admitted.caller.role === 'admin')
    return { target: null, hold: nothing, cap: null, slices: null }
  return sizeModel(gateway, call as LlmCall, gateway.escrow.free(admitted.caller.account), target)
}

/**
 * Input is bounded by the body; output by the caller's cap, the model's own and what the budget leaves. Without a
 * token or dollar limit on the path nothing is capped and the hold only counts the request.
 */
function sizeModel(gateway: Gateway, call: LlmCall, free: Partial<Amounts>, target: ModelTarget): Attempt | Fault {
  if (free.tokens === undefined && free.usd === undefined) {
    return { target, hold: { usd: 0, tokens: 0, requests: 1, tool_calls: 0 }, cap: null, slices: null }
  }
  const { facts } = call
  const row = modelRow(gateway.config, target.provider, target.model)
  const price = priceFor(gateway.config, target.provider, target.model)
  if (price === null && free.usd !== undefined) {
    const rule = 'no-price: give the model a price in registry/models.yaml, since dollars are limited'
    return fault({ code: 'model_not_allowed', model: call.facts.model, rule })
  }
  const cost = (output: number) =>
    price === null
      ? 0
      : costOf(price, {
          input: facts.inputBound,
          output,
          cacheRead: 0,
          cacheWrite: 0,
          reasoning: 0,
          source: 'estimated',
        })
  if (call.kind === 'embedding') {
    return {
      target,
      hold: { usd: cost(0), tokens: facts.inputBound, requests: 1, tool_calls: 0 },
      cap: null,
      slices: null,
    }
  }
  const asked = facts.cap === null ? null : Math.max(facts.cap.value, facts.cap.also?.value ?? 0)
  const wanted = Math.min(asked ?? gateway.config.limits.defaultMaxOutput, row?.maxOutput ?? Number.POSITIVE_INFINITY)
  const fits = Math.min(
    free.tokens === undefined ? wanted : Math.floor((free.tokens - facts.inputBound) / facts.choices),
    free.usd === undefined || price === null ? wanted : outputFor(free.usd, cost, wanted, facts.choices),
  )
  // Too little left: hold what the least useful answer needs, so that the refusal says what is missing.
  const cap = Math.max(Math.min(wanted, fits), Math.min(wanted, leastOutput))
  const output = cap * facts.choices
  return {
    target,
    hold: { usd: cost(output), tokens: facts.inputBound + output, requests: 1, tool_calls: 0 },
    cap,
    slices: null,
  }
}

/** Most output tokens per answer that `usd` micro-dollars pay for; 0 when not even the input fits. */
function outputFor(usd: number, cost: (output: number) => number, wanted: number, choices: number): number {
  if (cost(wanted * choices) <= usd) return wanted
  let low = 0
  let high = wanted
  while (low < high) {
    const middle = Math.ceil((low + high) / 2)
    if (cost(middle * choices) <= usd) low = middle
    else high = middle - 1
  }
  return low
}
