/**
 * Reports over the ledger. They are added up in slices of lines, so that on a database with one connection a commit
 * waits for a slice and not for the report.
 * @module
 */
import { type Kysely, type RawBuilder, sql } from 'kysely'
import type { DatabaseKind } from './migrations.ts'
import { added } from './report.ts'
import { amounts, type Tables } from './schema.ts'
import type { LedgerFilter, ReportGroup, ReportRow } from './store.ts'

const sliceLines = 10_000
const hourMs = 3_600_000
/** Every zone's offset is a multiple of it, so its sums make hours, days and months of any zone. */
const quarterMs = 900_000

const countNames = ['input', 'output', 'cacheRead', 'cacheWrite', 'reasoning'] as const

export async function report(
  kind: DatabaseKind,
  db: Kysely<Tables>,
  groups: readonly ReportGroup[],
  filter: LedgerFilter,
): Promise<readonly ReportRow[]> {
  const found = new Map<string, ReportRow>()
  for (let after = ''; ; ) {
    const { rows } = await sliceOf(after, filter).execute(db)
    const last = rows[0]?.last ?? null
    if (last === null) break
    for (const row of (await sumsOf(kind, groups, filter, after, last).execute(db)).rows) {
      const values = groups.map((_, at) => textOf(row[`g${at}`]))
      const name = JSON.stringify(values)
      found.set(name, added(found.get(name), rowOf(values, row)))
    }
    if (Number(rows[0]?.lines) < sliceLines) break
    after = last
  }
  return [...found.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, row]) => row)
}

/** The last id of the slice behind an id. */
function sliceOf(after: string, filter: LedgerFilter): RawBuilder<{ last: string | null; lines: number }> {
  return sql`${trees(filter, [])} select max(id) as last, count(*) as lines
    from (select id from ledger where id > ${after} ${meant(filter)} order by id limit ${sql.lit(sliceLines)}) slice`
}

function sumsOf(
  kind: DatabaseKind,
  groups: readonly ReportGroup[],
  filter: LedgerFilter,
  after: string,
  last: string,
): RawBuilder<Record<string, unknown>> {
  const named = groups.map((group, at) => sql`${expressionOf(kind, group)} as ${sql.ref(`g${at}`)}`)
  const tokens = countNames.map((name) => sql`coalesce(sum(${countOf(kind, name)}), 0) as ${sql.ref(`t_${name}`)}`)
  const by = groups.length === 0 ? sql`` : sql`group by ${sql.join(groups.map((_, at) => sql.lit(at + 1)))}`
  const keys = groups.includes('key') ? sql`left join keyed on keyed.leaf = ledger.account` : sql``
  return sql`${trees(filter, groups)}
    select ${sql.join([...named, ...tokens])}, count(*) as calls, coalesce(sum(usd), 0) as usd,
      coalesce(sum(tokens), 0) as tokens, coalesce(sum(requests), 0) as requests,
      coalesce(sum(tool_calls), 0) as tool_calls
    from ledger ${keys}
    where id > ${after} and id <= ${last} ${meant(filter)} ${by}`
}

/** The accounts below the one that is meant, and for each account the nearest key at or above it. */
function trees({ account }: LedgerFilter, groups: readonly ReportGroup[]): RawBuilder<unknown> {
  const parts: RawBuilder<unknown>[] = []
  if (account !== undefined)
    parts.push(sql`below(leaf) as (select id from accounts where id = ${account}
      union select accounts.id from accounts join below on accounts.parent = below.leaf)`)
  if (groups.includes('key'))
    parts.push(sql`keyed(leaf, nearest) as (
      select id, case when kind = 'key' then id end from accounts where parent is null
      union all select accounts.id, case when accounts.kind = 'key' then accounts.id else keyed.nearest end
      from accounts join keyed on accounts.parent = keyed.leaf)`)
  return parts.length === 0 ? sql`` : sql`with recursive ${sql.join(parts)}`
}

function meant({ since, until, account }: LedgerFilter): RawBuilder<unknown> {
  const parts = [
    ...(since === undefined ? [] : [sql`and at >= ${since}`]),
    ...(until === undefined ? [] : [sql`and at < ${until}`]),
    ...(account === undefined ? [] : [sql`and account in (select leaf from below)`]),
  ]
  return parts.length === 0 ? sql`` : sql.join(parts, sql` `)
}

function expressionOf(kind: DatabaseKind, group: ReportGroup): RawBuilder<unknown> {
  if (group === 'account') return sql`ledger.account`
  if (group === 'key') return sql`keyed.nearest`
  if (group === 'hour') return sql`at - at % ${sql.lit(hourMs)}`
  if (group === 'quarter') return sql`at - at % ${sql.lit(quarterMs)}`
  if (!group.startsWith('label:')) return field(kind, 'body', [group])
  return field(kind, 'notes', ['labels', group.slice('label:'.length)])
}

function countOf(kind: DatabaseKind, name: string): RawBuilder<unknown> {
  const value = field(kind, 'body', ['usage', name])
  return kind === 'sqlite' ? value : sql`cast(${value} as bigint)`
}

/** A value inside a column of JSON text. Names are quoted: a label may have dots in it. */
function field(kind: DatabaseKind, column: 'body' | 'notes', path: readonly string[]): RawBuilder<unknown> {
  if (kind === 'sqlite')
    return sql`json_extract(${sql.ref(column)}, ${sql.lit(`$${path.map((name) => `."${name}"`).join('')}`)})`
  return sql`(cast(${sql.ref(column)} as json) #>> ${sql.lit(`{${path.map((name) => `"${name}"`).join(',')}}`)})`
}

function textOf(value: unknown): string | null {
  return value === null || value === undefined ? null : String(value)
}

function rowOf(groups: readonly (string | null)[], row: Record<string, unknown>): ReportRow {
  const tokens = Object.fromEntries(countNames.map((name) => [name, Number(row[`t_${name}`])]))
  const sums = amounts(row as never)
  return { groups, calls: Number(row.calls), ...sums, ...(tokens as Record<(typeof countNames)[number], number>) }
}
