/**
 * Leases over SQL. What a writer has set aside of a counter stands in its own balance row; giving it more is one
 * statement that looks at all writers, in a transaction that holds the account's row, so that two processes are never
 * given the same money.
 * @module
 */
import { type CompiledQuery, sql } from 'kysely'
import { type Amounts, add, units, zero } from '../call.ts'
import { alone, type Outcome, type SqlDatabase } from './database.ts'
import type { Health } from './health.ts'
import { amounts, type BalanceTable, balanceRow } from './schema.ts'
import { tree } from './sql-accounts.ts'
import { sums } from './sql-ledger.ts'
import type { OwnWriter } from './sql-writers.ts'
import type { BalanceStore, LeaseAnswer, LeaseAsk, LeaseStore } from './store.ts'

export function leaseStore(database: SqlDatabase, health: Health, writer: OwnWriter): LeaseStore {
  const { kind, db } = database
  const [least, most] = kind === 'sqlite' ? [sql`min`, sql`max`] : [sql`least`, sql`greatest`]

  /** The accounts' rows, locked where the database has more than one writer at a time; in one order, against deadlock. */
  function lock(asks: readonly LeaseAsk[]): CompiledQuery {
    const ids = [...new Set(asks.map(({ key }) => key.account))].sort()
    const query = db.selectFrom('accounts').select(['id', 'version']).where('id', 'in', ids).orderBy('id')
    return (kind === 'postgres' ? query.forNoKeyUpdate() : query).compile()
  }

  /** Finds this writer alive, and keeps others from declaring it dead before the transaction has ended. */
  function hold(own: string): CompiledQuery {
    const query = db.selectFrom('writers').select('id').where('id', '=', own).where('ended_at', 'is', null)
    return (kind === 'postgres' ? query.forShare() : query).compile()
  }

  function give(own: string, { key, version, want, max }: LeaseAsk): CompiledQuery {
    // Against a limit that has changed nothing is given; giving back is possible for as long as the writer lives.
    const current = sql`(select version from accounts where id = ${key.account}) = ${whole(version)}`
    const live = sql`exists (select 1 from writers where id = ${own} and ended_at is null)`
    const given = units.map((unit) => {
      const wanted = want[unit]
      // Also nothing is counted over the rows: one row comes out, however many there are.
      if (wanted === 0) return sql`0 * count(*)`
      const leased = sql.ref(`leased_${unit}`)
      // Never more than there is: what was taken from a writer for dead is not there to be given back.
      if (wanted < 0)
        return sql`${most}(${whole(wanted)}, -coalesce(sum(case when writer = ${own} then ${leased} else 0 end), 0))`
      const taken = sql`coalesce(sum(${sql.ref(unit)} + ${leased}), 0)`
      const fits = sql`${most}(0, ${least}(${whole(wanted)}, ${whole(max[unit])} - ${taken}))`
      return sql`case when ${current} then ${fits} else 0 end`
    })
    const columns = units.map((unit) => sql.ref(`leased_${unit}`))
    const added = units.map(
      (unit) =>
        sql`${sql.ref(`leased_${unit}`)} = balances.${sql.ref(`leased_${unit}`)} + excluded.${sql.ref(`leased_${unit}`)}`,
    )
    return sql`
      insert into balances (account, period, starts_at, writer, usd, tokens, requests, tool_calls, ${sql.join(columns)})
      select ${text(key.account)}, ${text(key.period)}, ${whole(key.startsAt)}, ${text(own)}, 0, 0, 0, 0, ${sql.join(given)}
      from balances where account = ${key.account} and period = ${key.period} and starts_at = ${key.startsAt}
      having ${live}
      on conflict (account, period, starts_at, writer) do update set ${sql.join(added)}`.compile(db)
  }

  function look({ key }: LeaseAsk): CompiledQuery {
    return db
      .selectFrom('balances')
      .selectAll()
      .where('account', '=', key.account)
      .where('period', '=', key.period)
      .where('starts_at', '=', key.startsAt)
      .compile()
  }

  async function ask(asks: readonly LeaseAsk[]): Promise<readonly LeaseAnswer[]> {
    if (asks.length === 0) return []
    const own = writer.id()
    const statements = [hold(own), lock(asks), ...asks.map((one) => give(own, one)), ...asks.map(look)]
    const outcomes = await health.watch(database.batch(statements))
    if (outcomes[0]?.rows.length === 0) {
      // Taken for dead: it goes on under another name, and has to ask for everything anew.
      await writer.rename(own)
      return ask(asks)
    }
    const versions = new Map(
      ((outcomes[1] as Outcome).rows as { id: string; version: number }[]).map((row) => [row.id, Number(row.version)]),
    )
    return asks.map((one, index) => {
      const rows = (outcomes[2 + asks.length + index] as Outcome).rows as BalanceTable[]
      return answerOf(rows, own, versions.get(one.key.account) !== one.version)
    })
  }

  return { ask }
}

/** Where a value stands alone Postgres has to be told its type; SQLite takes it as it comes. */
const whole = (value: number) => sql`cast(${value} as bigint)`
const text = (value: string) => sql`cast(${value} as text)`

function answerOf(rows: readonly BalanceTable[], writer: string, stale: boolean): LeaseAnswer {
  const used = zero()
  const leasedByAll = zero()
  let leased = zero()
  for (const row of rows.map(balanceRow)) {
    add(used, row.used)
    add(leasedByAll, row.leased)
    if (row.writer === writer) leased = row.leased
  }
  return { used, leasedByAll, leased, stale }
}

export function balanceStore(database: SqlDatabase, health: Health): BalanceStore {
  const { db } = database
  return {
    async of(account) {
      const rows = await db
        .selectFrom('balances')
        .selectAll()
        .where('account', '=', account)
        .orderBy('period')
        .orderBy('starts_at')
        .orderBy('writer')
        .execute()
      return rows.map(balanceRow)
    },
    async totals(keys) {
      if (keys.length === 0) return []
      const totals = keys.map(({ account, period, startsAt }) =>
        db
          .selectFrom('balances')
          .select(sums)
          .where('account', '=', account)
          .where('period', '=', period)
          .where('starts_at', '=', startsAt)
          .compile(),
      )
      return (await database.batch(totals)).map(({ rows }) => amounts(rows[0] as Amounts))
    },
    async recount({ account, period, startsAt }, endsAt) {
      const booked = tree(db, account)
        .selectFrom('ledger')
        .select(sums)
        .where('account', 'in', (q) => q.selectFrom('tree').select('tree.id'))
        .where('booked', '>=', startsAt)
        .where('booked', '<', endsAt)
      const counted = db
        .selectFrom('balances')
        .select(sums)
        .where('account', '=', account)
        .where('period', '=', period)
        .where('starts_at', '=', startsAt)
        .where('writer', '!=', '')
      const missing = units.map(
        (unit) => sql`(select b.${sql.ref(unit)} - c.${sql.ref(unit)} from (${booked}) b, (${counted}) c)`,
      )
      const set = units.map((unit) => sql`${sql.ref(unit)} = excluded.${sql.ref(unit)}`)
      const statement = sql`
        insert into balances (account, period, starts_at, writer, usd, tokens, requests, tool_calls, leased_usd, leased_tokens, leased_requests, leased_tool_calls)
        values (${account}, ${period}, ${startsAt}, '', ${sql.join(missing)}, 0, 0, 0, 0)
        on conflict (account, period, starts_at, writer) do update set ${sql.join(set)}`
      await health.watch(database.beside([...alone(database), statement.compile(db)]))
    },
  }
}
