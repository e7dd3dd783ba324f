/** Forgetting over SQL: notes that are erased, and first lines of chains that are replaced by a checkpoint. @module */
import { type CompiledQuery, sql } from 'kysely'
import { units } from '../call.ts'
import type { SqlDatabase } from './database.ts'
import type { Health } from './health.ts'
import { limitOf } from './sql-accounts.ts'
import type { Prefix, RetentionStore } from './store.ts'

/** Rows and ids of one statement: a commit of the ledger waits for no more than that. */
const batchRows = 500

export function retentionStore(database: SqlDatabase, health: Health): RetentionStore {
  const { db, kind } = database
  const run = (statements: readonly CompiledQuery[]) => health.watch(database.batch(statements))

  /** Erases in batches until nothing is left of these accounts. */
  async function eraseOf(accounts: readonly string[]): Promise<number> {
    for (let erased = 0; ; ) {
      const some = db
        .selectFrom('ledger')
        .select('id')
        .where('account', 'in', accounts)
        .where('notes', 'is not', null)
        .limit(batchRows)
      const [outcome] = await run([db.updateTable('ledger').set({ notes: null }).where('id', 'in', some).compile()])
      erased += outcome?.changes ?? 0
      if ((outcome?.changes ?? 0) < batchRows) return erased
    }
  }

  return {
    async eraseNotes(accounts) {
      let erased = 0
      for (let at = 0; at < accounts.length; at += batchRows) {
        const some = accounts.slice(at, at + batchRows)
        erased += await eraseOf(some)
        // What administrators sent about them.
        await run([db.updateTable('audit').set({ detail: null }).where('subject', 'in', some).compile()])
      }
      // The log still holds the pages as they were before.
      if (kind === 'sqlite') await run([sql`pragma wal_checkpoint(truncate)`.compile(db)])
      return erased
    },
    async eraseNotesBefore(before, page) {
      let query = db.selectFrom('ledger').select(['id', 'at', 'notes_hash']).orderBy('id').limit(limitOf(page))
      if (page.after !== undefined) query = query.where('id', '>', page.after)
      const rows = await query.execute()
      // Ids sort by when calls entered: behind the first that is younger there is nothing to erase.
      const young = rows.findIndex(({ at }) => Number(at) >= before)
      const old = young === -1 ? rows : rows.slice(0, young)
      const ids = old.filter(({ notes_hash }) => notes_hash !== '').map(({ id }) => id)
      if (ids.length > 0) await run([db.updateTable('ledger').set({ notes: null }).where('id', 'in', ids).compile()])
      return old.at(-1)?.id ?? null
    },
    async checkpoints() {
      const rows = await db.selectFrom('checkpoints').select(['writer', 'seq']).execute()
      return new Map(rows.map(({ writer, seq }) => [writer, Number(seq)]))
    },
    async remove({ writer, after, last, ids, sums }: Prefix) {
      const lock = db.selectFrom('writers').select('id').where('id', '=', writer)
      // Of two processes at the same rows the second finds another checkpoint, and does nothing.
      const due = sql<boolean>`coalesce((select seq from checkpoints where writer = ${writer}), 0) = ${after}`
      const more = units.map((unit) => sql`${sql.ref(unit)} = removed.${sql.ref(unit)} + excluded.${sql.ref(unit)}`)
      const outcomes = await run([
        (kind === 'postgres' ? lock.forUpdate() : lock).compile(),
        ...sums.map(({ account, usd, tokens, requests, tool_calls }) =>
          sql`insert into removed (account, usd, tokens, requests, tool_calls)
            select cast(${account} as text), cast(${usd} as bigint), cast(${tokens} as bigint),
              cast(${requests} as bigint), cast(${tool_calls} as bigint) where ${due}
            on conflict (account) do update set ${sql.join(more)}`.compile(db),
        ),
        db.deleteFrom('ledger').where('id', 'in', ids).where(due).compile(),
        sql`insert into checkpoints (writer, seq, hash)
          select cast(${writer} as text), cast(${last.seq} as bigint), cast(${last.hash} as text) where ${due}
          on conflict (writer) do update set seq = excluded.seq, hash = excluded.hash`.compile(db),
      ])
      return (outcomes.at(-2)?.changes ?? 0) > 0
    },
    async forgetWindows(before) {
      await run([db.deleteFrom('balances').where('period', '!=', 'total').where('starts_at', '<', before).compile()])
    },
  }
}
