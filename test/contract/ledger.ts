/** What every store's ledger must do: group commit, balances, the hash chain, reading back. @module */
import assert from 'node:assert/strict'
import { hash } from 'node:crypto'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { type LedgerLine, type LedgerRow, units } from '../../src/call.ts'
import { chainHash, chainStart, chainText, digestOf } from '../../src/stores/chain.ts'
import type { BalanceKey, Store } from '../../src/stores/store.ts'
import { account, amounts, body, entry, line, posting, total } from './rows.ts'
import type { Place } from './store.ts'

export function ledgerContract(fresh: () => Promise<Place>): void {
  describe('a ledger', () => {
    let store: Store
    let commits: number[]

    beforeEach(async () => {
      commits = []
      store = await (await fresh()).open({ onCommit: (lines) => commits.push(lines) })
    })
    afterEach(() => store.close())

    const ids = (rows: readonly { id: string }[]) => rows.map((row) => row.id)

    async function used(key: BalanceKey) {
      const sum = amounts()
      for (const row of await store.balances.of(key.account)) {
        if (row.period !== key.period || row.startsAt !== key.startsAt) continue
        for (const unit of units) sum[unit] += row.used[unit]
      }
      return sum
    }
    const usd = async (id: string) => (await used(total(id))).usd

    it('gives back every field of a line as it was written, and who wrote it', async () => {
      const odd = line('r1', {
        usd: Number.MAX_SAFE_INTEGER,
        booked: 1_790_000_000_777,
        body: body({ model: 'a\u0000b', tool: 'x__ÿ🦆"\\', upstream: '\ud800' }),
        notes: '{"step":"plan\\u0000","labels":{"run":"7"}}',
      })
      const plain = line('r2', { usd: 0, tokens: 0, requests: 0, tool_calls: 5 })
      await store.ledger.append([entry(odd), entry(plain, [])])
      const rows = await store.ledger.page({ limit: 10 })
      assert.deepEqual(rows.map(lineOf), [odd, plain])
      assert.deepEqual(
        rows.map(({ writer, seq }) => [writer, seq]),
        [
          [store.writers.id, 1],
          [store.writers.id, 2],
        ],
      )
    })

    it('corrects a recovered line once, by its true end, and not by another recovery of it', async () => {
      const recovered = () =>
        entry(line('r1', { usd: 100, body: body({ outcome: 'recovered' }) }), [posting(total('red'))])
      const ended = entry(line('r1', { usd: 30 }), [posting(total('red'))])
      for (const one of [recovered(), recovered(), ended, ended]) await store.ledger.append([one])
      const rows = await store.ledger.page({ limit: 10 })
      assert.deepEqual(
        rows.map((row) => [row.id, row.usd, (JSON.parse(row.body) as { outcome: string }).outcome]),
        [
          ['r1', 100, 'recovered'],
          ['r1.c', -70, 'corrected'],
        ],
      )
      assert.equal(await usd('red'), 30)
    })

    it('adds a line to every counter it names, under the process that wrote it', async () => {
      const day = { account: 'red', period: 'day@Europe/Berlin', startsAt: 1_790_000_000_000 }
      await store.ledger.append([entry(line('r1'), [posting(total('red')), posting(day), posting(total('acme'))])])
      await store.ledger.append([entry(line('r2', { usd: 50, tool_calls: 2 }), [posting(day), posting(total('acme'))])])
      const one = amounts({ usd: 1250, tokens: 900, requests: 1 })
      const both = amounts({ usd: 1300, tokens: 1800, requests: 2, tool_calls: 2 })
      const mine = { writer: store.writers.id, leased: amounts() }
      assert.deepEqual(await store.balances.of('red'), [
        { ...day, ...mine, used: both },
        { ...total('red'), ...mine, used: one },
      ])
      assert.deepEqual(await store.balances.of('acme'), [{ ...total('acme'), ...mine, used: both }])
    })

    it('adds up a counter that comes as several objects', async () => {
      const entries = ['r1', 'r2', 'r3'].map((id) => entry(line(id, { usd: 7 }), [posting(total('red'))]))
      await store.ledger.append(entries)
      assert.equal(await usd('red'), 21)
    })

    it('skips a line that is already there, with its counters', async () => {
      const red = [posting(total('red'))]
      await store.ledger.append([entry(line('r1', { usd: 5 }), red)])
      await store.ledger.append([
        entry(line('r1', { usd: 999 }), red),
        entry(line('r2', { usd: 6 }), red),
        entry(line('r2', { usd: 999 }), [...red, posting(total('blue'))]),
      ])
      await store.ledger.append([entry(line('r1', { usd: 5 }), red)])
      assert.equal(await usd('red'), 11)
      assert.deepEqual(await store.balances.of('blue'), [])
      const rows = await store.ledger.page({ limit: 10 })
      assert.deepEqual(
        rows.map((row) => [row.id, row.usd]),
        [
          ['r1', 5],
          ['r2', 6],
        ],
      )
    })

    it('tells each entry once that it is durable', async () => {
      const told: string[] = []
      const telling = (id: string) => entry(line(id), [], { posted: () => told.push(id) })
      await store.ledger.append([telling('r1'), telling('r2')])
      await store.ledger.append([telling('r1')])
      assert.deepEqual(told, ['r1', 'r2', 'r1'])
    })

    it('does nothing for no lines', async () => {
      await store.ledger.append([])
      assert.deepEqual(commits, [])
    })

    it('commits many parallel appends in few transactions', async () => {
      const shared = [posting(total('red'))]
      const appends = Array.from({ length: 2000 }, (_, i) =>
        store.ledger.append([entry(line(`r${String(i).padStart(5, '0')}`, { usd: 1 }), shared)]),
      )
      await Promise.all(appends)
      assert.ok(commits.length <= 3, `${commits.length} commits`)
      assert.equal(
        commits.reduce((sum, lines) => sum + lines, 0),
        2000,
      )
      assert.equal(await usd('red'), 2000)
    })

    it('groups what is appended while a commit is under way', async () => {
      // Eight callers, each appending its next line when the last is written: the shape of concurrent calls.
      const caller = async (name: number) => {
        for (let i = 0; i < 50; i++) await store.ledger.append([entry(line(`c${name}-${i}`), [posting(total('red'))])])
      }
      await Promise.all(Array.from({ length: 8 }, (_, name) => caller(name)))
      assert.ok(commits.length <= 200, `${commits.length} commits for 400 lines`)
      assert.equal((await used(total('red'))).requests, 400)
      wholeChain(await everything())
    })

    it('refuses a line whose numbers are none, and writes what other calls append beside it', async () => {
      const good = store.ledger.append([entry(line('r1'), [posting(total('red'))])])
      for (const bad of [
        { usd: Number.NaN },
        { usd: 0.5 },
        { tokens: 2 ** 53 },
        { booked: Number.POSITIVE_INFINITY },
      ]) {
        await assert.rejects(store.ledger.append([entry(line('r2', bad), [posting(total('red'))])]), RangeError)
      }
      await good
      assert.deepEqual(ids(await store.ledger.page({ limit: 10 })), ['r1'])
      assert.equal(store.healthy(), true)
    })

    it('chains each line to the one before, and leaves no gap where one was there already', async () => {
      await store.ledger.append(['r1', 'r2', 'r3'].map((id) => entry(line(id))))
      await store.ledger.append([entry(line('r2')), entry(line('r4', { notes: '{"step":"a","labels":null}' }))])
      await store.ledger.append([entry(line('r1')), entry(line('r2'))])
      await store.ledger.append([entry(line('r5'))])
      const rows = await everything()
      assert.deepEqual(ids(rows), ['r1', 'r2', 'r3', 'r4', 'r5'])
      wholeChain(rows)
    })

    it('shows any edit of a line in its hash, notes included', async () => {
      const notes = '{"step":"a","labels":null}'
      await store.ledger.append([entry(line('r1', { notes }))])
      const [row] = await everything()
      assert.ok(row !== undefined)
      const remade = (more: Partial<LedgerLine>) => {
        const edited = { ...row, ...more }
        return chainHash(chainStart, row.seq, chainText(edited, digestOf(edited.notes)))
      }
      assert.equal(remade({}), row.hash)
      for (const more of [{ usd: 1 }, { account: 'x' }, { at: 1 }, { body: '{}' }, { notes: '{}' }, { notes: null }]) {
        assert.notEqual(remade(more), row.hash)
      }
      // The digest is of the notes alone, so they can be erased and the line still be proven.
      assert.equal(chainHash(chainStart, 1, chainText(row, hash('sha256', notes))), row.hash)
    })

    it('pages through the lines of some accounts in order', async () => {
      const lines = Array.from({ length: 9 }, (_, i) => line(`r${i}`, { account: ['red', 'blue', 'ann'][i % 3] ?? '' }))
      await store.ledger.append(lines.toReversed().map((one) => entry(one)))
      const first = await store.ledger.ofAccounts(['red', 'ann'], { limit: 4 })
      assert.deepEqual(ids(first), ['r0', 'r2', 'r3', 'r5'])
      assert.deepEqual(ids(await store.ledger.ofAccounts(['red', 'ann'], { limit: 4, after: 'r5' })), ['r6', 'r8'])
      assert.deepEqual(await store.ledger.ofAccounts([], { limit: 4 }), [])
      assert.deepEqual(ids(await store.ledger.page({ limit: 3, after: 'r6' })), ['r7', 'r8'])
    })

    const many = Array.from({ length: 25_000 }, (_, i) => `a${i}`)

    it('gives the lines of more accounts than one query can name', async () => {
      await store.ledger.append([entry(line('r2', { account: 'a1' })), entry(line('r1', { account: 'a24999' }))])
      assert.deepEqual(ids(await store.ledger.ofAccounts(many, { limit: 10 })), ['r1', 'r2'])
      assert.deepEqual(ids(await store.ledger.ofAccounts(many, { limit: 1 })), ['r1'])
    })

    it('groups usage by a field of the line', async () => {
      await store.ledger.append([
        entry(line('r1', { at: 1, usd: 1_000_000 })),
        entry(line('r2', { at: 2, usd: 1 })),
        entry(line('r3', { at: 3, usd: 2, body: body({ model: 'slow', tool: 'x__y' }) })),
        entry(line('r4', { at: 4, usd: 4, account: 'other' })),
      ])
      const fast = { calls: 2, ...amounts({ usd: 5, tokens: 1800, requests: 2 }) }
      const slow = { calls: 1, ...amounts({ usd: 2, tokens: 900, requests: 1 }) }
      assert.deepEqual(await store.ledger.usage('model', 2), [
        { group: 'fast', ...fast },
        { group: 'slow', ...slow },
      ])
      assert.deepEqual(await store.ledger.usage('model', 0, []), [])
      assert.deepEqual(await store.ledger.usage('tool', 2), [
        { group: null, ...fast },
        { group: 'x__y', ...slow },
      ])
      assert.deepEqual(
        (await store.ledger.usage('account', 2)).map(({ group, usd: sum }) => [group, sum]),
        [
          ['other', 4],
          ['team', 3],
        ],
      )
    })

    it('groups usage whatever callers wrote into a name', async () => {
      const odd = ['a\u0000b', '\ud800', '\udfff', '\\u0000', '🦆', 'back\\\ud800']
      await store.ledger.append(odd.map((model, i) => entry(line(`r${i}`, { body: body({ model }) }))))
      const groups = await store.ledger.usage('model', 0)
      assert.equal(
        groups.reduce((sum, { calls }) => sum + calls, 0),
        odd.length,
      )
      assert.ok(groups.some(({ group }) => group === '🦆'))
    })

    it('sums the usage of the named accounts alone, however many', async () => {
      await store.ledger.append([
        entry(line('r1', { account: 'a1', usd: 1 })),
        entry(line('r2', { account: 'a24999', usd: 2 })),
        entry(line('r3', { account: 'other', usd: 4 })),
      ])
      const sum = { calls: 2, ...amounts({ usd: 3, tokens: 1800, requests: 2 }) }
      assert.deepEqual(await store.ledger.usage('model', 0, many), [{ group: 'fast', ...sum }])
    })

    it('counts a counter again that began after lines it has to count', async () => {
      await store.accounts.insert(account('acme'), null)
      await store.accounts.insert(account('red', 'acme'), null)
      await store.accounts.insert(account('blue'), null)
      await store.ledger.append([
        entry(line('r1', { account: 'acme', booked: 99, usd: 1 }), []),
        entry(line('r2', { account: 'red', booked: 100, usd: 10 }), []),
        entry(line('r3', { account: 'acme', booked: 199, usd: 100 }), []),
        entry(line('r4', { account: 'red', booked: 200, usd: 1000 }), []),
        entry(line('r5', { account: 'blue', booked: 150, usd: 10_000 }), []),
      ])
      const hour = { account: 'acme', period: 'hour', startsAt: 100 }
      await store.balances.recount(hour, 200)
      assert.deepEqual(await used(hour), amounts({ usd: 110, tokens: 1800, requests: 2 }))
      await store.ledger.append([entry(line('r6', { account: 'red', booked: 150, usd: 5 }), [posting(hour)])])
      for (let again = 0; again < 2; again++) {
        await store.balances.recount(hour, 200)
        assert.deepEqual(await used(hour), amounts({ usd: 115, tokens: 2700, requests: 3 }))
      }
    })

    async function everything(): Promise<readonly LedgerRow[]> {
      return (await store.ledger.page({ limit: 1000 })).toSorted((a, b) => a.seq - b.seq)
    }
  })
}

function lineOf({ writer: _w, seq: _s, hash: _h, ...rest }: LedgerRow): LedgerLine {
  return rest
}

/** Asserts that the rows of one writer, in order, are a chain without gaps. */
export function wholeChain(rows: readonly LedgerRow[]): void {
  let before = chainStart
  for (const [index, row] of rows.entries()) {
    assert.equal(row.seq, index + 1)
    assert.equal(row.hash, chainHash(before, row.seq, chainText(row, digestOf(row.notes))), row.id)
    before = row.hash
  }
}
