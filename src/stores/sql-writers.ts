/** Who writes, over SQL: renewing, looking around, declaring the silent dead, winding up what they left. @module */
import { randomBytes } from 'node:crypto'
import { type CompiledQuery, sql } from 'kysely'
import { chainStart } from './chain.ts'
import { alone, nowOf, type Outcome, type SqlDatabase, wake } from './database.ts'
import type { Health } from './health.ts'
import { type ChangeTable, type WriterTable, writerRow } from './schema.ts'
import type { Change, Mark, WriterStore } from './store.ts'

/** Changes are read again for this long, because a later number may be committed before an earlier one. */
const overlapMs = 15_000
/** Changes older than this have reached every process that is alive. */
const keptMs = 600_000

/** Where this process's chain ends, kept by the ledger. */
export interface Head {
  writer: string
  seq: number
  hash: string
  /** It was taken for dead and goes on under another name; the next beat tells. */
  renamed: boolean
}

/** The statement that makes a process known. */
export function register({ db, kind, place }: SqlDatabase, id: string, termMs: number): CompiledQuery {
  const now = nowOf(kind)
  const row = { id, place, started_at: now, expires_at: sql`${now} + ${termMs}`, seq: 0, hash: chainStart }
  return db
    .insertInto('writers')
    .values({ ...row, ended_at: null, wound_up_at: null } as never)
    .compile()
}

/** The id of this process in the ledger. One that was taken for dead and is not goes on under another. */
export interface OwnWriter {
  id(): string
  /** Takes a new id, unless that has happened since the process was `gone`. */
  rename(gone: string): Promise<void>
}

export function ownWriter(database: SqlDatabase, head: Head, termMs: number): OwnWriter {
  let renaming: Promise<void> | null = null

  async function begin(): Promise<void> {
    const writer = newWriter()
    await database.batch([register(database, writer, termMs)])
    Object.assign(head, { writer, seq: 0, hash: chainStart, renamed: true })
  }

  return {
    id: () => head.writer,
    async rename(gone) {
      if (head.writer !== gone) return
      renaming ??= begin().finally(() => {
        renaming = null
      })
      await renaming
    },
  }
}

export function newWriter(): string {
  return `w_${randomBytes(10).toString('hex')}`
}

/** @param onTold called when other processes have something to look at */
export function writerStore(
  database: SqlDatabase,
  health: Health,
  head: Head,
  own: OwnWriter,
  onTold: () => void,
): WriterStore {
  const { db, kind, marks } = database
  const now = nowOf(kind)
  const run = (statements: readonly CompiledQuery[]) => health.watch(database.batch(statements))
  /** Nothing is in memory yet that an older change could have made stale. */
  let since = Number.MAX_SAFE_INTEGER
  let seen = new Map<number, number>()

  /** What was not told before; numbers are remembered as long as they are read again. */
  function fresh(rows: readonly ChangeTable[]): Change[] {
    const found = rows.map((row) => ({
      seq: Number(row.seq),
      at: Number(row.at),
      kind: row.kind,
      subject: row.subject,
    }))
    const told = found.filter(({ seq }) => !seen.has(seq))
    seen = new Map(found.map(({ seq, at }) => [seq, at]))
    return told
  }

  return {
    get id() {
      return head.writer
    },
    get head() {
      return { ...head }
    },
    async beat(termMs) {
      const { writer, seq, hash } = head
      // Postgres keeps the head of the chain with every post.
      const chain = kind === 'sqlite' ? { seq, hash } : {}
      const renew = db
        .updateTable('writers')
        .set({ expires_at: sql`${now} + ${termMs}`, ...chain } as never)
        .where('id', '=', writer)
        .where('ended_at', 'is', null)
      const looked = await run([
        renew.compile(),
        db.deleteFrom('changes').where('at', '<', sql<number>`${now} - ${keptMs}`).compile(),
        sql`select ${now} as now`.compile(db),
        db.selectFrom('changes').selectAll().where('at', '>=', since).orderBy('seq').compile(),
        db.selectFrom('writers').selectAll().where('wound_up_at', 'is', null).orderBy('id').compile(),
      ])
      const [renewed, , clock, changes, writers] = looked as [Outcome, Outcome, Outcome, Outcome, Outcome]
      if (renewed.changes === 0) await own.rename(writer)
      const alive = !head.renamed
      head.renamed = false
      const at = Number((clock.rows[0] as { now: number }).now)
      since = at - overlapMs
      return {
        now: at,
        alive,
        changes: fresh(changes.rows as ChangeTable[]),
        writers: (writers.rows as WriterTable[]).map(writerRow),
      }
    },
    async announce(changes) {
      const rows = changes.map(({ kind: what, subject }) => ({ at: now, kind: what, subject }))
      if (rows.length === 0) return
      const told = db.insertInto('changes').values(rows as never)
      await run([told.compile(), ...wake(database)])
      onTold()
    },
    mark(added) {
      const kept = marks.add(head.writer, added)
      // A file of its own says nothing about the database.
      return kept instanceof Promise && kind === 'postgres' ? health.watch(kept) : kept
    },
    unmark: (ids) => marks.forget(head.writer, ids),
    gone: ({ place }) => database.gone(place),
    async marksOf(writer) {
      const found = await marks.of(writer)
      const booked = new Set<string>()
      for (let at = 0; at < found.length; at += 1000) {
        const ids = found.slice(at, at + 1000).map(({ line }) => line.id)
        const rows = await db.selectFrom('ledger').select('id').where('id', 'in', ids).execute()
        for (const { id } of rows) booked.add(id)
      }
      return found.filter(({ line }) => !booked.has(line.id)) as Mark[]
    },
    async fence({ id, expiresAt }) {
      const dead = db
        .updateTable('writers')
        .set({ ended_at: now } as never)
        .where('id', '=', id)
        .where('expires_at', '=', expiresAt)
        .where('ended_at', 'is', null)
      const [fenced] = await run([dead.compile()])
      return (fenced?.changes ?? 0) > 0
    },
    async windUp(writer) {
      const left = db.selectFrom('balances').selectAll().where('writer', '=', writer)
      const names = ['usd', 'tokens', 'requests', 'tool_calls'] as const
      const sums = names.map((name) => sql`${sql.ref(name)} = balances.${sql.ref(name)} + excluded.${sql.ref(name)}`)
      const lock = db.selectFrom('writers').select('id').where('id', '=', writer)
      // What this process says last is where its chain really ends.
      const told = writer === head.writer ? { seq: head.seq, hash: head.hash } : {}
      await run([
        ...alone(database),
        (kind === 'postgres' ? lock.forUpdate() : lock).compile(),
        // Only once: a second process doing the same finds nothing left.
        sql`insert into balances (account, period, starts_at, writer, usd, tokens, requests, tool_calls, leased_usd, leased_tokens, leased_requests, leased_tool_calls)
          select account, period, starts_at, '', usd, tokens, requests, tool_calls, 0, 0, 0, 0 from (${left}) gone where true
          on conflict (account, period, starts_at, writer) do update set ${sql.join(sums)}`.compile(db),
        db.deleteFrom('balances').where('writer', '=', writer).compile(),
        db
          .updateTable('writers')
          .set({ wound_up_at: now, ended_at: sql`coalesce(ended_at, ${now})`, ...told } as never)
          .where('id', '=', writer)
          .compile(),
      ])
      await marks.drop(writer)
    },
  }
}
