/** In which order a route's targets are tried. Pure: chance comes in by the door. @module */
import type { ModelTarget } from '../call.ts'

/** A target with its share; a target without one counts 1. */
export interface Candidate extends ModelTarget {
  readonly weight?: number
}

export interface StrategyFacts {
  /** Uniform in [0, 1). */
  readonly random: () => number
}

/** @returns every target once, the first to be tried first */
export type Strategy = <T extends Candidate>(targets: readonly T[], facts: StrategyFacts) => readonly T[]

const fallback: Strategy = (targets) => targets

/** Draws without replacement in proportion to `weight`, so that what is left still serves as the fallback. */
const weighted: Strategy = (targets, { random }) => {
  const left = [...targets]
  const order: typeof left = []
  while (left.length > 0) {
    const total = left.reduce((sum, target) => sum + (target.weight ?? 1), 0)
    let draw = random() * total
    const at = left.findIndex((target) => {
      draw -= target.weight ?? 1
      return draw < 0
    })
    // Only weight 0 is left, or rounding ran past the end: take them as written.
    order.push(...left.splice(Math.max(at, 0), 1))
  }
  return order
}

export const strategies = { fallback, weighted } satisfies Record<string, Strategy>
export type StrategyName = keyof typeof strategies
export const strategyNames = Object.keys(strategies) as [StrategyName, ...StrategyName[]]
