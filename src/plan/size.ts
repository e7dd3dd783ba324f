/** How much one attempt may cost at most, and the output cap that makes this true. @module */
import type { Account } from '../account.ts'
import {
  type Admitted,
  type Amounts,
  type Attempt,
  type Call,
  type LlmCall,
  type ModelTarget,
  nothing,
  type Slices,
} from '../call.ts'
import { modelRow, priceFor } from '../config/resolve.ts'
import { toolPriceFor } from '../config/tool-price.ts'
import { type Fault, fault } from '../fault.ts'
import type { Gateway } from '../gateway.ts'
import { cataloguedModels, mostOf, type PriceRow } from '../price.ts'
import { byteBound, mayThink } from '../tokens.ts'
import { countedBound } from './input.ts'

/** Output tokens below which an answer is not worth starting; what is left is reported as too small instead. */
const leastOutput = 16
/** Output tokens per answer that a stream holds to begin with. */
const firstSlice = 256
/** More than any model writes: sums of holds stay exact whatever cap a caller names. */
const mostOutput = 10_000_000

/**
 * @returns the attempt, or model_not_allowed where dollars are limited and nobody knows what the model costs; a promise
 * only where the length of the texts does not fit what is free and their tokens have to be counted
 */
export function sizeAttempt(
  gateway: Gateway,
  call: Call,
  admitted: Admitted,
  target: ModelTarget | null,
): Attempt | Fault | Promise<Attempt | Fault> {
  const { caller } = admitted
  if (caller.role === 'admin') return attemptOf(null, nothing)
  if (call.kind === 'tool-call') return sizeTool(gateway, admitted)
  return target === null ? attemptOf(null, nothing) : sizeModel(gateway, call as LlmCall, caller.account, target)
}

function attemptOf(target: ModelTarget | null, hold: Amounts, rest: Partial<Attempt> = {}): Attempt {
  return { target, hold, cap: null, slices: null, toolPrice: null, ...rest }
}

const freeTool: Attempt = Object.freeze(attemptOf(null, Object.freeze({ ...nothing, tool_calls: 1 })))

function sizeTool(gateway: Gateway, { tool }: Admitted): Attempt {
  const toolPrice = tool === null ? null : toolPriceFor(gateway.config, tool)
  if (toolPrice === null) return freeTool
  const usd = Math.max(toolPrice.call, toolPrice.reported ?? 0)
  return attemptOf(null, { ...nothing, tool_calls: 1, usd }, { toolPrice })
}

/** A model call with everything its size depends on but the count of its input. */
interface Sizing {
  readonly call: LlmCall
  readonly target: ModelTarget
  readonly price: PriceRow | null
  /** Output tokens per answer, were there no budget; 0 for what has no output. */
  readonly wanted: number
  /** Dearest that so many tokens can turn out, micro-dollars. */
  usd(input: number, output: number): number
}

/** Without a token or dollar limit on the path nothing is capped and the hold only counts the request. */
function sizeModel(
  gateway: Gateway,
  call: LlmCall,
  account: Account,
  target: ModelTarget,
): Attempt | Fault | Promise<Attempt | Fault> {
  const free = gateway.escrow.free(account)
  if (free.tokens === undefined && free.usd === undefined) return attemptOf(target, { ...nothing, requests: 1 })
  const row = modelRow(gateway.config, target.provider, target.model)
  const price = priceFor(gateway.config, target.provider, target.model)
  if (price === null && free.usd !== undefined) {
    const rule = 'no-price: give the model a price in registry/models.yaml, since dollars are limited'
    return fault({ code: 'model_not_allowed', model: call.facts.model, rule })
  }
  const sizing = sizingOf(call, target, price, wantedOutput(gateway, call, row?.maxOutput ?? null))
  const context = row?.context ?? cataloguedModels(target.provider).get(target.model)?.context ?? null
  const bound = byteBound(call, target.model, context)
  if (fits(sizing, free, bound, sizing.wanted) || !fits(sizing, free, 0, leastOf(sizing)))
    return attemptWith(sizing, free, bound)
  return countedBound(gateway.tokens, call, target.model, context).then((counted) =>
    // What is free has changed meanwhile.
    attemptWith(sizing, gateway.escrow.free(account), Math.min(bound, counted ?? bound)),
  )
}

function wantedOutput(gateway: Gateway, call: LlmCall, modelMost: number | null): number {
  if (call.kind === 'embedding') return 0
  const { cap } = call.facts
  const asked = cap === null ? gateway.config.limits.defaultMaxOutput : Math.max(cap.value, cap.also?.value ?? 0)
  return Math.min(asked, modelMost ?? mostOutput, mostOutput)
}

function sizingOf(call: LlmCall, target: ModelTarget, price: PriceRow | null, wanted: number): Sizing {
  const { media, speaks } = call.facts
  const possible = {
    audioInput: media.some(({ kind }) => kind === 'audio'),
    audioOutput: speaks,
    cacheWriteLong: price !== null && longIsDearer(price) && mayCacheLong(call.body),
  }
  const usd = (input: number, output: number) => (price === null ? 0 : mostOf(price, input, output, possible))
  return { call, target, price, wanted, usd }
}

function longIsDearer(price: PriceRow): boolean {
  return [price, ...(price.tiers ?? [])].some(({ cacheWrite, cacheWriteLong }) => cacheWriteLong > cacheWrite)
}

/** A cache entry of an hour is asked for as `"ttl": "1h"`; with an escape in the body it could be spelt in any way. */
function mayCacheLong(body: Buffer): boolean {
  return body.includes('"1h"') || body.includes('\\u')
}

/** Attempt with the input bounded so. Too little left: held for the least useful answer, so that the refusal says it. */
function attemptWith(sizing: Sizing, free: Partial<Amounts>, input: number): Attempt {
  const { call, target, usd, wanted } = sizing
  const { choices, stream } = call.facts
  const cap = Math.max(outputFor(sizing, free, input), leastOf(sizing))
  const most = cap * choices
  // What a model thinks is billed and mostly not streamed, so nothing seen in the stream says how much it was.
  const sliced = stream && !mayThink(target.model)
  const first = sliced ? Math.min(most, firstSlice * choices) : most
  const slices: Slices | null = sliced
    ? {
        first,
        most,
        more: (from, to) => ({ ...nothing, tokens: to - from, usd: usd(input, to) - usd(input, from) }),
      }
    : null
  const hold = { usd: usd(input, first), tokens: input + first, requests: 1, tool_calls: 0 }
  return attemptOf(target, hold, { cap: wanted === 0 ? null : cap, slices })
}

function leastOf({ wanted }: Sizing): number {
  return Math.min(wanted, leastOutput)
}

/** Whether so much input and output, the latter per answer, is within what is free. */
function fits({ call, usd }: Sizing, free: Partial<Amounts>, input: number, output: number): boolean {
  const whole = output * call.facts.choices
  return (
    (free.tokens === undefined || input + whole <= free.tokens) &&
    (free.usd === undefined || usd(input, whole) <= free.usd)
  )
}

/** Most output tokens per answer that fit, up to what is wanted; 0 when not even the input does. */
function outputFor(sizing: Sizing, free: Partial<Amounts>, input: number): number {
  if (fits(sizing, free, input, sizing.wanted)) return sizing.wanted
  let low = 0
  let high = sizing.wanted
  while (low < high) {
    const middle = Math.ceil((low + high) / 2)
    if (fits(sizing, free, input, middle)) low = middle
    else high = middle - 1
  }
  return low
}
