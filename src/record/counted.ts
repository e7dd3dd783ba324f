/** What every counter should have come to, added up from the lines of the ledger. @module */
import { units } from '../call.ts'
import { windowEnd, windowStart } from '../escrow/window.ts'
import type { ChainLine, CounterLine } from '../stores/snapshot.ts'
import type { VerifyFault } from './chain-walk.ts'

type Sums = Record<(typeof units)[number], bigint>

interface Kept {
  readonly counter: CounterLine
  readonly sums: Sums
}

export interface Counted {
  readonly counters: number
  counter(counter: CounterLine): void
  account(id: string, parent: string | null): void
  /** Lines that were removed, as sums of an account. */
  removed(account: string, sums: Readonly<Record<(typeof units)[number], string>>): void
  line(line: ChainLine): VerifyFault | null
  /** The first counter that is not the sum of its lines. */
  end(): VerifyFault | null
}

/** Deeper than any path: a tree somebody bent into a ring must not keep us. */
const maxDepth = 64

export function countLines(): Counted {
  const parents = new Map<string, string | null>()
  const counters = new Map<string, Kept>()
  const periods = new Map<string, string[]>()
  const startOf = rememberedStarts()
  const keyOf = (account: string, period: string, start: number | string) => `${account} ${period} ${start}`

  function add(kept: Kept, amounts: Readonly<Record<(typeof units)[number], string>>): void {
    for (const unit of units) if (amounts[unit] !== '0') kept.sums[unit] += BigInt(amounts[unit])
  }

  function missing(line: ChainLine, account: string): VerifyFault {
    const message = `the account ${account} has no counter of everything, which this line belongs in`
    return { where: 'balances', wrong: 'counter', writer: line.writer, seq: Number(line.seq), id: line.id, message }
  }

  return {
    get counters() {
      return counters.size
    },
    counter(counter) {
      const { account, period, starts_at } = counter
      const sums = { usd: 0n, tokens: 0n, requests: 0n, tool_calls: 0n }
      counters.set(keyOf(account, period, starts_at), { counter, sums })
      const known = periods.get(account) ?? []
      if (!known.includes(period)) periods.set(account, [...known, period])
    },
    account(id, parent) {
      parents.set(id, parent)
    },
    removed(account, sums) {
      const kept = counters.get(keyOf(account, 'total', 0))
      if (kept !== undefined) add(kept, sums)
    },
    line(line) {
      if (units.every((unit) => line[unit] === '0')) return null
      const booked = Number(line.booked)
      let level: string | null = line.account
      for (let depth = 0; level !== null && depth < maxDepth; depth++) {
        const above = parents.get(level)
        if (above === undefined) {
          const message = `the line belongs to the account ${level}, which is not there`
          return {
            where: 'balances',
            wrong: 'account',
            writer: line.writer,
            seq: Number(line.seq),
            id: line.id,
            message,
          }
        }
        if (!counters.has(keyOf(level, 'total', 0))) return missing(line, level)
        for (const period of periods.get(level) ?? []) {
          const kept = counters.get(keyOf(level, period, startOf(period, booked)))
          if (kept !== undefined) add(kept, line)
        }
        level = above
      }
      return null
    },
    end() {
      for (const { counter, sums } of counters.values()) {
        const { account, period, starts_at } = counter
        for (const unit of units) {
          if (BigInt(counter[unit]) === sums[unit]) continue
          const since = period === 'total' ? '' : ` since ${timeText(starts_at)}`
          const message = `the counter ${period}${since} of ${account} has ${unit} ${counter[unit]}; its lines come to ${sums[unit]}`
          return { where: 'balances', wrong: 'counter', writer: null, seq: null, id: null, message }
        }
      }
      return null
    },
  }
}

function timeText(ms: string): string {
  const time = new Date(Number(ms))
  return Number.isNaN(time.getTime()) ? ms : time.toISOString()
}

/** Starts of windows. Lines come nearly in order, so the window before is nearly always the one. */
function rememberedStarts(): (period: string, at: number) => number {
  const last = new Map<string, { readonly start: number; readonly end: number }>()
  return (period, at) => {
    const known = last.get(period)
    if (known !== undefined && known.start <= at && at < known.end) return known.start
    const start = windowStart(period, at)
    last.set(period, { start, end: windowEnd(period, start) })
    return start
  }
}
