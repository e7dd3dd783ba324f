/** Anchors: written when chains have grown, and only then; read back without what a crash cut off. @module */
import assert from 'node:assert/strict'
import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, it, mock } from 'node:test'
import { readAnchors, startAnchors } from '../../src/record/anchor.ts'

const folder = mkdtempSync(join(tmpdir(), 'gatehouse-anchors-'))
after(() => rmSync(folder, { recursive: true, force: true }))

it('anchors are appended within a minute of growth, once, and with an end', () => {
  mock.timers.enable({ apis: ['setInterval'] })
  try {
    const path = join(folder, 'data', 'ledger.anchors')
    const heads = { writers: { writer: 'w_1', seq: 0, hash: '' }, audit: { writer: 'w_1', seq: 0, hash: '' } }
    const store = {
      writers: {
        get head() {
          return heads.writers
        },
      },
      audit: {
        get head() {
          return heads.audit
        },
      },
    }
    const told: object[] = []
    const log = { info: (fields: object) => told.push(fields), warn: (fields: object) => told.push(fields) }
    const anchors = startAnchors({ store: store as never, path, now: () => 0, log })
    mock.timers.tick(60_000)
    assert.equal(readAnchors(path), null)
    heads.writers = { writer: 'w_1', seq: 2, hash: 'aa' }
    mock.timers.tick(60_000)
    mock.timers.tick(60_000)
    heads.writers = { writer: 'w_1', seq: 3, hash: 'bb' }
    heads.audit = { writer: 'w_1', seq: 1, hash: 'cc' }
    mock.timers.tick(60_000)
    anchors.close()
    const lines = readAnchors(path)?.anchors.map(({ chain, kind, seq, hash }) => [chain, kind, seq, hash].join(' '))
    assert.deepEqual(lines, [
      'ledger head 2 aa',
      'ledger head 3 bb',
      'audit head 1 cc',
      'ledger end 3 bb',
      'audit end 1 cc',
    ])
    assert.equal(told.length, 5)
    assert.equal(statSync(path).mode & 0o777, 0o600)
    appendFileSync(path, 'not an anchor\n{"chain":"ledg')
    assert.deepEqual([readAnchors(path)?.anchors.length, readAnchors(path)?.unreadable], [5, 1])
    assert.match(readFileSync(path, 'utf8'), /^\{"chain":"ledger","writer":"w_1","seq":2,"hash":"aa","at":"1970-/)
  } finally {
    mock.timers.reset()
  }
})
