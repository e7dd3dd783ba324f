/** When budget windows begin and end, in the time zone a limit names. @module */
import { DateTime } from 'luxon'
import type { Limit, Window } from '../call.ts'

const minute = 60_000
const hour = 60 * minute
const day = 24 * hour

/** A window in its zone, as balances are kept by: `total`, `hour`, `day`, `day@Europe/Berlin`. */
export type Period = string

export function periodOf({ window, zone }: Pick<Limit, 'window' | 'zone'>): Period {
  return window === 'total' || zone === 'UTC' ? window : `${window}@${zone}`
}

/**
 * Start of the period that holds `now`, ms since the epoch; 0 for `total`. Weeks begin on Monday.
 *
 * @throws {RangeError} the zone is unknown
 */
export function windowStart(period: Period, now: number): number {
  const [window, zone] = parts(period)
  if (zone !== null)
    return window === 'hour'
      ? hourStart(now, zone)
      : inZone(now, zone)
          .startOf(window as 'day')
          .toMillis()
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

/** First moment after the period that starts at `start`; Infinity for `total`. */
export function windowEnd(period: Period, start: number): number {
  const [window, zone] = parts(period)
  if (window === 'total') return Number.POSITIVE_INFINITY
  // By the calendar and not by hours: a day on which the clocks change has 23 or 25 of them.
  if (zone !== null && window === 'hour') return hourEnd(start, zone)
  if (zone !== null)
    return inZone(start, zone)
      .plus({ [window]: 1 })
      .startOf(window)
      .toMillis()
  switch (window) {
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

function parts(period: Period): [Window, string | null] {
  const at = period.indexOf('@')
  if (at === -1) return [period as Window, null]
  const window = period.slice(0, at) as Window
  const zone = period.slice(at + 1)
  // Clocks differ by whole minutes, so that a minute is one everywhere.
  if (window === 'minute') inZone(0, zone)
  return [window, window === 'minute' ? null : zone]
}

/** The hour on the clock there, or what is left of it where the clock was changed by half an hour within. */
function hourStart(now: number, zone: string): number {
  const offset = offsetAt(now, zone)
  const start = now - modulo(now + offset, hour)
  return offsetAt(start, zone) === offset ? start : changeWithin(start, now, zone)
}

function hourEnd(start: number, zone: string): number {
  const offset = offsetAt(start, zone)
  const end = start - modulo(start + offset, hour) + hour
  return offsetAt(end - 1, zone) === offset ? end : changeWithin(start, end - 1, zone)
}

/** First moment with the offset of `after`, where `before` has another and the clock changes once in between. */
function changeWithin(before: number, after: number, zone: string): number {
  const offset = offsetAt(after, zone)
  let [low, high] = [before, after]
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2)
    if (offsetAt(middle, zone) === offset) high = middle
    else low = middle
  }
  return high
}

function offsetAt(ms: number, zone: string): number {
  return inZone(ms, zone).offset * minute
}

function modulo(value: number, by: number): number {
  return ((value % by) + by) % by
}

function inZone(ms: number, zone: string): DateTime {
  const time = DateTime.fromMillis(ms, { zone })
  if (!time.isValid) throw new RangeError(`unknown time zone ${zone}`)
  return time
}
