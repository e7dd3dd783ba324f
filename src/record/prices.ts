/** Prices that calls were charged by, kept once each, so that a past cost can be computed again. @module */
import { describePrice, type PriceRow } from '../price.ts'
import type { Store } from '../stores/store.ts'

/** Settings whose names begin so hold the rates of the version that follows. */
export const pricePrefix = 'price:'

/** Versions this process has kept or is keeping, by store. */
const kept = new WeakMap<Store, Set<string>>()

/** Keeps a price the first time this process sees it. A failure is no fault of the call: the next one tries again. */
export function keepPrice(store: Store, price: PriceRow): void {
  let known = kept.get(store)
  if (known === undefined) {
    known = new Set()
    kept.set(store, known)
  }
  if (known.has(price.version)) return
  const versions = known
  versions.add(price.version)
  store.settings.set(`${pricePrefix}${price.version}`, describePrice(price)).catch(() => versions.delete(price.version))
}
