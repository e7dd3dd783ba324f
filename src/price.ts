/**
 * What tokens cost. The catalogue is the installed price package, resolved once per model into a row of integers;
 * `registry/models.yaml` overrides it. No floating point touches an amount.
 * @module
 */
import { createHash } from 'node:crypto'
import { calcPrice, findProvider, type ModelPrice } from '@pydantic/genai-prices'
import { z } from 'zod'
import type { Usage } from './call.ts'

/** In the order of the canonical form; changing it changes every version. */
const kinds = [
  'input',
  'output',
  'cacheRead',
  'cacheWrite',
  'cacheWriteLong',
  'reasoning',
  'audioInput',
  'audioOutput',
] as const

/**
 * Prices by kind of token, in pico-dollars per token: USD per million tokens times a million, a whole number for every
 * known price. A kind without a price of its own has that of what it is part of.
 */
export type Rates = Readonly<Record<(typeof kinds)[number], number>>

/** All numbers a cost is computed from. */
export interface RateTable extends Rates {
  /** Ascending; a call whose whole input is larger than `above` tokens pays that tier for all of its tokens. */
  readonly tiers?: readonly Tier[]
}

export interface PriceRow extends RateTable {
  /** `<source>#<8 hex>`: where the numbers come from and a digest of the numbers themselves. */
  readonly version: string
}

export interface Tier extends Rates {
  readonly above: number
}

/** Version of the catalogue; test/price.test.ts compares it with the installed package. */
export const catalogueVersion = 'genai-prices@0.1.8'

const perMillion = z.number().min(0).max(1_000_000)
const rates = {
  input: perMillion.describe('USD per million tokens, as all of these'),
  output: perMillion,
  cache_read: perMillion.optional().describe('left out, cached tokens cost what other input costs'),
  cache_write: perMillion.optional(),
  cache_write_long: perMillion.optional().describe('writes kept longer than usual; left out, what cache_write costs'),
  reasoning: perMillion.optional().describe('left out, reasoning costs what other output costs'),
  audio_input: perMillion.optional().describe('left out, audio costs what text costs'),
  audio_output: perMillion.optional(),
}

/** zod slice: a price in USD per million tokens. */
export const priceSchema = z
  .strictObject({
    ...rates,
    tiers: z
      .array(z.strictObject({ above: z.int().min(1), ...rates }))
      .optional()
      .describe('a call with more input tokens than `above` pays these for all of its tokens'),
  })
  .superRefine(({ tiers = [] }, context) => {
    for (const [index, { above }] of tiers.entries()) {
      if (tiers.findIndex((other) => other.above === above) === index) continue
      // Which of the two counted would be chance.
      context.addIssue({ code: 'custom', path: ['tiers', index, 'above'], message: `${above} has a tier already` })
    }
  })
export type PriceOverride = z.output<typeof priceSchema>

/**
 * The price of a model, our own word before the catalogue's.
 *
 * @param provider id of the provider row; the catalogue knows the usual vendors by their usual ids
 * @param model the name the provider knows
 * @param override the model row's price, or null
 * @returns null when nobody knows the price; the caller decides what that means
 */
export function priceOf(provider: string, model: string, override: PriceOverride | null): PriceRow | null {
  if (override !== null) return fromOverride(override)
  const key = `${provider}\n${model}`
  const known = resolved.get(key)
  if (known !== undefined) return known
  const row = fromCatalogue(provider, model)
  // Model names come from callers, so what is remembered of them is bounded.
  if (resolved.size >= 4096) resolved.clear()
  resolved.set(key, row)
  return row
}

const resolved = new Map<string, PriceRow | null>()
const overrides = new WeakMap<PriceOverride, PriceRow>()

/**
 * Some rows depend on the date or the hour. The latest announced price at midday UTC is taken: it keeps the clock out,
 * and vendors with a cheaper night bill the dearer rate then.
 */
const asOf = new Date(Date.UTC(2100, 0, 1, 12))

