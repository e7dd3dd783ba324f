/**
 * The ledger's hot path in Postgres: three trips for a group of any size. The writer's own row holds the head of its
 * chain and is locked while the group is written, so that nobody declares it dead meanwhile, and so that the chain goes
 * on where it ended also after a commit whose outcome was never heard.
 * @module
 */
import type pg from 'pg'
import { units } from '../call.ts'
import { chainHash } from './chain.ts'
import type { Posted } from './database.ts'
import { type LedgerGroup, postingWidth } from './ledger.ts'

const find = {
  name: 'gatehouse_head',
  text: 'select seq, hash from writers where id = $1 and ended_at is null for no key update',
}

const lineColumns = [
  ['id', 'text'],
  ['seq', 'bigint'],
  ['account', 'text'],
  ['at', 'bigint'],
  ['booked', 'bigint'],
  ['usd', 'bigint'],
  ['tokens', 'bigint'],
  ['requests', 'bigint'],
  ['tool_calls', 'bigint'],
  ['body', 'text'],
  ['notes', 'text'],
  ['notes_hash', 'text'],
  ['hash', 'text'],
] as const

const postingColumns = [
  ['account', 'text'],
  ['period', 'text'],
  ['starts_at', 'bigint'],
  ...units.map((unit) => [unit, 'bigint'] as const),
  ...units.map((unit) => [`leased_${unit}`, 'bigint'] as const),
] as const

const write = { name: 'gatehouse_post', text: writeText() }

/** Lines in the order of their ids and balances in the order of their keys, against deadlocks. */
function writeText(): string {
  const names = (columns: readonly (readonly [string, string])[]) => columns.map(([name]) => name).join(', ')
  const arrays = (columns: readonly (readonly [string, string])[], from: number) =>
    columns.map(([, type], index) => `$${from + index}::${type}[]`).join(', ')
  const each = (text: (unit: string) => string) => units.map(text).join(', ')
  return `
    with lines as (
      insert into ledger (writer, ${names(lineColumns)})
      select $1, ${names(lineColumns)} from unnest(${arrays(lineColumns, 4)}) as l (${names(lineColumns)})
      order by id collate "C"
      on conflict (id) do nothing returning id
    ), sums as (
      select account, period, starts_at, ${each((u) => `sum(${u})::bigint as ${u}, sum(leased_${u})::bigint as leased_${u}`)}
      from unnest(${arrays(postingColumns, 4 + lineColumns.length)}) as p (${names(postingColumns)})
      group by account, period, starts_at
    ), booked as (
      insert into balances (writer, account, period, starts_at, ${each((u) => `${u}, leased_${u}`)})
      select $1, s.account, s.period, s.starts_at,
        ${each((u) => `s.${u}, case when b.writer is null then 0 else -s.leased_${u} end`)}
      from sums s left join balances b
        on b.account = s.account and b.period = s.period and b.starts_at = s.starts_at and b.writer = $1
      order by s.account collate "C", s.period collate "C", s.starts_at
      on conflict (account, period, starts_at, writer) do update set
        ${each((u) => `${u} = balances.${u} + excluded.${u}, leased_${u} = greatest(0, balances.leased_${u} + excluded.leased_${u})`)}
    ), head as (
      update writers set seq = $2, hash = $3 where id = $1
    )
    select id from lines`
}

/** Writes a group as the writer's next lines: all of it, or nothing where a line is there already. */
export async function postGroup(client: pg.Client, writer: string, group: LedgerGroup): Promise<Posted> {
  try {
    const [, found] = await together([client.query('begin'), client.query({ ...find, values: [writer] })])
    const head = found?.rows[0] as { seq: string; hash: string } | undefined
    if (head === undefined) {
      await client.query('rollback')
      return { fenced: true }
    }
    const before = { seq: Number(head.seq), hash: head.hash }
    const { columns, seq, hash } = chained(group, before)
    const values = [writer, seq, hash, ...columns, ...postingsOf(group)]
    const written = await client.query({ ...write, values })
    const known = missing(columns[0] as readonly string[], written.rows as readonly { id: string }[])
    // Balances were added up and lines chained over all of them; with one already there it has to be made anew.
    await client.query(known.length > 0 ? 'rollback' : 'commit')
    return known.length > 0 ? { known, ...before } : { known, seq, hash }
  } catch (error) {
    // Where the connection is lost, so is the transaction, or it is committed.
    await client.query('rollback').catch(() => undefined)
    throw error
  }
}

/** Sent at once; rejects with the first failure when all have ended. */
export async function together(queries: readonly Promise<pg.QueryResult>[]): Promise<readonly pg.QueryResult[]> {
  const ends = await Promise.allSettled(queries)
  return ends.map((end) => {
    if (end.status === 'rejected') throw end.reason
    return end.value
  })
}

function chained(group: LedgerGroup, before: { readonly seq: number; readonly hash: string }) {
  const columns = lineColumns.map((): (string | number | null)[] => [])
  let { seq, hash } = before
  for (const [index, text] of group.lines.split('\n').entries()) {
    const [id, account, at, booked, usd, tokens, requests, calls, digest, body] = text.split('\t') as string[]
    hash = chainHash(hash, ++seq, text)
    const notes = group.notes?.[index] ?? null
    const row = [id, seq, account, at, booked, usd, tokens, requests, calls, body, notes, digest, hash]
    for (const [at, value] of row.entries()) columns[at]?.push(value as string | number | null)
  }
  return { columns, seq, hash }
}

function postingsOf({ postings }: LedgerGroup): unknown[][] {
  const columns = postingColumns.map((): unknown[] => [])
  for (const [index, value] of postings.entries()) columns[index % postingWidth]?.push(value)
  return columns
}

/** Indexes of lines that were not written; an id that comes twice is written once. */
function missing(ids: readonly string[], written: readonly { readonly id: string }[]): number[] {
  if (written.length === ids.length) return []
  const fresh = new Set(written.map(({ id }) => id))
  return [...ids.keys()].filter((index) => !fresh.delete(ids[index] as string))
}
