/**
 * Calls at work that can be stopped from outside: a drain, a revocation. A list with places, not a Set: a set that
 * changes with every call is copied again and again, and each dead copy keeps the calls it held alive until the next
 * full garbage collection.
 * @module
 */
import type { Fault } from './fault.ts'

/** One entry; handed back to leave. */
export interface Entry {
  readonly stop: (cause: Fault) => void
  place: number
}

export interface Running {
  enter(stop: (cause: Fault) => void): Entry
  leave(entry: Entry): void
  /** Stops every call with a fault its caller is told. */
  stopAll(cause: Fault): void
}

export function createRunning(): Running {
  const entries: Entry[] = []
  return {
    enter(stop) {
      const entry = { stop, place: entries.length }
      entries.push(entry)
      return entry
    },
    leave(entry) {
      const last = entries.pop()
      if (last === undefined || last === entry) return
      entries[entry.place] = last
      last.place = entry.place
    },
    stopAll(cause) {
      for (const { stop } of [...entries]) stop(cause)
    },
  }
}