function fromCatalogue(provider: string, model: string): PriceRow | null {
  const found = calcPrice({}, model, { providerId: provider, timestamp: asOf })
  if (found === null || found.model_price.input_mtok === undefined) return null
  const price = found.model_price
  const starts = new Set<number>()
  for (const value of Object.values(price)) {
    if (typeof value === 'object') for (const tier of value.tiers) starts.add(tier.start)
  }
  const tiers = [...starts].sort((a, b) => a - b).map((above) => ({ above, ...ratesAt(price, above + 1) }))
  return rowOf(catalogueVersion, ratesAt(price, 0), tiers)
}

function ratesAt(price: ModelPrice, input: number): Rates {
  const at = (name: string): number | undefined => {
    const value = price[name]
    if (value === undefined || typeof value === 'number') return value
    let found = value.base
    for (const tier of value.tiers) if (input > tier.start) found = tier.price
    return found
  }
  return complete({
    input: at('input_mtok') ?? 0,
    output: at('output_mtok') ?? 0,
    cache_read: at('cache_read_mtok'),
    cache_write: at('cache_write_mtok'),
    cache_write_long: at('cache_write_1h_mtok'),
    reasoning: at('output_reasoning_mtok'),
    audio_input: at('input_audio_mtok'),
    audio_output: at('output_audio_mtok'),
  })
}

function fromOverride(override: PriceOverride): PriceRow {
  const known = overrides.get(override)
  if (known !== undefined) return known
  const tiers = (override.tiers ?? [])
    .map((tier) => ({ above: tier.above, ...complete(tier) }))
    .sort((a, b) => a.above - b.above)
  const row = rowOf('models.yaml', complete(override), tiers)
  overrides.set(override, row)
  return row
}

function complete(usd: Omit<PriceOverride, 'tiers'>): Rates {
  const cacheWrite = usd.cache_write ?? usd.input
  return {
    input: pico(usd.input),
    output: pico(usd.output),
    cacheRead: pico(usd.cache_read ?? usd.input),
    cacheWrite: pico(cacheWrite),
    cacheWriteLong: pico(usd.cache_write_long ?? cacheWrite),
    reasoning: pico(usd.reasoning ?? usd.output),
    audioInput: pico(usd.audio_input ?? usd.input),
    audioOutput: pico(usd.audio_output ?? usd.output),
  }
}

/** A price below the resolution is not free. */
function pico(usdPerMillion: number): number {
  return usdPerMillion > 0 ? Math.max(1, Math.round(usdPerMillion * 1_000_000)) : 0
}

function rowOf(source: string, base: Rates, tiers: readonly Tier[]): PriceRow {
  const table: RateTable = tiers.length === 0 ? base : { ...base, tiers: Object.freeze(tiers) }
  const digest = createHash('sha256').update(canonical(table)).digest('hex').slice(0, 8)
  return Object.freeze({ ...table, version: `${source}#${digest}` })
}

/** What a provider costs that bills nobody. */
export const freePrice: PriceRow = rowOf('free', complete({ input: 0, output: 0 }), [])

/** All rates of a row as canonical JSON: the same numbers are the same text, which the digest of `version` is over. */
export function describePrice(row: PriceRow): string {
  return canonical(row)
}

function canonical(table: RateTable): string {
  const listed = (of: Rates) => Object.fromEntries(kinds.map((kind) => [kind, of[kind]]))
  const tiers = table.tiers?.map((tier) => ({ above: tier.above, ...listed(tier) }))
  return JSON.stringify({ ...listed(table), ...(tiers === undefined ? {} : { tiers }) })
}

const rate = z.int().min(0)
const listedRates = z.strictObject(
  Object.fromEntries(kinds.map((kind) => [kind, rate])) as Record<keyof Rates, z.ZodInt>,
)
const described = listedRates.extend({ tiers: z.array(listedRates.extend({ above: rate })).optional() })

/**
 * What a past call cost, from the rates that were kept with it.
 *
 * @param rates what `describePrice` said of the row at that time
 * @returns micro-dollars, the same as then
 * @throws {Error} the text is no description of a price, or a count is no count
 */
