/** What every store's leases must do: what is used and set aside never passes a limit, whoever asks. @module */
import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, it } from 'node:test'
import fc from 'fast-check'
import { type Amounts, units } from '../../src/call.ts'
import type { LeaseAnswer, LeaseAsk, Store } from '../../src/stores/store.ts'
import { account, amounts, entry, line, posting, total } from './rows.ts'
import type { Place } from './store.ts'

export function leaseContract(fresh: () => Promise<Place>, shared: boolean): void {
  describe('leases', () => {
    let place: Place
    let store: Store

    beforeEach(async () => {
      place = await fresh()
      store = await place.open()
      await store.accounts.insert(account('red'), null)
    })
    afterEach(() => store.close())

    const tokens = (want: number, max: number, more: Partial<LeaseAsk> = {}): LeaseAsk => ({
      key: total('red'),
      version: 1,
      want: amounts({ tokens: want }),
      max: amounts({ tokens: max }),
      ...more,
    })

    async function ask(one: LeaseAsk, of = store): Promise<LeaseAnswer> {
      const [answer] = await of.leases.ask([one])
      assert.ok(answer !== undefined)
      return answer
    }

    /** Appends a line that spends its tokens from the lease. */
    const spend = (id: string, spent: number, of = store) =>
      of.ledger.append([
        entry(line(id, { account: 'red', usd: 0, tokens: spent, requests: 0 }), [posting(total('red'), 'tokens')]),
      ])

    it('give what is asked, and of that what fits', async () => {
      assert.deepEqual(await ask(tokens(60, 100)), {
        used: amounts(),
        leasedByAll: amounts({ tokens: 60 }),
        leased: amounts({ tokens: 60 }),
        stale: false,
      })
      assert.equal((await ask(tokens(60, 100))).leased.tokens, 100)
      assert.equal((await ask(tokens(60, 100))).leased.tokens, 100)
    })

    it('count every unit for itself', async () => {
      const want = { usd: 5, tokens: 70, requests: 1, tool_calls: 0 }
      const max = { usd: 3, tokens: 100, requests: 0, tool_calls: 9 }
      await ask(tokens(0, 0, { want, max }))
      const { leased } = await ask(tokens(0, 0, { want, max }))
      assert.deepEqual(leased, { usd: 3, tokens: 100, requests: 0, tool_calls: 0 })
    })

    it('take what was used into account, and shrink as it is used', async () => {
      await store.ledger.append([entry(line('r1', { tokens: 30 }), [posting(total('red'))])])
      const first = await ask(tokens(100, 100))
      assert.deepEqual([first.used.tokens, first.leased.tokens], [30, 70])
      await spend('r2', 50)
      const second = await ask(tokens(100, 100))
      assert.deepEqual([second.used.tokens, second.leased.tokens], [80, 20])
      assert.equal((await ask(tokens(100, 90))).leased.tokens, 20)
    })

    it('do not shrink by what a line had to spend without them', async () => {
      await ask(tokens(10, 100))
      const red = posting(total('red'), 'tokens')
      const short = [{ posting: red, amounts: amounts({ tokens: 15 }) }]
      await store.ledger.append([entry(line('r1', { account: 'red', tokens: 25 }), [red], { short })])
      const { used, leased } = await ask(tokens(0, 100))
      assert.deepEqual([used.tokens, leased.tokens], [25, 0])
    })

    it('can be given back, and no more of them than there is', async () => {
      await ask(tokens(60, 100))
      assert.equal((await ask(tokens(-25, 0))).leased.tokens, 35)
      assert.equal((await ask(tokens(-99, 0))).leased.tokens, 0)
      const { leasedByAll } = await ask(tokens(200, 100))
      assert.equal(leasedByAll.tokens, 100)
    })

    it('are not given against limits that have changed, but can be given back', async () => {
      await ask(tokens(10, 100))
      await store.accounts.update('red', { name: 'other' })
      const old = await ask(tokens(10, 100))
      assert.deepEqual([old.leased.tokens, old.stale], [10, true])
      assert.equal((await ask(tokens(-4, 0))).leased.tokens, 6)
      const current = await ask(tokens(10, 100, { version: 2 }))
      assert.deepEqual([current.leased.tokens, current.stale], [16, false])
    })

    it('are not given for an account that is not there', async () => {
      const { leased, stale } = await ask(tokens(10, 100, { key: total('nobody') }))
      assert.deepEqual([leased.tokens, stale], [0, true])
    })

    it('answer several questions in one transaction, in their order', async () => {
      const day = { account: 'red', period: 'day', startsAt: 86_400_000 }
      const answers = await store.leases.ask([tokens(10, 100), tokens(20, 15, { key: day }), tokens(5, 100)])
      assert.deepEqual(
        answers.map(({ leased }) => leased.tokens),
        [15, 15, 15],
      )
      assert.deepEqual(await store.leases.ask([]), [])
    })

    if (!shared) return

    describe('of several processes', () => {
      let other: Store
      beforeEach(async () => {
        other = await place.open()
      })
      afterEach(() => other.close())

      it('never pass the limit together', async () => {
        assert.equal((await ask(tokens(60, 100))).leased.tokens, 60)
        const answer = await ask(tokens(60, 100), other)
        assert.deepEqual([answer.leased.tokens, answer.leasedByAll.tokens], [40, 100])
        await spend('r1', 60)
        await spend('r2', 10, other)
        assert.equal((await ask(tokens(60, 100))).leased.tokens, 0)
        assert.equal((await ask(tokens(-30, 0), other)).leased.tokens, 0)
        const last = await ask(tokens(60, 100))
        assert.deepEqual([last.used.tokens, last.leased.tokens], [70, 30])
      })

      it('are shown per process, and their use too', async () => {
        await ask(tokens(60, 100))
        await ask(tokens(10, 100), other)
        await spend('r1', 4, other)
        const rows = await store.balances.of('red')
        const [mine, theirs] = [store, other].map(({ writers }) => rows.find((row) => row.writer === writers.id))
        assert.deepEqual([mine?.used.tokens, mine?.leased.tokens], [0, 60])
        assert.deepEqual([theirs?.used.tokens, theirs?.leased.tokens], [4, 6])
      })

      it('are given to one that was declared dead under another name, and what it had is free once it is wound up', async () => {
        await ask(tokens(60, 100), other)
        const { writers } = await store.writers.beat(60_000)
        const dead = writers.find(({ id }) => id === other.writers.id)
        assert.ok(dead !== undefined)
        assert.equal(await store.writers.fence(dead), true)
        const anew = await ask(tokens(10, 100), other)
        assert.notEqual(other.writers.id, dead.id)
        assert.deepEqual([anew.leased.tokens, anew.leasedByAll.tokens], [10, 70])
        await store.writers.windUp(dead.id)
        // What it thinks it still has to give back is not there any more.
        await ask(tokens(-50, 0), other)
        const all = await ask(tokens(100, 100))
        assert.deepEqual([all.leased.tokens, all.leasedByAll.tokens], [100, 100])
      })

      it('never pass the limit whatever happens in whichever order', async () => {
        const stores = [store, other]
        const step = fc.record({
          who: fc.nat({ max: 1 }),
          what: fc.constantFrom('ask' as const, 'give' as const, 'spend' as const),
          much: fc.integer({ min: 1, max: 60 }),
        })
        let run = 0
        await fc.assert(
          fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
            const id = `p${++run}`
            await store.accounts.insert(account(id), null)
            const key = total(id)
            const one = async ({ who, what, much }: (typeof steps)[number], index: number) => {
              const by = stores[who] as Store
              const want = { ask: much, give: -much, spend: 0 }[what]
              const [now] = await by.leases.ask([tokens(want, 100, { key })])
              const spent = Math.min(much, now?.leased.tokens ?? 0)
              if (what !== 'spend' || spent === 0) return
              const booked = line(`${id}-${index}`, { account: id, tokens: spent })
              await by.ledger.append([entry(booked, [posting(key, 'tokens')])])
            }
            // Each process does one thing after the other, and both at once: the database decides the order.
            const process = async (own: number) => {
              for (const [index, taken] of steps.entries()) if (taken.who === own) await one(taken, index)
            }
            await Promise.all([process(0), process(1)])
            const sum: Amounts = amounts()
            const rows = await store.balances.of(id)
            for (const row of rows) for (const unit of units) sum[unit] += row.used[unit] + row.leased[unit]
            for (const row of rows) assert.ok(row.leased.tokens >= 0, 'a lease below nothing')
            assert.ok(sum.tokens <= 100, `${sum.tokens} of 100`)
          }),
          { numRuns: 30 },
        )
      })
    })
  })
}
