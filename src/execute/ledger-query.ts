/** What may be asked of the ledger: which lines, grouped by what. @module */
import { DateTime } from 'luxon'
import type { AdminCall } from '../call.ts'
import { type Fault, fault } from '../fault.ts'
import type { LedgerFilter, ReportGroup } from '../stores/store.ts'

const fields = ['account', 'key', 'session', 'model', 'provider', 'tool', 'kind'] as const
const times = ['hour', 'day', 'month'] as const
type TimeGroup = (typeof times)[number]

/** A group as it is asked for. */
export type UsageGroup = (typeof fields)[number] | TimeGroup | `label:${string}`

const mostGroups = 4

/** Reads `since`, `until` and `account`. @returns invalid_request where one of them is none */
export function filterOf(query: AdminCall['query']): LedgerFilter | Fault {
  const moments: { since?: number; until?: number } = {}
  for (const name of ['since', 'until'] as const) {
    const text = query[name]
    if (text === undefined) continue
    const time = Date.parse(text)
    if (Number.isNaN(time)) return fault({ code: 'invalid_request', where: name, why: 'must be an ISO 8601 time' })
    moments[name] = time
  }
  return { ...moments, ...(query.account === undefined ? {} : { account: query.account }) }
}

/** @returns the groups in their order, or invalid_request */
export function groupsOf(text: string): readonly UsageGroup[] | Fault {
  const given = text.split(',').map((name) => name.trim())
  const wrong = (why: string) => fault({ code: 'invalid_request', where: 'group_by', why })
  const odd = given.find((name) => !isGroup(name))
  if (odd !== undefined)
    return wrong(`must be some of ${[...fields, ...times].join(', ')} and label:NAME, separated by commas`)
  if (new Set(given).size < given.length) return wrong('names a group twice')
  if (given.filter((name) => isTime(name)).length > 1) return wrong('takes one of hour, day and month')
  return given.length > mostGroups ? wrong(`takes at most ${mostGroups} groups`) : (given as UsageGroup[])
}

function isGroup(name: string): boolean {
  return fields.some((field) => field === name) || isTime(name) || /^label:[A-Za-z0-9_.-]{1,64}$/.test(name)
}

export function isTime(name: string): name is TimeGroup {
  return times.some((time) => time === name)
}

/** What the store is asked: moments as hours where the zone has whole hours for certain, else as quarters of them. */
export function storeGroup(group: UsageGroup, zone: string): ReportGroup {
  if (!isTime(group)) return group
  return zone === 'UTC' ? 'hour' : 'quarter'
}

/** The hour, day or month of a moment: `2026-11-25T13:00+01:00`, `2026-11-25`, `2026-11`. */
export function timeName(group: TimeGroup, zone: string, ms: number): string {
  const at = DateTime.fromMillis(ms, { zone })
  if (group === 'month') return at.toFormat('yyyy-MM')
  return group === 'day' ? at.toFormat('yyyy-MM-dd') : at.startOf('hour').toFormat("yyyy-MM-dd'T'HH:mmZZ")
}

/** @returns the zone, or invalid_request where this machine does not know it */
export function zoneOf(text: string | undefined): string | Fault {
  if (text === undefined) return 'UTC'
  if (DateTime.utc().setZone(text).isValid) return text
  return fault({ code: 'invalid_request', where: 'zone', why: 'must be an IANA time zone, like Europe/Berlin' })
}
