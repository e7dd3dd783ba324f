/** The account tree and the keys over SQL. @module */
import { type Kysely, sql } from 'kysely'
import { nowOf, type SqlDatabase, wake } from './database.ts'
import type { Health } from './health.ts'
import { accountColumns, accountPatch, accountRow, keyRow, type Tables } from './schema.ts'
import type { AccountStore, KeyStore, Page } from './store.ts'

/** Deepest path read; the tree itself is kept far flatter. */
const maxPath = 33

/** @param onTold called when other processes have something to look at */
export function accountStore(database: SqlDatabase, health: Health, onTold: () => void): AccountStore {
  const { db, kind } = database
  return {
    async insert(account, key) {
      const statements = [db.insertInto('accounts').values(accountColumns(account)).compile()]
      if (key !== null) {
        const row = { id: key.id, digest: key.digest, created_at: key.createdAt }
        statements.push(db.insertInto('keys').values(row).compile())
      }
      await health.watch(database.batch(statements))
    },
    async update(id, patch, only) {
      const columns = { ...accountPatch(patch), version: sql<number>`version + 1` }
      const told = { at: nowOf(kind), kind: 'account' as const, subject: id }
      let change = db.updateTable('accounts').set(columns).where('id', '=', id)
      if (only !== undefined) change = change.where('version', '=', only)
      const [changed, , version] = await health.watch(
        database.batch([
          change.compile(),
          db
            .insertInto('changes')
            .values(told as never)
            .compile(),
          db.selectFrom('accounts').select('version').where('id', '=', id).compile(),
          ...wake(database),
        ]),
      )
      const row = version?.rows[0] as { version: number } | undefined
      if (row === undefined || changed?.changes === 0) return null
      onTold()
      return Number(row.version)
    },
    async get(id) {
      const row = await db.selectFrom('accounts').selectAll().where('id', '=', id).executeTakeFirst()
      return row === undefined ? null : accountRow(row)
    },
    async path(id) {
      const rows = await db
        .withRecursive('path(id, parent, depth)', (q) =>
          q
            .selectFrom('accounts')
            .select(['accounts.id', 'accounts.parent', sql<number>`1`.as('depth')])
            .where('accounts.id', '=', id)
            .unionAll(
              q
                .selectFrom('accounts')
                .innerJoin('path', 'path.parent', 'accounts.id')
                .select(['accounts.id', 'accounts.parent', sql<number>`path.depth + 1`.as('depth')])
                .where('path.depth', '<', maxPath),
            ),
        )
        .selectFrom('path')
        .innerJoin('accounts', 'accounts.id', 'path.id')
        .selectAll('accounts')
        .orderBy('path.depth')
        .execute()
      return rows.map(accountRow)
    },
    async subtree(id) {
      const rows = await tree(db, id)
        .selectFrom('accounts')
        .selectAll()
        .where('id', 'in', (q) => q.selectFrom('tree').select('tree.id'))
        .orderBy('id')
        .execute()
      return rows.map(accountRow)
    },
    async list(filter, page) {
      let query = db.selectFrom('accounts').selectAll().orderBy('id').limit(limitOf(page))
      if (filter.kind !== undefined) query = query.where('kind', '=', filter.kind)
      if (filter.parent !== undefined) query = query.where('parent', '=', filter.parent)
      if (page.after !== undefined) query = query.where('id', '>', page.after)
      return (await query.execute()).map(accountRow)
    },
  }
}

export function keyStore({ db }: SqlDatabase): KeyStore {
  return {
    async byDigest(digest) {
      const row = await db.selectFrom('keys').selectAll().where('digest', '=', digest).executeTakeFirst()
      return row === undefined ? null : keyRow(row)
    },
  }
}

/** `tree`: the ids of an account and everything below it. `union` drops repeats, so a broken tree still ends. */
export function tree(db: Kysely<Tables>, id: string) {
  return db.withRecursive('tree(id)', (q) =>
    q
      .selectFrom('accounts')
      .select('accounts.id')
      .where('accounts.id', '=', id)
      .union(q.selectFrom('accounts').innerJoin('tree', 'tree.id', 'accounts.parent').select('accounts.id')),
  )
}

export function limitOf(page: Page): number {
  if (!Number.isInteger(page.limit) || page.limit < 1 || page.limit > 1000) {
    throw new RangeError(`a page has 1 to 1000 rows, not ${page.limit}`)
  }
  return page.limit
}
