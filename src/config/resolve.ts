/** The name a caller wrote as `model` to what it means. @module */
import type { ModelTarget } from '../call.ts'
import { cataloguedModels, freePrice, type PriceRow, priceOf } from '../price.ts'
import type { Config, ModelRow, Route } from './config.ts'

/** A route, whose strategy orders its targets; or one model, named as `provider/model` for lists and the ledger. */
export type Resolved =
  | { readonly route: Route }
  | { readonly targets: readonly ModelTarget[]; readonly canonical: string; readonly row: ModelRow | null }

/**
 * Resolves a model name: a route, a model of ours, `provider/model`, or a bare name that the price catalogue lists for
 * a provider that can be called (the first such row of providers.yaml wins).
 *
 * @returns null when nothing is named so
 */
export function resolveModel(config: Config, written: string): Resolved | null {
  let known = resolved.get(config)
  if (known === undefined) {
    known = new Map()
    resolved.set(config, known)
  }
  let found = known.get(written)
  if (found === undefined) {
    found = resolve(config, written)
    // Callers invent names; what is remembered of them is bounded.
    if (known.size < maxRemembered) known.set(written, found)
  }
  return found
}

const resolved = new WeakMap<Config, Map<string, Resolved | null>>()
const maxRemembered = 10_000

function resolve(config: Config, written: string): Resolved | null {
  const route = config.routes.get(written)
  if (route !== undefined) return { route }
  const row = config.models.get(written)
  if (row !== undefined) return one(config, row.provider, row.upstream)
  const slash = written.indexOf('/')
  if (slash > 0 && slash < written.length - 1) {
    const provider = config.providers.get(written.slice(0, slash))
    if (provider !== undefined) {
      const model = written.slice(slash + 1)
      return one(config, provider.id, model.startsWith(provider.prefix) ? model : provider.prefix + model)
    }
  }
  for (const provider of config.providers.values()) {
    if (provider.lit && cataloguedModels(provider.id).has(written)) return one(config, provider.id, written)
  }
  return null
}

function one(config: Config, provider: string, model: string): Resolved {
  const targets = [{ provider, model, timeoutMs: null }]
  return { targets, canonical: `${provider}/${model}`, row: modelRow(config, provider, model) }
}

/** What a snapshot says about one model behind a provider. */
interface Standing {
  /** Our own word, null where we have none. */
  readonly row: ModelRow | null
  /** undefined until somebody asks: looking a price up walks the whole catalogue. */
  price: PriceRow | null | undefined
}

/** Per snapshot by provider, then model: two lookups cost less than making one key of two names at every call. */
const standings = new WeakMap<Config, Map<string, Map<string, Standing>>>()

/** Our own word (context, output cap, price) about a target, by the name its provider knows; null where we have none. */
export function modelRow(config: Config, provider: string, model: string): ModelRow | null {
  return standingOf(config, provider, model).row
}

/** What a target costs: our own word, else the catalogue's; nothing where the provider bills nobody; null: unknown. */
export function priceFor(config: Config, provider: string, model: string): PriceRow | null {
  const standing = standingOf(config, provider, model)
  if (standing.price === undefined) {
    const free = config.providers.get(provider)?.free === true
    standing.price = priceOf(provider, model, standing.row?.price ?? null) ?? (free ? freePrice : null)
  }
  return standing.price
}

function standingOf(config: Config, provider: string, model: string): Standing {
  let providers = standings.get(config)
  if (providers === undefined) {
    providers = new Map()
    standings.set(config, providers)
  }
  let models = providers.get(provider)
  if (models === undefined) {
    models = new Map()
    providers.set(provider, models)
  }
  let standing = models.get(model)
  if (standing === undefined) {
    standing = { row: rowOf(config, provider, model), price: undefined }
    // Callers invent names; what is remembered of them is bounded.
    if (models.size < maxRemembered) models.set(model, standing)
  }
  return standing
}

/** Of two rows about the same model the later one counts. */
function rowOf(config: Config, provider: string, model: string): ModelRow | null {
  let found: ModelRow | null = null
  for (const row of config.models.values()) if (row.provider === provider && row.upstream === model) found = row
  return found
}

/** A name for `GET /v1/models`. */
export interface ListedModel {
  readonly id: string
  /** `gatehouse` for a route, else the provider. */
  readonly owner: string
  /** What policy decides on: the name itself and, where it has one, its canonical name. */
  readonly names: readonly string[]
}

/**
 * Every name that would resolve and can be called now: routes with a provider that is lit, our models, and what the
 * catalogue lists for lit providers as `provider/model`.
 */
export function listModels(config: Config): readonly ListedModel[] {
  const lit = (provider: string) => config.providers.get(provider)?.lit === true
  const listed = new Map<string, ListedModel>()
  for (const { id, to } of config.routes.values()) {
    if (to.some(({ provider }) => lit(provider))) listed.set(id, { id, owner: 'gatehouse', names: [id] })
  }
  const add = (id: string, owner: string, canonical: string) => {
    if (!listed.has(id)) listed.set(id, { id, owner, names: id === canonical ? [id] : [id, canonical] })
  }
  for (const { id, provider, upstream } of config.models.values()) {
    if (lit(provider)) add(id, provider, `${provider}/${upstream}`)
  }
  for (const provider of config.providers.values()) {
    if (!provider.lit) continue
    for (const model of cataloguedModels(provider.id).keys()) {
      const id = `${provider.id}/${model}`
      add(id, provider.id, id)
    }
  }
  return [...listed.values()]
}
