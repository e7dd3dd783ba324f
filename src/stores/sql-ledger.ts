/** The ledger over SQL: reading it, and the statements that write it. @module */
import { type Expression, type Kysely, sql } from 'kysely'
import { type Amounts, type LedgerBody, units } from '../call.ts'
import type { DatabaseKind } from './migrations.ts'
import { amounts, type LedgerTable, ledgerRow, type Tables } from './schema.ts'
import { limitOf, tree } from './sql-accounts.ts'
import { report } from './sql-report.ts'
import type { LedgerStore, UsageGroup, UsageRow } from './store.ts'

/** Most ids in one IN list, below every database's parameter limit. */
const maxIds = 10_000

export function ledgerReader(kind: DatabaseKind, db: Kysely<Tables>): Omit<LedgerStore, 'append'> {
  return {
    async ofAccounts(ids, page) {
      const limit = limitOf(page)
      const found: LedgerTable[] = []
      for (const some of slices(ids)) {
        let query = db.selectFrom('ledger').selectAll().where('account', 'in', some).orderBy('id').limit(limit)
        if (page.after !== undefined) query = query.where('id', '>', page.after)
        found.push(...(await query.execute()))
      }
      if (ids.length > maxIds) found.sort((a, b) => (a.id < b.id ? -1 : 1))
      return found.slice(0, limit).map(ledgerRow)
    },
    async page(page, { since, until, account } = {}) {
      let query = (account === undefined ? db : tree(db, account))
        .selectFrom('ledger')
        .selectAll()
        .orderBy('id')
        .limit(limitOf(page))
      if (account !== undefined) query = query.where('account', 'in', sql<string>`(select id from tree)`)
      if (since !== undefined) query = query.where('at', '>=', since)
      if (until !== undefined) query = query.where('at', '<', until)
      if (page.after !== undefined) query = query.where('id', '>', page.after)
      return (await query.execute()).map(ledgerRow)
    },
    report: (groups, filter) => report(kind, db, groups, filter),
    async usage(group, since, accounts) {
      const groups = new Map<string | null, UsageRow>()
      const by = groupOf(kind, group)
      for (const some of accounts === undefined ? [null] : slices(accounts)) {
        let query = db
          .selectFrom('ledger')
          .select(by.as('group'))
          .select(sums)
          .select(sql<number>`count(*)`.as('calls'))
          .where('at', '>=', since)
          .groupBy(by)
          .orderBy(by, (o) => o.asc().nullsFirst())
        if (some !== null) query = query.where('account', 'in', some)
        for (const row of await query.execute()) {
          const given = { group: row.group, ...amounts(row), calls: Number(row.calls) }
          groups.set(row.group, added(groups.get(row.group), given))
        }
      }
      return [...groups.values()]
    },
  }
}

function groupOf(kind: DatabaseKind, group: UsageGroup): Expression<string | null> & { as: (name: 'group') => never } {
  const field =
    group === 'account'
      ? sql<string | null>`account`
      : kind === 'sqlite'
        ? sql<string | null>`json_extract(body, ${sql.lit(`$.${group}`)})`
        : sql<string | null>`((${readable})::json ->> ${sql.lit(group)}) collate "C"`
  return field as never
}

/**
 * Postgres reads no JSON with an escaped zero or half a surrogate pair in it, and callers choose the names in a body.
 * Both become the replacement character; a backslash before the match stays one of a pair.
 */
const readable = sql`case when position('\\u' in body) = 0 then body
  else regexp_replace(body, '\\\\u(0000|[dD][89a-fA-F][0-9a-fA-F]{2})', '\\\\ufffd', 'g') end`

/**
 * The statements of the hot path. Values of `insertRow`: id, writer, seq, account, at, booked, the four amounts, body,
 * notes, notes' digest, hash. Of `addBalance`: writer, account, period, starts_at, four amounts used, four taken from
 * the lease. Of `findWriter`: id.
 */
export function postStatements(db: Kysely<Tables>) {
  const row: LedgerTable = {
    id: '',
    writer: '',
    seq: 0,
    account: '',
    at: 0,
    booked: 0,
    usd: 0,
    tokens: 0,
    requests: 0,
    tool_calls: 0,
    body: '',
    notes: null,
    notes_hash: '',
    hash: '',
  }
  const insertRow = db
    .insertInto('ledger')
    .values(row)
    .onConflict((c) => c.column('id').doNothing())
  // A lease ends at nothing: a writer that was taken for dead has none left to take from.
  const left = (unit: string) =>
    sql`${sql.ref(`leased_${unit}`)} = max(0, balances.${sql.ref(`leased_${unit}`)} - ${0})`
  const used = (unit: string) => sql`${sql.ref(unit)} = balances.${sql.ref(unit)} + excluded.${sql.ref(unit)}`
  const addBalance = sql`
    insert into balances (writer, account, period, starts_at, usd, tokens, requests, tool_calls, leased_usd, leased_tokens, leased_requests, leased_tool_calls)
    values (${''}, ${''}, ${''}, ${0}, ${0}, ${0}, ${0}, ${0}, 0, 0, 0, 0)
    on conflict (account, period, starts_at, writer) do update set ${sql.join([...units.map(used), ...units.map(left)])}`
  const findWriter = db.selectFrom('writers').select('id').where('id', '=', '').where('ended_at', 'is', null)
  return {
    insertRow: insertRow.compile().sql,
    addBalance: addBalance.compile(db).sql,
    findWriter: findWriter.compile().sql,
  }
}

/** Of these lines, what was booked for those that another process recovered: their amounts, by id. */
export async function recoveredOf(db: Kysely<Tables>, ids: readonly string[]): Promise<ReadonlyMap<string, Amounts>> {
  const found = new Map<string, Amounts>()
  for (const some of slices(ids)) {
    const rows = await db
      .selectFrom('ledger')
      .select(['id', 'usd', 'tokens', 'requests', 'tool_calls', 'body'])
      .where('id', 'in', some)
      .execute()
    for (const row of rows) {
      const { outcome } = JSON.parse(row.body) as LedgerBody
      if (outcome === 'recovered') found.set(row.id, amounts(row))
    }
  }
  return found
}

export const sums = [
  sql<number>`coalesce(sum(usd), 0)`.as('usd'),
  sql<number>`coalesce(sum(tokens), 0)`.as('tokens'),
  sql<number>`coalesce(sum(requests), 0)`.as('requests'),
  sql<number>`coalesce(sum(tool_calls), 0)`.as('tool_calls'),
] as const

function added(a: UsageRow | undefined, b: UsageRow): UsageRow {
  if (a === undefined) return b
  return {
    group: b.group,
    calls: a.calls + b.calls,
    usd: a.usd + b.usd,
    tokens: a.tokens + b.tokens,
    requests: a.requests + b.requests,
    tool_calls: a.tool_calls + b.tool_calls,
  }
}

function* slices(ids: readonly string[]): Generator<readonly string[]> {
  for (let at = 0; at < ids.length; at += maxIds) yield ids.slice(at, at + maxIds)
}
