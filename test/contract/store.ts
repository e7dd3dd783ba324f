/**
 * What every store must do, whichever database is below: the tree, keys, audit, settings here; the ledger, leases and
 * writers in files of their own.
 * @module
 */
import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, it } from 'node:test'
import type { SqlOptions } from '../../src/stores/sql.ts'
import type { Store } from '../../src/stores/store.ts'
import { leaseContract } from './leases.ts'
import { ledgerContract } from './ledger.ts'
import { account, auditRow, entry, line } from './rows.ts'
import { writerContract } from './writers.ts'

/** One database that may be opened more than once, each time as another process would. */
export interface Place {
  open(options?: SqlOptions): Promise<Store>
}

/**
 * @param fresh gives an empty database
 * @param shared it can be opened more than once at a time
 */
export function storeContract(name: string, fresh: () => Promise<Place>, { shared }: { shared: boolean }): void {
  describe(name, () => {
    treeContract(fresh)
    ledgerContract(fresh)
    leaseContract(fresh, shared)
    writerContract(fresh, shared)
  })
}

function treeContract(fresh: () => Promise<Place>): void {
  describe('a store', () => {
    let store: Store

    beforeEach(async () => {
      store = await (await fresh()).open()
    })
    afterEach(() => store.close())

    const ids = (rows: readonly { id: string }[]) => rows.map((row) => row.id)

    describe('accounts', () => {
      it('gives back every field of an account as it was written', async () => {
        const full = account('acme', null, {
          kind: 'organization',
          name: 'Ämé "quoted" 🦆',
          limits: [
            { unit: 'usd', max: 9_000_000_000_000, window: 'month', zone: 'UTC', action: 'stop', alertAt: [70, 90] },
          ],
          models: [],
          tools: ['ledger__*'],
          roles: ['finance'],
          labels: { cost: 'r&d' },
          expiresAt: 1_800_000_000_000,
          revokedAt: 1_800_000_000_001,
        })
        await store.accounts.insert(full, null)
        assert.deepEqual(await store.accounts.get('acme'), full)
      })

      it('keeps a list that inherits apart from an empty one', async () => {
        await store.accounts.insert(account('acme', null, { models: null, tools: [] }), null)
        const found = await store.accounts.get('acme')
        assert.equal(found?.models, null)
        assert.deepEqual(found?.tools, [])
      })

      it('knows nothing of an unknown account', async () => {
        assert.equal(await store.accounts.get('nobody'), null)
        assert.deepEqual(await store.accounts.path('nobody'), [])
        assert.deepEqual(await store.accounts.subtree('nobody'), [])
        assert.deepEqual(await store.balances.of('nobody'), [])
      })

      it('refuses an account whose parent does not exist, and stays healthy', async () => {
        await assert.rejects(store.accounts.insert(account('orphan', 'nobody'), null))
        assert.equal(await store.accounts.get('orphan'), null)
        assert.equal(store.healthy(), true)
      })

      it('gives the path from a leaf to its root, leaf first', async () => {
        await tree()
        assert.deepEqual(ids(await store.accounts.path('s1')), ['s1', 'ann', 'red', 'acme'])
        assert.deepEqual(ids(await store.accounts.path('acme')), ['acme'])
      })

      it('gives the path of a leaf 32 levels below its root', async () => {
        await store.accounts.insert(account('n00'), null)
        for (let level = 1; level <= 32; level++) {
          const id = (n: number) => `n${String(n).padStart(2, '0')}`
          await store.accounts.insert(account(id(level), id(level - 1)), null)
        }
        const path = ids(await store.accounts.path('n32'))
        assert.equal(path.length, 33)
        assert.equal(path.at(-1), 'n00')
      })

      it('gives an account with everything below it, and nothing beside it', async () => {
        await tree()
        assert.deepEqual(ids(await store.accounts.subtree('red')), ['ann', 'red', 's1', 's2'])
      })

      it('lists by kind and by parent, page by page in id order', async () => {
        await tree()
        const all = { limit: 100 }
        assert.deepEqual(ids(await store.accounts.list({}, all)), ['acme', 'ann', 'blue', 'red', 's1', 's2'])
        assert.deepEqual(ids(await store.accounts.list({ kind: 'session' }, all)), ['s1', 's2'])
        assert.deepEqual(ids(await store.accounts.list({ parent: 'acme' }, all)), ['blue', 'red'])
        assert.deepEqual(ids(await store.accounts.list({}, { limit: 2, after: 'ann' })), ['blue', 'red'])
      })

      it('refuses a page of no rows or of more than 1000', async () => {
        await assert.rejects(store.accounts.list({}, { limit: 0 }), RangeError)
        await assert.rejects(store.ledger.page({ limit: 1001 }), RangeError)
      })

      it('changes the named fields and leaves the others', async () => {
        const before = account('acme', null, { roles: ['a'], expiresAt: 5 })
        await store.accounts.insert(before, null)
        assert.equal(await store.accounts.update('acme', { models: ['fast'], expiresAt: null }), 2)
        assert.deepEqual(await store.accounts.get('acme'), { ...before, models: ['fast'], expiresAt: null, version: 2 })
        assert.equal(await store.accounts.update('acme', {}), 3)
        assert.equal(await store.accounts.update('nobody', { name: 'x' }), null)
        assert.equal(await store.accounts.update('nobody', {}), null)
      })
    })

    describe('keys', () => {
      const key = { id: 'k1', digest: 'd'.repeat(64), createdAt: 1_790_000_000_000 }

      it('finds a key by its digest', async () => {
        await store.accounts.insert(account('k1', null, { kind: 'key' }), key)
        assert.deepEqual(await store.keys.byDigest(key.digest), key)
        assert.equal(await store.keys.byDigest('e'.repeat(64)), null)
      })

      it('writes no account when its key cannot be written', async () => {
        await store.accounts.insert(account('k1', null, { kind: 'key' }), key)
        await assert.rejects(store.accounts.insert(account('k2', null, { kind: 'key' }), { ...key, id: 'k2' }))
        assert.equal(await store.accounts.get('k2'), null)
      })
    })

    it('keeps the audit trail in order', async () => {
      const refused = auditRow('a2', { allowed: false, subject: 'k1', detail: '{"why":"expired"}' })
      await store.audit.append([])
      await store.audit.append([refused, auditRow('a1')])
      assert.deepEqual(await store.audit.page({ limit: 10 }), [auditRow('a1'), refused])
      assert.deepEqual(await store.audit.page({ limit: 10, after: 'a1' }), [refused])
    })

    it('keeps the last value of a setting', async () => {
      assert.equal(await store.settings.get('pepper'), null)
      await store.settings.set('pepper', 'one')
      await store.settings.set('pepper', 'two')
      assert.equal(await store.settings.get('pepper'), 'two')
    })

    it('writes what waits before it closes, and refuses what comes later', async () => {
      const waiting = store.ledger.append([entry(line('r1'))])
      const closing = store.close()
      await assert.rejects(store.ledger.append([entry(line('r2'))]), /closed/)
      await waiting
      await closing
      await assert.rejects(store.ledger.page({ limit: 1 }), /closed/)
      await assert.rejects(store.settings.set('a', 'b'), /closed/)
      assert.equal(store.healthy(), false)
      await store.close()
    })

    /** acme > red > ann > s1, s2; acme > blue */
    async function tree(): Promise<void> {
      await store.accounts.insert(account('acme', null, { kind: 'organization' }), null)
      await store.accounts.insert(account('red', 'acme'), null)
      await store.accounts.insert(account('blue', 'acme'), null)
      await store.accounts.insert(account('ann', 'red', { kind: 'user' }), null)
      await store.accounts.insert(account('s1', 'ann', { kind: 'session' }), null)
      await store.accounts.insert(account('s2', 'ann', { kind: 'session' }), null)
    }
  })
}
