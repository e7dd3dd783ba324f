/** Tells stories over SQLite files and says which seed went wrong. @module */
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type Amounts, units } from '../../src/call.ts'
import { openSqlite } from '../../src/stores/sqlite.ts'
import { none } from './rig.ts'
import { type Counted, type Told, tell } from './story.ts'

/** In memory where the machine has such a folder: the story is about sums, not about disks. */
const place = existsSync('/dev/shm') ? '/dev/shm' : tmpdir()
/** Short, since a test locks the file on purpose. */
const busyMs = 60

/** Tells one story in a file of its own. @throws with the seed in the message */
export async function tellOverSqlite(seed: number, steps: number): Promise<Told> {
  const folder = mkdtempSync(join(place, 'gatehouse-model-'))
  const path = join(folder, 'gatehouse.db')
  const opened: { close(): Promise<void> }[] = []
  const open = async () => {
    const store = await openSqlite(path, { busyMs })
    opened.push(store)
    return store
  }
  let reader: DatabaseSync | null = null
  const readable = () => {
    reader ??= new DatabaseSync(path)
    return reader
  }
  const lock = () => {
    readable().exec('BEGIN IMMEDIATE')
    return () => readable().exec('COMMIT')
  }
  try {
    return await tell({ seed, steps, open, lock, look: (accounts) => counted(readable(), accounts) })
  } catch (error) {
    throw new Error(`seed ${seed} with ${steps} steps: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    })
  } finally {
    for (const store of opened) await store.close()
    ;(reader as DatabaseSync | null)?.close()
    rmSync(folder, { recursive: true, force: true })
  }
}

function counted(db: DatabaseSync, accounts: readonly string[]): Counted {
  const sums = units.map((unit) => `sum(${unit}) as ${unit}, sum(leased_${unit}) as leased_${unit}`).join(', ')
  const found = new Map<string, { used: Amounts; leased: Amounts }>()
  const names = accounts.map(() => '?').join(', ')
  const text = `select account, period, starts_at, ${sums} from balances where account in (${names}) group by 1, 2, 3`
  const rows = db.prepare(text).all(...accounts)
  for (const row of rows) {
    const sum = { used: { ...none }, leased: { ...none } }
    for (const unit of units) {
      sum.used[unit] = Number(row[unit])
      sum.leased[unit] = Number(row[`leased_${unit}`])
    }
    found.set(`${row.account} ${row.period} ${row.starts_at}`, sum)
  }
  return found
}

/** Tells a story per seed. */
export async function tellAll(seeds: readonly number[], steps: number): Promise<void> {
  for (const seed of seeds) {
    const told = await tellOverSqlite(seed, steps)
    assert.ok(told.admitted > steps / 20 && told.refused > steps / 50, JSON.stringify(told))
  }
}
