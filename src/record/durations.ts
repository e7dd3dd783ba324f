/**
 * How long calls took, as a Prometheus histogram in plain counts: they are put into words when somebody looks, while
 * observing through the registry costs every call more than everything else that is counted of it.
 * @module
 */
import type { CallKind } from '../call.ts'

const name = 'gatehouse_call_seconds'
const help = 'Time from entry to the recorded end, upstream included'
/** Upper bounds, seconds. */
const bounds = [0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300]

export interface Durations {
  /** @param ms not negative */
  observe(kind: CallKind, ms: number): void
  /** Prometheus text. */
  render(): string
}

interface Spread {
  /** Calls per bound, those of lower bounds not included; the last is for what is above all of them. */
  readonly counts: number[]
  sum: number
}

export function createDurations(): Durations {
  const spreads = new Map<CallKind, Spread>()
  return {
    observe(kind, ms) {
      let spread = spreads.get(kind)
      if (spread === undefined) {
        spread = { counts: new Array<number>(bounds.length + 1).fill(0), sum: 0 }
        spreads.set(kind, spread)
      }
      const seconds = ms / 1000
      let place = 0
      while (place < bounds.length && seconds > (bounds[place] as number)) place++
      ;(spread.counts[place] as number)++
      spread.sum += seconds
    },
    render() {
      const lines = [`# HELP ${name} ${help}`, `# TYPE ${name} histogram`]
      for (const [kind, spread] of spreads) lines.push(...linesOf(kind, spread))
      return `${lines.join('\n')}\n`
    },
  }
}

/** Bucket counts include those of every lower bound; the last, `+Inf`, is the count of all. */
function linesOf(kind: CallKind, { counts, sum }: Spread): string[] {
  let total = 0
  const lines = counts.map((count, place) => {
    total += count
    return `${name}_bucket{le="${bounds[place] ?? '+Inf'}",kind="${kind}"} ${total}`
  })
  return [...lines, `${name}_sum{kind="${kind}"} ${sum}`, `${name}_count{kind="${kind}"} ${total}`]
}
