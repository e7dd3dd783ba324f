/** The last of a budget among several processes, for many seeds. @module */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, it } from 'node:test'
import { openSqlite } from '../../src/stores/sqlite.ts'
import { shareTheLast } from './members.ts'

const folder = mkdtempSync(join(tmpdir(), 'gatehouse-processes-'))
after(() => rmSync(folder, { recursive: true, force: true }))

it('the last tokens of a budget go to exactly as many calls as they suffice for, for 200 seeds', async () => {
  const address = join(folder, 'last.db')
  const store = await openSqlite(address)
  const seeds = Array.from({ length: 200 }, (_, index) => 100 + index)
  await shareTheLast(store, { kind: 'sqlite', address }, seeds)
  await store.close()
})