export function recompute(rates: string, usage: Usage): number {
  return costOf(described.parse(JSON.parse(rates)) as RateTable, usage)
}

/**
 * What a call costs.
 *
 * @returns micro-dollars, rounded up; never negative
 * @throws {RangeError} a count is negative or not an integer
 */
export function costOf(row: RateTable, usage: Usage): number {
  const { input, output, cacheRead, cacheWrite, cacheWriteLong, reasoning, audioInput, audioOutput } = usage
  const counts = [input, output, cacheRead, cacheWrite, cacheWriteLong, reasoning, audioInput, audioOutput]
  for (const count of counts) {
    if (!Number.isSafeInteger(count) || count < 0) throw new RangeError(`not a token count: ${count}`)
  }
  const at = rateFor(row, input)
  // A vendor whose parts are more than their whole is charged for the parts.
  return micros([
    [Math.max(0, input - cacheRead - Math.max(cacheWrite, cacheWriteLong) - audioInput), at.input],
    [Math.max(0, output - reasoning - audioOutput), at.output],
    [cacheRead, at.cacheRead],
    [Math.max(0, cacheWrite - cacheWriteLong), at.cacheWrite],
    [cacheWriteLong, at.cacheWriteLong],
    [reasoning, at.reasoning],
    [audioInput, at.audioInput],
    [audioOutput, at.audioOutput],
  ])
}

/** Pico-dollars to micro-dollars, once over the whole sum and upwards. */
function micros(parts: readonly (readonly [count: number, rate: number])[]): number {
  let total = 0
  for (const [count, each] of parts) total += count * each
  if (total <= Number.MAX_SAFE_INTEGER) {
    // By remainder: a quotient this large has no room left for the fraction that decides the rounding.
    const rest = total % 1_000_000
    return (total - rest) / 1_000_000 + (rest > 0 ? 1 : 0)
  }
  let exact = 0n
  for (const [count, each] of parts) exact += BigInt(count) * BigInt(each)
  return Number((exact + 999_999n) / 1_000_000n)
}

/** The rates a call with this many input tokens pays. */
export function rateFor(row: RateTable, input: number): Rates {
  let found: Rates = row
  for (const tier of row.tiers ?? []) if (input > tier.above) found = tier
  return found
}

/** What a call may turn out to contain, besides text. */
export interface Possible {
  readonly audioInput: boolean
  readonly audioOutput: boolean
  readonly cacheWriteLong: boolean
}

/**
 * The most that a call can cost with at most so many tokens, however they turn out to be divided: fresh or written to
 * a cache, thought or said, in any tier that is reached.
 *
 * @returns micro-dollars; grows with both counts
 */
export function mostOf(row: RateTable, input: number, output: number, possible: Possible): number {
  let read = 0
  let written = 0
  for (const at of [row, ...(row.tiers ?? []).filter(({ above }) => input > above)]) {
    read = Math.max(read, at.input, at.cacheRead, at.cacheWrite)
    if (possible.cacheWriteLong) read = Math.max(read, at.cacheWriteLong)
    if (possible.audioInput) read = Math.max(read, at.audioInput)
    written = Math.max(written, at.output, at.reasoning)
    if (possible.audioOutput) written = Math.max(written, at.audioOutput)
  }
  return micros([
    [input, read],
    [output, written],
  ])
}

/** A model as the catalogue lists it. */
export interface CataloguedModel {
  readonly id: string
  /** Tokens, where known. */
  readonly context: number | null
}

const catalogues = new Map<string, ReadonlyMap<string, CataloguedModel>>()

/** The models the catalogue lists for a provider, by exact id; empty for one it does not know. */
export function cataloguedModels(provider: string): ReadonlyMap<string, CataloguedModel> {
  let models = catalogues.get(provider)
  if (models === undefined) {
    const listed = findProvider({ providerId: provider })?.models ?? []
    models = new Map(listed.map(({ id, context_window }) => [id, { id, context: context_window ?? null }]))
    catalogues.set(provider, models)
  }
  return models
}
