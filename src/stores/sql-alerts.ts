/** Thresholds that were reached and messages on their way, over SQL. The once-guard is a primary key. @module */
import { type CompiledQuery, sql } from 'kysely'
import type { SqlDatabase } from './database.ts'
import type { Health } from './health.ts'
import type { DeliveryTable } from './schema.ts'
import type { AlertStore, Delivery } from './store.ts'

const day = 86_400_000
/** Messages that ended are kept this long, for whoever looks. */
const keptMs = 30 * day
/** Longer than any window but `total`: what was told of windows before cannot come again. */
const guardedMs = 62 * day

export function alertStore(database: SqlDatabase, health: Health): AlertStore {
  const { db } = database
  const run = (statements: readonly CompiledQuery[]) => health.watch(database.batch(statements))
  const one = ({ id, url }: Delivery) =>
    db.updateTable('deliveries').where('id', '=', id).where('url', '=', url).where('ended_at', 'is', null)

  return {
    async note(crossing, { id, event, body, at, urls }) {
      const statements: CompiledQuery[] = []
      if (crossing !== null) {
        const { startsAt, ...key } = crossing
        const row = { ...key, starts_at: startsAt, id, at }
        const note = db
          .insertInto('alerts')
          .values(row)
          .onConflict((c) => c.doNothing())
        const old = db
          .deleteFrom('alerts')
          .where('period', '!=', 'total')
          .where('at', '<', at - guardedMs)
        statements.push(note.compile(), old.compile())
      }
      const first =
        crossing === null ? sql`true` : sql`exists (select 1 from alerts where ${guard(crossing)} and id = ${id})`
      for (const url of urls) {
        statements.push(
          sql`insert into deliveries (id, url, event, body, created_at, attempts, next_at)
            select ${id}, ${url}, ${event}, ${body}, cast(${at} as bigint), 0, cast(${at} as bigint) where ${first}`.compile(
            db,
          ),
        )
      }
      const [noted] = statements.length === 0 ? [] : await run(statements)
      return crossing === null || (noted?.changes ?? 0) > 0
    },
    async due(url, now, most) {
      const rows = await db
        .selectFrom('deliveries')
        .selectAll()
        .where('url', '=', url)
        .where('ended_at', 'is', null)
        .where('next_at', '<=', now)
        .orderBy('next_at')
        .limit(most)
        .execute()
      return rows.map(deliveryOf)
    },
    async claim(delivery, until) {
      const attempts = delivery.attempts + 1
      const claim = one(delivery).set({ next_at: until, attempts }).where('next_at', '=', delivery.nextAt)
      const [claimed] = await run([claim.compile()])
      return (claimed?.changes ?? 0) > 0 ? { ...delivery, attempts, nextAt: until } : null
    },
    async again(claimed, nextAt) {
      await run([one(claimed).set({ next_at: nextAt }).where('next_at', '=', claimed.nextAt).compile()])
    },
    async end(claimed, outcome, at) {
      const old = db.deleteFrom('deliveries').where('ended_at', '<', at - keptMs)
      await run([one(claimed).set({ ended_at: at, outcome }).compile(), old.compile()])
    },
  }
}

function guard({ account, unit, period, startsAt, threshold, max }: Parameters<AlertStore['note']>[0] & object) {
  return sql`account = ${account} and unit = ${unit} and period = ${period} and starts_at = ${startsAt}
    and threshold = ${threshold} and max = ${max}`
}

function deliveryOf(row: DeliveryTable): Delivery {
  return {
    id: row.id,
    url: row.url,
    event: row.event,
    body: row.body,
    createdAt: Number(row.created_at),
    attempts: Number(row.attempts),
    nextAt: Number(row.next_at),
  }
}
