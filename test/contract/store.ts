/** What every store must do, whichever database is below. @module */
import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, it } from 'node:test'
import type { Store } from '../../src/stores/store.ts'
import { account, auditRow, entry, ledgerRow, total } from './rows.ts'

/** @param onCommit told how many ledger rows each commit held */
export type OpenStore = (options: { onCommit: (rows: number) => void }) => Promise<Store>

export function storeContract(name: string, open: OpenStore): void {
  describe(name, () => {
    let store: Store
    let commits: number[]

    beforeEach(async () => {
      commits = []
      store = await open({ onCommit: (rows) => commits.push(rows) })
    })
    afterEach(() => store.close())

    const ids = (rows: readonly { id: string }[]) => rows.map((row) => row.id)

    async function usd(id: string): Promise<number | undefined> {
      const rows = await store.accounts.balances(id)
      return rows.find((row) => row.window === 'total')?.usd
    }

    describe('accounts', () => {
      it('gives back every field of an account as it was written', async () => {
        const full = account('acme', null, {
          kind: 'organization',
          name: 'Ämé "quoted" 🦆',
          limits: [{ unit: 'usd', max: 9_000_000_000_000, window: 'month', action: 'stop', alertAt: [70, 90] }],
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
        assert.deepEqual(await store.accounts.balances('nobody'), [])
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
        assert.equal(await store.accounts.update('acme', { models: ['fast'], expiresAt: null }), true)
        assert.deepEqual(await store.accounts.get('acme'), { ...before, models: ['fast'], expiresAt: null })
        assert.equal(await store.accounts.update('acme', {}), true)
        assert.equal(await store.accounts.update('nobody', { name: 'x' }), false)
        assert.equal(await store.accounts.update('nobody', {}), false)
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

    describe('ledger', () => {
      it('gives back every field of a row as it was written', async () => {
        const answered = ledgerRow('r1', { usd: 9_007_199_254_740_991, step: 'a\u0000b', tool: 'x__ÿ🦆"\\' })
        const refused = ledgerRow('r2', {
          kind: 'tool-call',
          outcome: 'fault',
          code: 'budget_exhausted',
          attempt: 0,
          model: null,
          provider: null,
          upstreamModel: null,
          rule: 'tools/finance.yaml#2',
          session: 's1',
          firstByteMs: 12.5,
          traceparent: '00-0-0-01',
          labels: null,
          priceVersion: null,
          usageSource: 'none',
        })
        await store.ledger.append([entry(answered), entry(refused, [])])
        assert.deepEqual(await store.ledger.page({ limit: 10 }), [answered, refused])
      })

      it('adds a row to every counter it names', async () => {
        const day = { account: 'red', window: 'day', startsAt: 1_790_000_000_000 } as const
        await store.ledger.append([entry(ledgerRow('r1'), [total('red'), day, total('acme')])])
        await store.ledger.append([entry(ledgerRow('r2', { usd: 50, tool_calls: 2 }), [day, total('acme')])])
        const one = { usd: 1250, tokens: 900, requests: 1, tool_calls: 0 }
        const both = { usd: 1300, tokens: 1800, requests: 2, tool_calls: 2 }
        assert.deepEqual(await store.accounts.balances('red'), [
          { ...day, ...both },
          { ...total('red'), ...one },
        ])
        assert.deepEqual(await store.accounts.balances('acme'), [{ ...total('acme'), ...both }])
      })

      it('adds up a counter that comes as several objects', async () => {
        const rows = ['r1', 'r2', 'r3'].map((id) => entry(ledgerRow(id, { usd: 7 }), [total('red')]))
        await store.ledger.append(rows)
        assert.equal(await usd('red'), 21)
      })

      it('skips a row that is already there, with its counters', async () => {
        await store.ledger.append([entry(ledgerRow('r1', { usd: 5 }), [total('red')])])
        await store.ledger.append([
          entry(ledgerRow('r1', { usd: 999 }), [total('red')]),
          entry(ledgerRow('r2', { usd: 6 }), [total('red')]),
          entry(ledgerRow('r2', { usd: 999 }), [total('red'), total('blue')]),
        ])
        await store.ledger.append([entry(ledgerRow('r1', { usd: 5 }), [total('red')])])
        assert.equal(await usd('red'), 11)
        assert.equal(await usd('blue'), undefined)
        const rows = await store.ledger.page({ limit: 10 })
        assert.deepEqual(
          rows.map((row) => [row.id, row.usd]),
          [
            ['r1', 5],
            ['r2', 6],
          ],
        )
      })

      it('does nothing for no rows', async () => {
        await store.ledger.append([])
        assert.deepEqual(commits, [])
      })

      it('commits many parallel appends in few transactions', async () => {
        const shared = total('red')
        const appends = Array.from({ length: 2000 }, (_, i) =>
          store.ledger.append([entry(ledgerRow(`r${String(i).padStart(5, '0')}`, { usd: 1 }), [shared])]),
        )
        await Promise.all(appends)
        assert.ok(commits.length <= 3, `${commits.length} commits`)
        assert.equal(
          commits.reduce((sum, rows) => sum + rows, 0),
          2000,
        )
        assert.equal(await usd('red'), 2000)
      })

      it('groups what is appended while a commit is under way', async () => {
        // Eight callers, each appending its next row when the last is written: the shape of concurrent calls.
        const caller = async (name: number) => {
          for (let i = 0; i < 50; i++) await store.ledger.append([entry(ledgerRow(`c${name}-${i}`), [total('red')])])
        }
        await Promise.all(Array.from({ length: 8 }, (_, name) => caller(name)))
        assert.ok(commits.length <= 200, `${commits.length} commits for 400 rows`)
        assert.equal((await store.accounts.balances('red'))[0]?.requests, 400)
      })

      it('rejects the whole append when a row cannot be written, and writes the next', async () => {
        const bad = ledgerRow('r2', { account: null as unknown as string })
        await assert.rejects(store.ledger.append([entry(ledgerRow('r1'), [total('red')]), entry(bad, [])]))
        assert.deepEqual(await store.ledger.page({ limit: 10 }), [])
        assert.equal(await usd('red'), undefined)
        await store.ledger.append([entry(ledgerRow('r1'), [total('red')])])
        assert.equal(await usd('red'), 1250)
      })

      it('refuses a row whose numbers are none, and writes what other calls append beside it', async () => {
        const good = store.ledger.append([entry(ledgerRow('r1'), [total('red')])])
        for (const bad of [
          { usd: Number.NaN },
          { usd: 0.5 },
          { tokens: 2 ** 53 },
          { output: Number.POSITIVE_INFINITY },
        ]) {
          await assert.rejects(store.ledger.append([entry(ledgerRow('r2', bad), [total('red')])]), RangeError)
        }
        await good
        assert.deepEqual(ids(await store.ledger.page({ limit: 10 })), ['r1'])
        assert.equal(store.healthy(), true)
      })

      it('pages through the rows of some accounts in order', async () => {
        const rows = Array.from({ length: 9 }, (_, i) =>
          ledgerRow(`r${i}`, { account: ['red', 'blue', 'ann'][i % 3] ?? '' }),
        )
        await store.ledger.append(rows.toReversed().map((row) => entry(row)))
        const first = await store.ledger.ofAccounts(['red', 'ann'], { limit: 4 })
        assert.deepEqual(ids(first), ['r0', 'r2', 'r3', 'r5'])
        assert.deepEqual(ids(await store.ledger.ofAccounts(['red', 'ann'], { limit: 4, after: 'r5' })), ['r6', 'r8'])
        assert.deepEqual(await store.ledger.ofAccounts([], { limit: 4 }), [])
        assert.deepEqual(ids(await store.ledger.page({ limit: 3, after: 'r6' })), ['r7', 'r8'])
      })

      it('gives the rows of more accounts than one query can name', async () => {
        await store.ledger.append([
          entry(ledgerRow('r2', { account: 'a1' })),
          entry(ledgerRow('r1', { account: 'a24999' })),
        ])
        const many = Array.from({ length: 25_000 }, (_, i) => `a${i}`)
        assert.deepEqual(ids(await store.ledger.ofAccounts(many, { limit: 10 })), ['r1', 'r2'])
        assert.deepEqual(ids(await store.ledger.ofAccounts(many, { limit: 1 })), ['r1'])
      })

      it('sums an account with everything below it since a time', async () => {
        await tree()
        await store.ledger.append([
          entry(ledgerRow('r1', { account: 's1', at: 99, usd: 1 })),
          entry(ledgerRow('r2', { account: 's1', at: 100, usd: 10 })),
          entry(ledgerRow('r3', { account: 'red', at: 101, usd: 100, tool_calls: 3 })),
          entry(ledgerRow('r4', { account: 'blue', at: 102, usd: 1000 })),
        ])
        const expected = { usd: 110, tokens: 1800, requests: 2, tool_calls: 3 }
        assert.deepEqual(await store.ledger.sumSince('red', 100), expected)
        assert.deepEqual(await store.ledger.sumSince('nobody', 0), { usd: 0, tokens: 0, requests: 0, tool_calls: 0 })
      })

      it('groups usage by a column', async () => {
        await store.ledger.append([
          entry(ledgerRow('r1', { at: 1, usd: 1_000_000 })),
          entry(ledgerRow('r2', { at: 2, usd: 1, model: 'fast' })),
          entry(ledgerRow('r3', { at: 3, usd: 2, model: 'slow' })),
          entry(ledgerRow('r4', { at: 4, usd: 4, model: 'fast' })),
        ])
        const one = { usd: 2, tokens: 900, requests: 1, tool_calls: 0 }
        assert.deepEqual(await store.ledger.usage('model', 2), [
          { group: 'fast', calls: 2, usd: 5, tokens: 1800, requests: 2, tool_calls: 0 },
          { group: 'slow', calls: 1, ...one },
        ])
        assert.deepEqual(await store.ledger.usage('model', 0, []), [])
        const [none] = await store.ledger.usage('tool', 3)
        assert.equal(none?.group, null)
      })
    })

    it('sums the usage of the named accounts alone, however many', async () => {
      await store.ledger.append([
        entry(ledgerRow('r1', { account: 'a1', usd: 1 })),
        entry(ledgerRow('r2', { account: 'a24999', usd: 2 })),
        entry(ledgerRow('r3', { account: 'other', usd: 4 })),
      ])
      const many = Array.from({ length: 25_000 }, (_, i) => `a${i}`)
      assert.deepEqual(await store.ledger.usage('model', 0, many), [
        { group: 'fast', calls: 2, usd: 3, tokens: 1800, requests: 2, tool_calls: 0 },
      ])
    })

    it('starts a counter with what was used before it existed, and adds from there', async () => {
      const day = { account: 'red', window: 'day', startsAt: 86_400_000 } as const
      await store.accounts.addBalance({ ...day, usd: 100, tokens: 10, requests: 2, tool_calls: 0 })
      await store.ledger.append([entry(ledgerRow('r1'), [day])])
      const sum = { usd: 1350, tokens: 910, requests: 3, tool_calls: 0 }
      assert.deepEqual(await store.accounts.balances('red'), [{ ...day, ...sum }])
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
      const waiting = store.ledger.append([entry(ledgerRow('r1'))])
      const closing = store.close()
      await assert.rejects(store.ledger.append([entry(ledgerRow('r2'))]), /closed/)
      await waiting
      await closing
      await assert.rejects(store.ledger.page({ limit: 1 }), /closed/)
      assert.deepEqual(commits, [1])
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
