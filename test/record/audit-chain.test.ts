/** The chain of audit rows goes on where it ended, whatever became of a write. @module */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, it } from 'node:test'
import { verify } from '../../src/record/verify.ts'
import { openSnapshot } from '../../src/stores/open-snapshot.ts'
import { openSqlite } from '../../src/stores/sqlite.ts'

const folder = mkdtempSync(join(tmpdir(), 'gatehouse-audit-'))
after(() => rmSync(folder, { recursive: true, force: true }))

it('rows that are refused leave no gap, and two processes write two chains', async () => {
  const path = join(folder, 'gatehouse.db')
  const stores = [await openSqlite(path), await openSqlite(path)] as const
  const row = (id: string) => ({
    id,
    at: 1,
    actor: 'admin',
    action: 'keys.create',
    subject: `line\nbreak and "quotes" of ${id}`,
    allowed: id !== 'q3',
    detail: id === 'q2' ? null : '{"a":"\\n"}',
  })
  const [first, second] = stores
  await first.audit.append([row('q1')])
  await assert.rejects(first.audit.append([row('q5'), row('q1')]), /UNIQUE/)
  const written = ['q2', 'q3', 'q4'].map((id) => first.audit.append([row(id)]))
  await Promise.all([...written, second.audit.append([row('r1')]), second.audit.append([row('r2'), row('r3')])])
  assert.equal(first.audit.head.seq, 4)
  for (const store of stores) await store.close()
  const snapshot = await openSnapshot(path)
  const { fault, audit_rows } = await verify(snapshot, [])
  await snapshot.close()
  assert.deepEqual([fault, audit_rows], [null, 7])
})
