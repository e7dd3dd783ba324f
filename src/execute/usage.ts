/** What was used, grouped as asked. @module */
import type { AdminCall, Answer } from '../call.ts'
import { Fault } from '../fault.ts'
import type { Gateway } from '../gateway.ts'
import { added } from '../stores/report.ts'
import type { ReportRow } from '../stores/store.ts'
import { amountOut, when } from './account-view.ts'
import { filterOf, groupsOf, isTime, storeGroup, timeName, type UsageGroup, zoneOf } from './ledger-query.ts'

export async function usage(gateway: Gateway, { query }: AdminCall): Promise<Answer | Fault> {
  const groups = groupsOf(query.group_by ?? 'account')
  if (groups instanceof Fault) return groups
  const filter = filterOf(query)
  if (filter instanceof Fault) return filter
  const zone = zoneOf(query.zone)
  if (zone instanceof Fault) return zone
  const asked = groups.map((group) => storeGroup(group, zone))
  const rows = folded(await gateway.store.ledger.report(asked, filter), groups, zone)
  const { since = 0, until = null, account = null } = filter
  const value = {
    group_by: groups.join(','),
    zone,
    since: when(since),
    until: when(until),
    account,
    data: rows.map((row) => viewOf(groups, row)),
  }
  return { kind: 'value', status: 200, value }
}

/** Hours and quarters of them become what was asked for. */
function folded(rows: readonly ReportRow[], groups: readonly UsageGroup[], zone: string): readonly ReportRow[] {
  const time = groups.findIndex(isTime)
  if (time === -1) return rows
  const found = new Map<string, ReportRow>()
  for (const row of rows) {
    const name = timeName(groups[time] as 'hour', zone, Number(row.groups[time]))
    const named = { ...row, groups: row.groups.with(time, name) }
    const key = JSON.stringify(named.groups)
    found.set(key, added(found.get(key), named))
  }
  return [...found.values()]
}

function viewOf(groups: readonly UsageGroup[], row: ReportRow): Record<string, unknown> {
  return {
    ...Object.fromEntries(groups.map((group, at) => [group, row.groups[at] ?? null])),
    calls: row.calls,
    usd: amountOut('usd', row.usd),
    tokens: row.tokens,
    input: row.input,
    output: row.output,
    cache_read: row.cacheRead,
    cache_write: row.cacheWrite,
    reasoning: row.reasoning,
    requests: row.requests,
    tool_calls: row.tool_calls,
  }
}
