/** The audit trail over SQL: one chain of rows per process, written one append after another. @module */
import type { CompiledQuery } from 'kysely'
import { auditText, chainHash, chainStart, digestOf } from './chain.ts'
import type { SqlDatabase } from './database.ts'
import { limitOf } from './sql-accounts.ts'
import type { AuditRow, AuditStore } from './store.ts'

/**
 * @param writer names the chain of this process
 * @param write runs statements in one transaction
 */
export function auditStore(
  { db }: SqlDatabase,
  writer: string,
  write: (statements: readonly CompiledQuery[]) => Promise<unknown>,
): AuditStore {
  let head = { writer, seq: 0, hash: chainStart }
  /** After a write whose outcome is not known the database says where the chain ends. */
  let sure = true
  let last: Promise<unknown> = Promise.resolve()

  async function append(rows: readonly AuditRow[]): Promise<void> {
    if (!sure) head = await found()
    let { seq, hash } = head
    const statements = rows.map((row) => {
      const allowed = row.allowed ? 1 : 0
      const digest = digestOf(row.detail)
      seq++
      hash = chainHash(hash, seq, auditText({ ...row, allowed }, digest))
      return db
        .insertInto('audit')
        .values({ ...row, allowed, writer, seq, detail_hash: digest, hash })
        .compile()
    })
    sure = false
    await write(statements)
    sure = true
    head = { writer, seq, hash }
  }

  async function found(): Promise<typeof head> {
    const row = await db
      .selectFrom('audit')
      .select(['seq', 'hash'])
      .where('writer', '=', writer)
      .orderBy('seq', 'desc')
      .limit(1)
      .executeTakeFirst()
    return { writer, seq: Number(row?.seq ?? 0), hash: row?.hash ?? chainStart }
  }

  return {
    get head() {
      return head
    },
    append(rows) {
      if (rows.length === 0) return Promise.resolve()
      const mine = last.then(() => append(rows))
      last = mine.catch(() => undefined)
      return mine
    },
    async page(page) {
      let query = db
        .selectFrom('audit')
        .select(['id', 'at', 'actor', 'action', 'subject', 'allowed', 'detail'])
        .orderBy('id')
        .limit(limitOf(page))
      if (page.after !== undefined) query = query.where('id', '>', page.after)
      const rows = await query.execute()
      return rows.map((row) => ({ ...row, at: Number(row.at), allowed: Number(row.allowed) === 1 }))
    },
  }
}
