/**
 * What the fault tests put under load: gateways over one store, and a look behind them into its tables, where it is seen
 * whether the money adds up.
 * @module
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { windowStart } from '../../src/escrow/window.ts'
import { eventually, type GatewayOptions, type GatewayUnderTest, startGateway } from '../gateway.ts'
import type { PostgresUnderTest } from '../services/postgres.ts'

export type Row = Readonly<Record<string, string | number | null>>

export interface House {
  readonly gateways: readonly GatewayUnderTest[]
  /** Looks into the store's tables, also when no gateway runs. */
  query(sql: string): Promise<readonly Row[]>
}

/** One for all of a house: keys of one gateway are read by the other. */
export const masterKey = createHash('sha256').update('of the fault tests').digest('base64')

export async function sqliteHouse(options: GatewayOptions, workers = 1): Promise<House> {
  const env = { ...options.env, GATEHOUSE_WORKERS: String(workers) }
  const gateway = await startGateway({ ...options, env })
  return {
    gateways: [gateway],
    async query(sql) {
      const database = new DatabaseSync(join(gateway.home, 'data/gatehouse.db'), { readOnly: true })
      try {
        return database.prepare(sql).all() as Row[]
      } finally {
        database.close()
      }
    },
  }
}

/** @param urls of the same database, one per gateway: ways to it that can be cut may lie between */
export async function postgresHouse(
  server: PostgresUnderTest,
  options: GatewayOptions,
  urlsOf: (url: string) => readonly string[],
): Promise<House> {
  const url = await server.create()
  const gateways: GatewayUnderTest[] = []
  for (const DATABASE_URL of urlsOf(url)) {
    const env = { ...options.env, DATABASE_URL, GATEHOUSE_MASTER_KEY: masterKey }
    gateways.push(await startGateway({ ...options, env }))
  }
  return {
    gateways,
    async query(sql) {
      const client = await server.connect(url)
      const { rows } = await client.query(sql)
      await client.end()
      return rows
    },
  }
}

/** Process ids of what serves, where a gateway has several processes. */
export function workersOf(gateway: GatewayUnderTest): readonly number[] {
  const { stdout } = spawnSync('pgrep', ['-P', String(gateway.process.pid)], { encoding: 'utf8' })
  return stdout.split('\n').filter(Boolean).map(Number)
}

const amounts = ['usd', 'tokens', 'requests', 'tool_calls'] as const
const nothing = amounts.map(() => 0)

/**
 * Finds every balance in the store equal to the ledger lines it stands for: per account all lines of its subtree, and
 * per window those that were booked in it.
 *
 * @returns how many ledger lines there are
 */
export async function assertAddsUp(house: House): Promise<number> {
  const parents = new Map<string, string | null>()
  for (const { id, parent } of await house.query('select id, parent from accounts'))
    parents.set(String(id), parent === null ? null : String(parent))
  const lines = await house.query('select * from ledger')
  const kept = await house.query('select * from balances')
  const periods = Map.groupBy(kept, ({ account }) => String(account))
  const booked = new Map<string, number[]>()
  for (const line of lines) {
    for (let at: string | null = String(line.account); at !== null; at = parents.get(at) ?? null) {
      for (const period of new Set(['total', ...(periods.get(at) ?? []).map((row) => String(row.period))])) {
        addTo(booked, `${at} ${period} ${windowStart(period, Number(line.booked))}`, line)
      }
    }
  }
  const balances = new Map<string, number[]>()
  for (const row of kept) addTo(balances, `${row.account} ${row.period} ${row.starts_at}`, row)
  for (const counter of new Set([...booked.keys(), ...balances.keys()]))
    assert.deepEqual(balances.get(counter) ?? nothing, booked.get(counter) ?? nothing, `balance of ${counter}`)
  return lines.length
}

function addTo(sums: Map<string, number[]>, name: string, row: Row): void {
  const sum = sums.get(name) ?? nothing
  sums.set(
    name,
    sum.map((value, index) => value + Number(row[amounts[index] as string])),
  )
}

/** What is set aside of all budgets, by any process. */
export async function leased(house: House): Promise<number> {
  const all = amounts.map((name) => `coalesce(sum(leased_${name}), 0)`).join(' + ')
  const [row] = await house.query(`select ${all} as leased from balances`)
  return Number(row?.leased)
}

/** Every answered call has its one row, and no call has two. A correction of a recovered row is no second one. */
export async function assertAllThere(house: House, answered: readonly string[]): Promise<readonly Row[]> {
  const lines = await house.query('select * from ledger')
  const times = new Map<string, number>()
  for (const { body } of lines) {
    const { call, outcome } = JSON.parse(String(body)) as { call: string; outcome: string }
    if (outcome !== 'corrected') times.set(call, (times.get(call) ?? 0) + 1)
  }
  for (const [call, count] of times) assert.equal(count, 1, `rows of ${call}`)
  for (const call of answered) assert.ok(times.has(call), `${call} was answered and has no row`)
  return lines
}

/** Stops all gateways; nothing is set aside any more and the books add up. */
export async function closeHouse(house: House): Promise<void> {
  for (const gateway of house.gateways) assert.equal(await gateway.stop(), 0, gateway.log().slice(-2000))
  await eventually(async () => (await leased(house)) === 0)
  await assertAddsUp(house)
}
