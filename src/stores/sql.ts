/** The store over a SQL database: one layer for every database Kysely speaks to. @module */
import type { CompiledQuery, Kysely } from 'kysely'
import { chainStart } from './chain.ts'
import type { SqlDatabase } from './database.ts'
import { type HealthOptions, watchHealth } from './health.ts'
import { type GroupCommit, type GroupOptions, groupCommit, type LedgerGroup, postingWidth } from './ledger.ts'
import type { Tables } from './schema.ts'
import { accountStore, keyStore } from './sql-accounts.ts'
import { alertStore } from './sql-alerts.ts'
import { auditStore } from './sql-audit.ts'
import { balanceStore, leaseStore } from './sql-leases.ts'
import { ledgerReader, recoveredOf } from './sql-ledger.ts'
import { retentionStore } from './sql-retention.ts'
import { type Head, newWriter, ownWriter, register, writerStore } from './sql-writers.ts'
import type { SettingStore, Store } from './store.ts'

export interface SqlOptions extends HealthOptions, GroupOptions {
  /** How long this process is taken for alive after it was last heard of, ms. */
  readonly termMs?: number
  /** Called after something was told to the other processes, so that they can be woken. */
  readonly onTold?: () => void
}

/** A process renews every second; what it leased is given out again this long after its last word. */
export const defaultTermMs = 15_000

/** Opens the store over a migrated database and makes this process known as a writer. */
export async function sqlStore(database: SqlDatabase, options: SqlOptions = {}): Promise<Store> {
  const { db } = database
  const { termMs = defaultTermMs, onTold = () => {} } = options
  const health = watchHealth(() => database.batch([setting(db, 'probe', 'ok')]), options)
  const head: Head = { writer: newWriter(), seq: 0, hash: chainStart, renamed: false }
  await database.batch([register(database, head.writer, termMs)])
  const own = ownWriter(database, head, termMs)
  const ledger: GroupCommit = groupCommit((group) => health.watch(post(group)), options, {
    id: own.id,
    recovered: (ids) => recoveredOf(db, ids),
  })
  const balances = balanceStore(database, health)
  const writers = writerStore(database, health, head, own, onTold)
  let closed: Promise<void> | null = null

  async function post(group: LedgerGroup): Promise<readonly number[]> {
    const { writer } = head
    const posted = await database.post(writer, group)
    if ('fenced' in posted) {
      await own.rename(writer)
      return post(withoutLeases(group))
    }
    if (posted.known.length === 0 && head.writer === writer) Object.assign(head, { seq: posted.seq, hash: posted.hash })
    return posted.known
  }

  async function close(): Promise<void> {
    await ledger.close()
    try {
      if (database.alive()) await writers.windUp(head.writer)
    } finally {
      health.stop()
      await database.close()
    }
  }

  return {
    accounts: accountStore(database, health, onTold),
    keys: keyStore(database),
    balances: {
      ...balances,
      // What is on its way was made before the counter was known, and would be missing in it.
      recount: (key, endsAt) => ledger.settled().then(() => balances.recount(key, endsAt)),
    },
    leases: leaseStore(database, health, own),
    ledger: { append: ledger.append, ...ledgerReader(database.kind, db) },
    retention: retentionStore(database, health),
    writers,
    audit: auditStore(database, head.writer, (statements) => health.watch(database.batch(statements))),
    settings: settingStore(database, (statements) => health.watch(database.batch(statements))),
    alerts: alertStore(database, health),
    healthy: () => health.healthy() && database.alive(),
    close() {
      closed ??= close()
      return closed
    },
  }
}

/** The same group, taking nothing from leases. */
function withoutLeases(group: LedgerGroup): LedgerGroup {
  return { ...group, postings: group.postings.map((value, at) => (at % postingWidth < 7 ? value : 0)) }
}

type Write = (statements: readonly CompiledQuery[]) => Promise<unknown>

function settingStore({ db }: SqlDatabase, write: Write): SettingStore {
  return {
    async get(name) {
      const row = await db.selectFrom('settings').select('value').where('name', '=', name).executeTakeFirst()
      return row?.value ?? null
    },
    async set(name, value) {
      await write([setting(db, name, value)])
    },
  }
}

/** Also the smallest write that reaches the disk. */
function setting(db: Kysely<Tables>, name: string, value: string): CompiledQuery {
  return db
    .insertInto('settings')
    .values({ name, value })
    .onConflict((c) => c.column('name').doUpdateSet({ value }))
    .compile()
}
