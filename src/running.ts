/**
 * Calls at work that can be stopped from outside: a drain, a revocation. A list with places, not a Set: a set that
 * changes with every call is copied again and again, and each dead copy keeps the calls it held alive until the next
 * full garbage collection.
 * @module
 */
import type { Account } from './call.ts'
import type { Fault } from './fault.ts'

/** One entry; handed back to leave. */
export interface Entry {
  readonly stop: (cause: Fault) => void
  /** Whose call it is; null where it is nobody's. */
  readonly account: Account | null
  place: number
}

export interface Running {
  enter(stop: (cause: Fault) => void, account: Account | null): Entry
  leave(entry: Entry): void
  /** Stops every call with a fault its caller is told. */
  stopAll(cause: Fault): void
  /** Stops the calls of the accounts this is true for. Walk up `parent` to mean whole subtrees. */
  stopWhere(which: (account: Account) => boolean, cause: Fault): void
}

export function createRunning(): Running {
  const entries: Entry[] = []
  return {
    enter(stop, account) {
      const entry = { stop, account, place: entries.length }
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
    stopWhere(which, cause) {
      // Stopping takes entries out of the list.
      const meant = entries.filter(({ account }) => account !== null && which(account))
      for (const { stop } of meant) stop(cause)
    },
  }
}
