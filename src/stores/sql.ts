/** The store over a SQL database: every query is here, once, for every database Kysely speaks to. @module */
import { type CompiledQuery, type Kysely, sql } from 'kysely'
import type { Amounts, Window } from '../call.ts'
import { type HealthOptions, watchHealth } from './health.ts'
import { type GroupCommit, type GroupOptions, groupCommit, type Post } from './ledger.ts'
import {
  accountColumns,
  accountPatch,
  accountRow,
  type BalanceTable,
  keyRow,
  type LedgerTable,
  ledgerColumns,
  ledgerRow,
  type Tables,
} from './schema.ts'
import type { Page, Store, UsageRow } from './store.ts'

/** What a database gives the store beside queries. */
export interface SqlDatabase {
  readonly db: Kysely<Tables>
  /** Runs the statements in one transaction. */
  batch(statements: readonly CompiledQuery[]): Promise<unknown>
  readonly post: Post
  /** False once nothing can be asked any more. */
  alive(): boolean
  close(): Promise<void>
}

export interface SqlOptions extends HealthOptions, GroupOptions {}

/** Deepest path read; the tree itself is kept far flatter. */
const maxPath = 33
/** Most ids in one IN list, below every database's parameter limit. */
const maxIds = 10_000

/** Opens the store over a migrated database. */
export function sqlStore(database: SqlDatabase, options: SqlOptions = {}): Store {
  const { db } = database
  const health = watchHealth(() => database.batch([probe(db)]), options)
  const ledger: GroupCommit = groupCommit((group) => health.watch(database.post(group)), options)
  const write = (statements: readonly CompiledQuery[]) => health.watch(database.batch(statements))
  let closed: Promise<void> | null = null

  return {
    accounts: {
      async insert(account, key) {
        const statements = [db.insertInto('accounts').values(accountColumns(account)).compile()]
        if (key !== null) {
          const row = { id: key.id, digest: key.digest, created_at: key.createdAt }
          statements.push(db.insertInto('keys').values(row).compile())
        }
        await write(statements)
      },
      async update(id, patch) {
        const columns = accountPatch(patch)
        if (Object.keys(columns).length === 0) {
          const found = await db.selectFrom('accounts').select('id').where('id', '=', id).executeTakeFirst()
          return found !== undefined
        }
        const result = await health.watch(
          db.updateTable('accounts').set(columns).where('id', '=', id).executeTakeFirst(),
        )
        return result.numUpdatedRows > 0n
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
      async balances(id) {
        const rows = await db
          .selectFrom('balances')
          .selectAll()
          .where('account', '=', id)
          .orderBy('period')
          .orderBy('starts_at')
          .execute()
        return rows.map((row) => ({
          account: row.account,
          window: row.period as Window,
          startsAt: Number(row.starts_at),
          ...amounts(row),
        }))
      },
      async addBalance({ account, window, startsAt, ...sums }) {
        const row = { account, period: window, starts_at: startsAt, ...amounts(sums) }
        await write([addition(db, row)])
      },
    },
    keys: {
      async byDigest(digest) {
        const row = await db.selectFrom('keys').selectAll().where('digest', '=', digest).executeTakeFirst()
        return row === undefined ? null : keyRow(row)
      },
    },
    ledger: {
      append: ledger.append,
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
      async page(page) {
        let query = db.selectFrom('ledger').selectAll().orderBy('id').limit(limitOf(page))
        if (page.after !== undefined) query = query.where('id', '>', page.after)
        return (await query.execute()).map(ledgerRow)
      },
      async sumSince(account, since) {
        const row = await tree(db, account)
          .selectFrom('ledger')
          .select(sums)
          .where('account', 'in', (q) => q.selectFrom('tree').select('tree.id'))
          .where('at', '>=', since)
          .executeTakeFirstOrThrow()
        return amounts(row)
      },
      async usage(groupBy, since, accounts) {
        const groups = new Map<string | null, UsageRow>()
        for (const some of accounts === undefined ? [null] : slices(accounts)) {
          let query = db
            .selectFrom('ledger')
            .select([`${groupBy} as group`])
            .select(sums)
            .select(sql<number>`count(*)`.as('calls'))
            .where('at', '>=', since)
            .groupBy(groupBy)
            .orderBy(groupBy)
          if (some !== null) query = query.where('account', 'in', some)
          for (const row of await query.execute()) {
            groups.set(row.group, added(groups.get(row.group), { ...row, ...amounts(row), calls: Number(row.calls) }))
          }
        }
        return [...groups.values()]
      },
    },
    audit: {
      async append(rows) {
        if (rows.length === 0) return
        const values = rows.map((row) => ({ ...row, allowed: row.allowed ? 1 : 0 }))
        await write(values.map((value) => db.insertInto('audit').values(value).compile()))
      },
      async page(page) {
        let query = db.selectFrom('audit').selectAll().orderBy('id').limit(limitOf(page))
        if (page.after !== undefined) query = query.where('id', '>', page.after)
        const rows = await query.execute()
        return rows.map((row) => ({ ...row, at: Number(row.at), allowed: Number(row.allowed) === 1 }))
      },
    },
    settings: {
      async get(name) {
        const row = await db.selectFrom('settings').select('value').where('name', '=', name).executeTakeFirst()
        return row?.value ?? null
      },
      async set(name, value) {
        await write([setting(db, name, value)])
      },
    },
    healthy: () => health.healthy() && database.alive(),
    close() {
      closed ??= ledger.close().then(() => {
        health.stop()
        return database.close()
      })
      return closed
    },
  }
}

export const balanceColumns = ['account', 'period', 'starts_at', 'usd', 'tokens', 'requests', 'tool_calls'] as const

/** The two statements of the hot path, with placeholders in the order of `ledgerColumns` and `balanceColumns`. */
export function ledgerStatements(db: Kysely<Tables>): { readonly insertRow: string; readonly addBalance: string } {
  const row = Object.fromEntries(ledgerColumns.map((name) => [name, 0])) as unknown as LedgerTable
  const balance = { account: '', period: 'total', starts_at: 0, usd: 0, tokens: 0, requests: 0, tool_calls: 0 } as const
  return {
    insertRow: db
      .insertInto('ledger')
      .values(row)
      .onConflict((c) => c.column('id').doNothing())
      .compile().sql,
    addBalance: addition(db, balance).sql,
  }
}

function addition(db: Kysely<Tables>, row: BalanceTable): CompiledQuery {
  return db
    .insertInto('balances')
    .values(row)
    .onConflict((c) =>
      c.columns(['account', 'period', 'starts_at']).doUpdateSet({
        usd: sql`balances.usd + excluded.usd`,
        tokens: sql`balances.tokens + excluded.tokens`,
        requests: sql`balances.requests + excluded.requests`,
        tool_calls: sql`balances.tool_calls + excluded.tool_calls`,
      }),
    )
    .compile()
}

const sums = [
  sql<number>`coalesce(sum(usd), 0)`.as('usd'),
  sql<number>`coalesce(sum(tokens), 0)`.as('tokens'),
  sql<number>`coalesce(sum(requests), 0)`.as('requests'),
  sql<number>`coalesce(sum(tool_calls), 0)`.as('tool_calls'),
] as const

function amounts(row: Amounts): Amounts {
  return {
    usd: Number(row.usd),
    tokens: Number(row.tokens),
    requests: Number(row.requests),
    tool_calls: Number(row.tool_calls),
  }
}

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

/** `tree`: the ids of an account and everything below it. `union` drops repeats, so a broken tree still ends. */
function tree(db: Kysely<Tables>, id: string) {
  return db.withRecursive('tree(id)', (q) =>
    q
      .selectFrom('accounts')
      .select('accounts.id')
      .where('accounts.id', '=', id)
      .union(q.selectFrom('accounts').innerJoin('tree', 'tree.id', 'accounts.parent').select('accounts.id')),
  )
}

function limitOf(page: Page): number {
  if (!Number.isInteger(page.limit) || page.limit < 1 || page.limit > 1000) {
    throw new RangeError(`a page has 1 to 1000 rows, not ${page.limit}`)
  }
  return page.limit
}

function setting(db: Kysely<Tables>, name: string, value: string): CompiledQuery {
  return db
    .insertInto('settings')
    .values({ name, value })
    .onConflict((c) => c.column('name').doUpdateSet({ value }))
    .compile()
}

/** The smallest write that reaches the disk. */
function probe(db: Kysely<Tables>): CompiledQuery {
  return setting(db, 'probe', 'ok')
}
