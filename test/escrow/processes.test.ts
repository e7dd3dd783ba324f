/** Budgets shared by processes that really are several: the last of a budget, and one that is stopped for a while. @module */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { openSqlite } from '../../src/stores/sqlite.ts'
import { type Place, shareTheLast, startMember } from './members.ts'
import { accountRow, allRows, openHouse, outcomeOf, stop, sumOf, taken, tokens } from './rig.ts'

const folder = mkdtempSync(join(tmpdir(), 'gatehouse-processes-'))
after(() => rmSync(folder, { recursive: true, force: true }))
const place = (name: string): Place => ({ kind: 'sqlite', address: join(folder, `${name}.db`) })

describe('the last tokens of a budget', () => {
  it('go to exactly as many calls as they suffice for, over one, two and four processes', async () => {
    const here = place('last')
    const store = await openSqlite(here.address)
    await shareTheLast(store, here, [1, 2, 3, 4, 5, 6])
    await store.close()
  })
})

describe('a process that is stopped for longer than its term', () => {
  it('finds its leases gone, dispatches nothing on them, and corrects what was booked for it', async () => {
    const here = place('stopped')
    const termMs = 600
    const store = await openSqlite(here.address, { termMs: 60_000 })
    await store.accounts.insert(accountRow('org', null, [stop('tokens', 100)]), null)
    await store.accounts.insert(accountRow('leaf', 'org', []), null)
    const other = await openHouse(store, { termMs: 60_000, everyMs: 50 })
    const slow = await startMember(here, termMs, 100)
    for (const [id, count] of [
      ['out', 30],
      ['idle', 20],
    ] as const)
      assert.deepEqual(await slow.ask({ do: 'hold', id, account: 'leaf', tokens: count }), { admitted: 1 })
    assert.deepEqual(await slow.ask({ do: 'dispatch', id: 'out' }), { dispatched: 1 })

    slow.child.kill('SIGSTOP')
    while (other.warned.length === 0) await pause(20)
    // All that is left without what it had dispatched is free for the others.
    const rest = taken(await other.hold('leaf', tokens(70)))
    slow.child.kill('SIGCONT')

    assert.deepEqual(await slow.ask({ do: 'dispatch', id: 'idle' }), { refused: 1 })
    const [why] = Object.keys(await slow.ask({ do: 'hold', id: 'more', account: 'leaf', tokens: 1 }))
    assert.ok(['budget_contended', 'store_unavailable'].includes(why ?? ''), why)
    assert.deepEqual(await slow.ask({ do: 'book', id: 'out', tokens: 12 }), { settledAgain: 0 })
    const rows = await allRows(store)
    assert.deepEqual(
      rows.map((row) => [row.id, row.tokens, outcomeOf(row)]),
      [
        ['out', 30, 'recovered'],
        ['out.c', -18, 'corrected'],
      ],
    )
    for (const id of ['leaf', 'org']) assert.deepEqual(sumOf(await store.balances.of(id), 'total', 0).used, tokens(12))
    assert.equal(sumOf(await store.balances.of('org'), 'total', 0).leased.tokens <= 88, true)
    rest.settle(tokens(0))
    await slow.ask({ do: 'book', id: 'idle', tokens: 0 })
    assert.deepEqual(await slow.ask({ do: 'end' }), { open: 0 })
    await other.close()
  })
})
