/** What every store must do about the processes that write: renewing, fencing, winding up, marks. @module */
import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, it } from 'node:test'
import type { LedgerLine } from '../../src/call.ts'
import { chainStart } from '../../src/stores/chain.ts'
import type { Change, Mark, Store, WriterRow } from '../../src/stores/store.ts'
import { wholeChain } from './ledger.ts'
import { account, amounts, entry, line, posting, total } from './rows.ts'
import type { Place } from './store.ts'

const termMs = 60_000

export function writerContract(fresh: () => Promise<Place>, shared: boolean): void {
  describe('a writer', () => {
    let place: Place
    let store: Store

    beforeEach(async () => {
      place = await fresh()
      store = await place.open({ termMs })
      await store.accounts.insert(account('red'), null)
    })
    afterEach(() => store.close())

    it('renews its term by the clock of the database, and tells where its chain ends', async () => {
      await store.ledger.append([entry(line('r1')), entry(line('r2'))])
      const before = await store.writers.beat(termMs)
      await store.writers.beat(termMs * 2)
      const { now, alive, writers } = await store.writers.beat(termMs * 3)
      assert.equal(alive, true)
      const row = writers.find(({ id }) => id === store.writers.id) as WriterRow
      assert.equal(row.endedAt, null)
      assert.equal(store.writers.gone(row), false)
      assert.ok(row.startedAt <= before.now && before.now <= now)
      assert.ok(row.expiresAt >= now + termMs * 3 - 1000, 'the term is counted from the beat')
      const [, last] = await store.ledger.page({ limit: 2 })
      assert.deepEqual([row.seq, row.hash], [2, last?.hash])
    })

    it('begins its chain anew each time', async () => {
      const { writers } = await store.writers.beat(termMs)
      assert.deepEqual([writers[0]?.seq, writers[0]?.hash], [0, chainStart])
    })

    if (!shared) return

    let other: Store
    beforeEach(async () => {
      other = await place.open({ termMs })
    })
    afterEach(() => other.close())

    const rowOf = async (of: Store, by = store) => {
      const { writers } = await by.writers.beat(termMs)
      const row = writers.find(({ id }) => id === of.writers.id)
      assert.ok(row !== undefined, 'the writer is known')
      return row
    }

    it('is seen by the others until it closes', async () => {
      const third = await place.open({ termMs })
      const { id } = third.writers
      assert.equal((await rowOf(third)).endedAt, null)
      await third.ledger.append([entry(line('r1', { usd: 7 }), [posting(total('red'))])])
      await third.close()
      const { writers } = await store.writers.beat(termMs)
      assert.deepEqual(
        writers.map((row) => row.id).filter((one) => one === id),
        [],
      )
      const rows = await store.balances.of('red')
      assert.deepEqual(
        rows.map((row) => [row.writer, row.used.usd]),
        [['', 7]],
      )
    })

    it('hears what others changed, at least once', async () => {
      await store.writers.beat(termMs)
      await other.writers.beat(termMs)
      await other.accounts.update('red', { name: 'other' })
      await other.writers.announce([{ kind: 'recall', subject: 'red total 0' }])
      await other.writers.announce([])
      const told = (changes: readonly Change[]) => changes.map(({ kind, subject }) => `${kind} ${subject}`)
      assert.deepEqual(told((await store.writers.beat(termMs)).changes), ['account red', 'recall red total 0'])
      await other.writers.announce([{ kind: 'recall', subject: 'red day 5' }])
      assert.ok(told((await store.writers.beat(termMs)).changes).includes('recall red day 5'))
    })

    it('does not hear what was changed before it came', async () => {
      await store.accounts.update('red', { name: 'other' })
      const late = await place.open({ termMs })
      assert.deepEqual((await late.writers.beat(termMs)).changes, [])
      await late.close()
    })

    it('is not declared dead when it renewed meanwhile', async () => {
      const seen = await rowOf(other)
      await other.writers.beat(termMs + 1000)
      assert.equal(await store.writers.fence(seen), false)
      assert.equal((await other.writers.beat(termMs)).alive, true)
    })

    it('is told once that it was declared dead, and goes on under another name with nothing leased', async () => {
      await other.leases.ask([
        { key: total('red'), version: 1, want: amounts({ usd: 50 }), max: amounts({ usd: 100 }) },
      ])
      const before = other.writers.id
      const dead = await rowOf(other)
      assert.deepEqual([await store.writers.fence(dead), await store.writers.fence(dead)], [true, false])
      const told = await other.writers.beat(termMs)
      assert.equal(told.alive, false)
      assert.notEqual(other.writers.id, before)
      assert.equal((await other.writers.beat(termMs)).alive, true)
      await store.writers.windUp(before)
      const [own] = await other.leases.ask([{ key: total('red'), version: 1, want: amounts(), max: amounts() }])
      assert.deepEqual(own?.leasedByAll, amounts())
    })

    it('books under another name what it appends after it was declared dead, and not from its leases', async () => {
      const spending = posting(total('red'), 'usd')
      const want = { key: total('red'), version: 1, want: amounts({ usd: 50 }), max: amounts({ usd: 100 }) }
      await other.leases.ask([want])
      await other.ledger.append([entry(line('r1', { usd: 10 }), [spending])])
      const before = other.writers.id
      await store.writers.fence(await rowOf(other))
      await other.ledger.append([entry(line('r2', { usd: 20 }), [spending])])
      assert.notEqual(other.writers.id, before)
      assert.equal((await other.writers.beat(termMs)).alive, false, 'what it leased is gone, and it is told')
      await store.writers.windUp(before)
      await other.ledger.append([entry(line('r3', { usd: 5 }), [spending])])
      const rows = await store.balances.of('red')
      assert.deepEqual(
        rows.map((row) => [row.writer, row.used.usd, row.leased.usd]),
        [
          ['', 10, 0],
          [other.writers.id, 25, 0],
        ],
      )
      const lines = await store.ledger.page({ limit: 10 })
      assert.deepEqual(
        lines.map(({ id, writer, seq }) => [id, writer, seq]),
        [
          ['r1', before, 1],
          ['r2', other.writers.id, 1],
          ['r3', other.writers.id, 2],
        ],
      )
      wholeChain(lines.slice(0, 1))
      wholeChain(lines.slice(1))
    })

    it('is wound up once, also by two at a time: what it used is kept, what it leased is free', async () => {
      await other.leases.ask([
        { key: total('red'), version: 1, want: amounts({ usd: 60 }), max: amounts({ usd: 100 }) },
      ])
      await other.ledger.append([entry(line('r1', { usd: 10 }), [posting(total('red'), 'usd')])])
      await store.ledger.append([entry(line('r2', { usd: 5 }), [posting(total('red'))])])
      const dead = await rowOf(other)
      await store.writers.fence(dead)
      const third = await place.open({ termMs })
      await Promise.all([store, third, store].map(({ writers }) => writers.windUp(dead.id)))
      await third.close()
      const rows = await store.balances.of('red')
      assert.deepEqual(
        rows.map((row) => [row.writer, row.used.usd, row.leased.usd]),
        [
          ['', 10, 0],
          [store.writers.id, 5, 0],
        ],
      )
      const { writers } = await store.writers.beat(termMs)
      assert.equal(
        writers.some(({ id }) => id === dead.id),
        false,
      )
      const [answer] = await store.leases.ask([
        { key: total('red'), version: 1, want: amounts({ usd: 100 }), max: amounts({ usd: 100 }) },
      ])
      assert.deepEqual([answer?.used.usd, answer?.leased.usd], [15, 85])
    })

    it('leaves nothing behind under its old name, whatever it was doing when it was declared dead', async () => {
      const max = amounts({ tokens: 1_000_000 })
      const spending = [posting(total('red'), 'tokens')]
      const dead: string[] = []
      let stop = false
      let booked = 0
      const asking = (async () => {
        while (!stop) await other.leases.ask([{ key: total('red'), version: 1, want: amounts({ tokens: 7 }), max }])
      })()
      const booking = (async () => {
        while (!stop) {
          const one = line(`r${String(++booked).padStart(6, '0')}`, { usd: 0, tokens: 3, requests: 0 })
          await other.ledger.append([entry(one, spending)])
        }
      })()
      while (dead.length < 12) {
        const { writers } = await store.writers.beat(termMs)
        const row = writers.find(({ id, endedAt }) => id !== store.writers.id && endedAt === null)
        // Between two names it has none.
        if (row === undefined || !(await store.writers.fence(row))) continue
        await store.writers.windUp(row.id)
        dead.push(row.id)
      }
      stop = true
      await Promise.all([asking, booking])
      const rows = await store.balances.of('red')
      assert.deepEqual(
        rows.filter(({ writer }) => dead.includes(writer)),
        [],
      )
      assert.equal(
        rows.reduce((sum, { used }) => sum + used.tokens, 0),
        3 * booked,
      )
      for (const { leased } of rows) assert.ok(leased.tokens >= 0)
      const lines = await store.ledger.page({ limit: 1000 })
      for (const chain of Map.groupBy(lines, ({ writer }) => writer).values()) wholeChain(chain)
    })

    describe('that has dispatched attempts', () => {
      const mark = (id: string, more: Partial<LedgerLine> = {}): Mark => {
        const { body: _body, notes: _notes, ...rest } = line(id, { account: 'red', ...more })
        return { line: rest, head: '{"call":"req_1","attempt":1' }
      }
      const marksOf = async (of: Store) =>
        (await store.writers.marksOf(of.writers.id)).toSorted((a, b) => (a.line.id < b.line.id ? -1 : 1))

      it('leaves their marks to the others, each as it was last', async () => {
        await other.writers.mark([mark('r1', { usd: 5 }), mark('r2')])
        await other.writers.mark([mark('r1', { usd: 9, booked: 1_790_000_000_123 })])
        assert.deepEqual(await marksOf(other), [mark('r1', { usd: 9, booked: 1_790_000_000_123 }), mark('r2')])
        assert.deepEqual(await store.writers.marksOf(store.writers.id), [])
      })

      it('leaves no mark of what is booked', async () => {
        await other.writers.mark(['r1', 'r2', 'r3'].map((id) => mark(id)))
        await other.ledger.append([entry(line('r1')), entry(line('r2'))])
        other.writers.unmark(['r1'])
        assert.deepEqual(await marksOf(other), [mark('r3')])
        other.writers.unmark(['r2'])
        await other.writers.mark([mark('r4')])
        assert.deepEqual(await marksOf(other), [mark('r3'), mark('r4')])
      })

      it('leaves no mark once it was wound up', async () => {
        await other.writers.mark([mark('r1')])
        await store.writers.fence(await rowOf(other))
        await store.writers.windUp(other.writers.id)
        assert.deepEqual(await marksOf(other), [])
      })

      it('keeps many marks that are made at once', async () => {
        const numbers = Array.from({ length: 500 }, (_, i) => `r${String(i).padStart(3, '0')}`)
        await Promise.all(
          numbers.map(async (id, index) => {
            await other.writers.mark([mark(id)])
            if (index % 2 === 1) return
            await other.ledger.append([entry(line(id))])
            other.writers.unmark([id])
          }),
        )
        const left = await marksOf(other)
        assert.deepEqual(
          left.map((one) => one.line.id),
          numbers.filter((_, index) => index % 2 === 1),
        )
      })
    })
  })
}
