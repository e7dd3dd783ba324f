/**
 * What tokens cost. The catalogue is the installed price package, resolved once per model into a row of integers;
 * `registry/models.yaml` overrides it. No floating point touches an amount.
 * @module
 */
import { calcPrice, findProvider, type ModelPrice } from '@pydantic/genai-prices'
import { z } from 'zod'
import type { Usage } from './call.ts'

/** Prices in pico-dollars per token: USD per million tokens times a million, a whole number for every known price. */
export interface Rates {
  readonly input: number
  readonly output: number
  readonly cacheRead: number
  readonly cacheWrite: number
}

export interface PriceRow extends Rates {
  /** Ascending; a call whose whole input is larger than `above` tokens pays that tier for all of its tokens. */
  readonly tiers?: readonly Tier[]
  /** Where the numbers come from, for the ledger. */
  readonly version: string
}

export interface Tier extends Rates {
  readonly above: number
}

/** Version of the catalogue; test/price.test.ts compares it with the installed package. */
export const catalogueVersion = 'genai-prices@0.1.8'

const perMillion = z.number().min(0).max(1_000_000)
const rates = {
  input: perMillion,
  output: perMillion,
  /** Left out, cached tokens cost what other input costs. */
  cache_read: perMillion.optional(),
  cache_write: perMillion.optional(),
}

/** zod slice: a price in USD per million tokens. */
export const priceSchema = z.strictObject({
  ...rates,
  tiers: z.array(z.strictObject({ above: z.int().min(1), ...rates })).optional(),
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
  return freeze({ ...ratesAt(price, 0), version: catalogueVersion }, tiers)
}

function ratesAt(price: ModelPrice, input: number): Rates {
  const at = (name: string): number | undefined => {
    const value = price[name]
    if (value === undefined || typeof value === 'number') return value
    let found = value.base
    for (const tier of value.tiers) if (input > tier.start) found = tier.price
    return found
  }
  const fresh = at('input_mtok') ?? 0
  return {
    input: pico(fresh),
    // A few vendors price thinking apart. Usage counts it as output, so the dearer of the two is charged.
    output: pico(Math.max(at('output_mtok') ?? 0, at('output_reasoning_mtok') ?? 0)),
    cacheRead: pico(at('cache_read_mtok') ?? fresh),
    cacheWrite: pico(at('cache_write_mtok') ?? fresh),
  }
}

function fromOverride(override: PriceOverride): PriceRow {
  const known = overrides.get(override)
  if (known !== undefined) return known
  const tiers = (override.tiers ?? [])
    .map((tier) => ({ above: tier.above, ...ratesOf(tier) }))
    .sort((a, b) => a.above - b.above)
  const row = freeze({ ...ratesOf(override), version: 'models.yaml' }, tiers)
  overrides.set(override, row)
  return row
}

function ratesOf(usd: Omit<PriceOverride, 'tiers'>): Rates {
  return {
    input: pico(usd.input),
    output: pico(usd.output),
    cacheRead: pico(usd.cache_read ?? usd.input),
    cacheWrite: pico(usd.cache_write ?? usd.input),
  }
}

function freeze(row: PriceRow, tiers: readonly Tier[]): PriceRow {
  return Object.freeze(tiers.length === 0 ? row : { ...row, tiers: Object.freeze(tiers) })
}

/** A price below the resolution is not free. */
function pico(usdPerMillion: number): number {
  return usdPerMillion > 0 ? Math.max(1, Math.round(usdPerMillion * 1_000_000)) : 0
}

/**
 * What a call costs.
 *
 * @param usage `input` is the total, tokens read from and written to a cache included; reasoning is part of `output`
 * @returns micro-dollars, rounded up; never negative
 * @throws {RangeError} a count is negative or not an integer
 */
export function costOf(row: PriceRow, usage: Usage): number {
  for (const count of [usage.input, usage.output, usage.cacheRead, usage.cacheWrite]) {
    if (!Number.isSafeInteger(count) || count < 0) throw new RangeError(`not a token count: ${count}`)
  }
  const rate = rateFor(row, usage.input)
  // A vendor that reports more cached than it reports input is charged for what it says it cached.
  const fresh = Math.max(0, usage.input - usage.cacheRead - usage.cacheWrite)
  const total =
    fresh * rate.input +
    usage.cacheRead * rate.cacheRead +
    usage.cacheWrite * rate.cacheWrite +
    usage.output * rate.output
  if (total <= Number.MAX_SAFE_INTEGER) return Math.ceil(total / 1_000_000)
  const exact =
    BigInt(fresh) * BigInt(rate.input) +
    BigInt(usage.cacheRead) * BigInt(rate.cacheRead) +
    BigInt(usage.cacheWrite) * BigInt(rate.cacheWrite) +
    BigInt(usage.output) * BigInt(rate.output)
  return Number((exact + 999_999n) / 1_000_000n)
}

/** The rates a call with this many input tokens pays. */
export function rateFor(row: PriceRow, input: number): Rates {
  let rate: Rates = row
  for (const tier of row.tiers ?? []) if (input > tier.above) rate = tier
  return rate
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
