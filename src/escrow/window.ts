/** When budget windows begin and end. UTC. @module */
import type { Window } from '../call.ts'

const minute = 60_000
const hour = 60 * minute
const day = 24 * hour

/** Start of the window that holds `now`, ms since the epoch; 0 for `total`. Weeks begin on Monday. */
export function windowStart(window: Window, now: number): number {
  switch (window) {
    case 'total':
      return 0
    case 'minute':
      return now - (now % minute)
    case 'hour':
      return now - (now % hour)
    case 'day':
      return now - (now % day)
    case 'week':
      // The epoch was a Thursday: three days behind Monday.
      return now - ((now + 3 * day) % (7 * day))
    case 'month': {
      const date = new Date(now)
      return Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), 1)
    }
  }
}

/** First moment after the window that starts at `start`; Infinity for `total`. */
export function windowEnd(window: Window, start: number): number {
  switch (window) {
    case 'total':
      return Number.POSITIVE_INFINITY
    case 'minute':
      return start + minute
    case 'hour':
      return start + hour
    case 'day':
      return start + day
    case 'week':
      return start + 7 * day
    case 'month': {
      const date = new Date(start)
      return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 1)
    }
  }
}
