import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { openSqlite } from '../../src/stores/sqlite.ts'
import { verifyAppended } from './appended.ts'

const folder = mkdtempSync(join(tmpdir(), 'gatehouse-crash-'))
after(() => rmSync(folder, { recursive: true, force: true }))

const rounds = 8

describe('a gateway that is killed while it writes', () => {
  it('loses no row it was told is written, and its balances are the sums of its rows', async () => {
    const path = join(folder, 'gatehouse.db')
    const acknowledged = new Set<string>()
    for (let round = 0; round < rounds; round++) {
      for (const id of await appendUntilKilled(path, round)) acknowledged.add(id)
      await verify(path, acknowledged)
    }
    assert.ok(acknowledged.size > rounds)
  })
})

/** Kills after a random number of acknowledged rows, so that the moment falls anywhere in a commit. */
async function appendUntilKilled(path: string, round: number): Promise<readonly string[]> {
  const script = fileURLToPath(new URL('./appender.ts', import.meta.url))
  const child = spawn(process.execPath, [script, path, String(round)], { stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = once(child, 'exit')
  const killAfter = 1 + Math.floor(Math.random() * 3000)
  const ids: string[] = []
  for await (const id of createInterface({ input: child.stdout })) {
    ids.push(id)
    if (ids.length === killAfter) child.kill('SIGKILL')
  }
  const [, signal] = await exited
  assert.equal(signal, 'SIGKILL')
  return ids
}

async function verify(path: string, acknowledged: ReadonlySet<string>): Promise<void> {
  const store = await openSqlite(path)
  try {
    await verifyAppended(store, acknowledged)
  } finally {
    await store.close()
  }
}
