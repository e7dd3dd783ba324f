/** Budgets of one process and of several on one database: what is held, refused, booked, conserved. @module */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, beforeEach, describe, it } from 'node:test'
import fc from 'fast-check'
import { type Amounts, units } from '../../src/call.ts'
import type { EscrowHold } from '../../src/escrow/escrow.ts'
import { Fault } from '../../src/fault.ts'
import { openSqlite } from '../../src/stores/sqlite.ts'
import type { Store } from '../../src/stores/store.ts'
import {
  accountRow,
  allRows,
  book,
  dispatch,
  entryOf,
  type House,
  type HouseOptions,
  head,
  none,
  openHouse,
  outcomeOf,
  refusal,
  stop,
  sumOf,
  taken,
  tokens,
} from './rig.ts'

const folder = mkdtempSync(join(tmpdir(), 'gatehouse-escrow-'))
after(() => rmSync(folder, { recursive: true, force: true }))
let file = 0
let houses: House[] = []

beforeEach(() => {
  file++
  houses = []
})
afterEach(async () => {
  for (const house of houses) await house.close()
})

const openFile = (): Promise<Store> => openSqlite(join(folder, `${file}.db`))

async function open(options: HouseOptions = {}): Promise<House> {
  const house = await openHouse(await openFile(), options)
  houses.push(house)
  return house
}

async function leasedIn(house: House, id: string, period = 'total', startsAt = 0): Promise<Amounts> {
  return sumOf(await house.store.balances.of(id), period, startsAt).leased
}
async function usedIn(house: House, id: string, period = 'total', startsAt = 0): Promise<Amounts> {
  return sumOf(await house.store.balances.of(id), period, startsAt).used
}

/** Declares a process dead that is none, as one is that was too slow. */
async function takeForDead(victim: House, by: House): Promise<void> {
  const { writers } = by.store
  const { writers: rows } = await writers.beat(15_000)
  const row = rows.find(({ id }) => id === victim.store.writers.id)
  assert.ok(row !== undefined && (await writers.fence(row)))
}

describe('a hold', () => {
  it('is taken on every level or on none', async () => {
    const house = await open()
    const { accounts } = house.store
    await accounts.insert(accountRow('root', null, [stop('tokens', 100), stop('requests', 50)]), null)
    await accounts.insert(accountRow('team', 'root', [stop('tokens', 30)]), null)
    await accounts.insert(accountRow('a', 'team', [stop('requests', 1)]), null)
    await accounts.insert(accountRow('b', 'team', []), null)
    const first = taken(await house.hold('a', { ...none, tokens: 10, requests: 1 }))
    // Refused at the leaf, so nothing is held above.
    assert.deepEqual(refusal(await house.hold('a', { ...none, tokens: 10, requests: 1 })), [
      'budget_contended',
      'a',
      'requests',
    ])
    assert.equal(house.escrow.open(), 1)
    assert.deepEqual(
      (await house.escrow.states(await house.account('root'))).map(({ held }) => held),
      [10, 1],
    )
    const second = taken(await house.hold('b', { ...none, tokens: 20, requests: 1 }))
    assert.deepEqual(refusal(await house.hold('b', tokens(1))), ['budget_contended', 'team', 'tokens'])
    first.settle(none)
    second.settle(none)
    assert.equal(house.escrow.open(), 0)
  })

  it('is settled exactly once', async () => {
    const house = await open()
    await house.store.accounts.insert(accountRow('root', null, [stop('tokens', 100)]), null)
    const hold = taken(await house.hold('root', tokens(40)))
    assert.equal(hold.settle(tokens(30)), true)
    assert.equal(hold.settle(tokens(30)), false)
    assert.equal(await hold.extend(tokens(1)), false)
    assert.equal(hold.open, false)
    await house.store.ledger.append([entryOf(hold, 'line', 'root', tokens(30))])
    assert.equal((await house.escrow.used(await house.account('root'))).tokens, 30)
    assert.equal((await usedIn(house, 'root')).tokens, 30)
    assert.equal((await house.escrow.states(await house.account('root')))[0]?.remaining, 70)
  })

  it('grows where there is room on every level', async () => {
    const house = await open()
    await house.store.accounts.insert(accountRow('root', null, [stop('tokens', 100)]), null)
    await house.store.accounts.insert(accountRow('a', 'root', []), null)
    const hold = taken(await house.hold('a', tokens(40)))
    assert.equal(await hold.extend(tokens(60)), true)
    assert.equal(await hold.extend(tokens(1)), false)
    assert.equal(hold.amounts.tokens, 100)
    await book(house, hold, 'line', 'a', tokens(70))
    assert.equal(taken(await house.hold('a', tokens(30))).settle(none), true)
  })

  it('grows in the windows it was taken in, also when they have ended', async () => {
    let now = Date.UTC(2026, 4, 4, 10, 59, 59)
    const house = await open({ now: () => now, databaseNow: () => now })
    const limits = [stop('tokens', 100, { window: 'minute' })]
    await house.store.accounts.insert(accountRow('root', null, limits), null)
    const hold = taken(await house.hold('root', tokens(60)))
    now += 60_000
    assert.equal(await hold.extend(tokens(41)), false)
    assert.equal(await hold.extend(tokens(40)), true)
    taken(await house.hold('root', tokens(100)))
    await book(house, hold, 'line', 'root')
    const minute = Date.UTC(2026, 4, 4, 10, 59)
    assert.deepEqual(await usedIn(house, 'root', 'minute', minute), tokens(100))
    assert.equal((await leasedIn(house, 'root', 'minute', minute)).tokens, 0)
  })

  it('that is settled while it waits to grow does not grow', async () => {
    const [one, two] = [await open({ recallMs: 200 }), await open()]
    await one.store.accounts.insert(accountRow('root', null, [stop('tokens', 100)]), null)
    const hold = taken(await one.hold('root', tokens(10)))
    await one.escrow.recall(`root total 0 ${two.store.writers.id}`)
    const rest = taken(await two.hold('root', tokens(90)))
    const grown = hold.extend(tokens(10))
    hold.settle(none)
    rest.settle(none)
    assert.equal(await grown, false)
    assert.equal(hold.amounts.tokens, 10)
  })

  it('that used more than it held leaves what others hold to them, so that no more is given than is left', async () => {
    const [one, two] = [await open(), await open()]
    await one.store.accounts.insert(accountRow('root', null, [stop('tokens', 100)]), null)
    const [over, beside] = [taken(await one.hold('root', tokens(10))), taken(await one.hold('root', tokens(50)))]
    await book(one, over, 'over', 'root', tokens(30))
    await one.escrow.recall(`root total 0 ${two.store.writers.id}`)
    assert.deepEqual(refusal(await two.hold('root', tokens(21))).slice(0, 2), ['budget_contended', 'root'])
    taken(await two.hold('root', tokens(20)))
    await book(one, beside, 'beside', 'root')
    assert.deepEqual(await usedIn(one, 'root'), tokens(80))
  })

  it('says which limit refuses, and whether waiting helps', async () => {
    let now = Date.UTC(2026, 0, 31, 23, 59, 59)
    const house = await open({ now: () => now, databaseNow: () => now })
    const { accounts } = house.store
    await accounts.insert(accountRow('root', null, [stop('requests', 2, { window: 'month' })]), null)
    await accounts.insert(accountRow('child', 'root', [stop('tokens', 100)]), null)
    const child = await house.account('child')
    const wants = (count: number) => house.hold('child', { ...none, requests: 1, tokens: count })
    const first = taken(await wants(60))
    assert.deepEqual(refusal(await wants(60)), ['budget_contended', 'child', 'tokens'])
    assert.deepEqual(refusal(await wants(101)), ['budget_too_small', 'child', 'tokens'])
    await book(house, first, 'one', 'child', { ...none, requests: 1, tokens: 100 })
    assert.deepEqual(refusal(await wants(1)), ['budget_exhausted', 'child', 'tokens'])
    taken(await wants(0))
    assert.deepEqual(refusal(await wants(0)), ['budget_contended', 'root', 'requests'])
    assert.deepEqual(house.escrow.free(child), { tokens: 0, requests: 0 })
    now += 1000
    assert.deepEqual(house.escrow.free(child), { tokens: 0, requests: 2 })
    assert.equal((await house.escrow.states(await house.account('root')))[0]?.resetsAt, Date.UTC(2026, 2, 1))
  })

  it('is not stopped by a limit that only warns, and such a limit leases nothing', async () => {
    const house = await open()
    await house.store.accounts.insert(accountRow('root', null, [stop('tokens', 10, { action: 'warn' })]), null)
    const hold = taken(await house.hold('root', tokens(50)))
    assert.equal((await leasedIn(house, 'root')).tokens, 0)
    await book(house, hold, 'line', 'root')
    const [state] = await house.escrow.states(await house.account('root'))
    assert.deepEqual([state?.used, state?.held, state?.remaining], [50, 0, 0])
  })

  it('that used more than it held is booked as it was, and the next is refused', async () => {
    const house = await open()
    await house.store.accounts.insert(accountRow('root', null, [stop('tokens', 100)]), null)
    await book(house, taken(await house.hold('root', tokens(90))), 'over', 'root', tokens(250))
    assert.equal((await usedIn(house, 'root')).tokens, 250)
    assert.deepEqual(refusal(await house.hold('root', tokens(1))), ['budget_exhausted', 'root', 'tokens'])
  })
})

describe('a limit that is lowered', () => {
  it('is respected at once here and after a beat elsewhere', async () => {
    const [one, two] = [await open(), await open()]
    await one.store.accounts.insert(accountRow('root', null, [stop('tokens', 1000)]), null)
    for (const house of [one, two]) taken(await house.hold('root', tokens(10)))
    await one.directory.update('root', { limits: [stop('tokens', 25)] })
    assert.deepEqual(refusal(await one.hold('root', tokens(26))), ['budget_too_small', 'root', 'tokens'])
    assert.deepEqual(refusal(await one.hold('root', tokens(16))), ['budget_contended', 'root', 'tokens'])
    await two.presence.beat()
    assert.deepEqual(await leasedIn(one, 'root'), tokens(20))
    taken(await two.hold('root', tokens(5)))
    assert.deepEqual(refusal(await two.hold('root', tokens(1))), ['budget_contended', 'root', 'tokens'])
  })

  it('is respected by a process that has not heard of it, when it asks for more', async () => {
    const [one, two] = [await open(), await open()]
    await one.store.accounts.insert(accountRow('root', null, [stop('tokens', 1000)]), null)
    await two.account('root')
    await one.directory.load('root')
    await one.directory.update('root', { limits: [stop('tokens', 5)] })
    assert.deepEqual(refusal(await two.hold('root', tokens(6))), ['budget_too_small', 'root', 'tokens'])
  })
})

describe('a limit over a window', () => {
  it('that comes later counts what was used in it before', async () => {
    const house = await open()
    await house.store.accounts.insert(accountRow('root', null, []), null)
    await book(house, taken(await house.hold('root', tokens(70))), 'before', 'root')
    await house.directory.update('root', { limits: [stop('tokens', 100, { window: 'month' })] })
    assert.deepEqual(refusal(await house.hold('root', tokens(31))), ['budget_too_small', 'root', 'tokens'])
    taken(await house.hold('root', tokens(30)))
  })

  it('that went and came back counts what was used meanwhile', async () => {
    const house = await open()
    const monthly = [stop('tokens', 100, { window: 'month' })]
    await house.store.accounts.insert(accountRow('root', null, monthly), null)
    await book(house, taken(await house.hold('root', tokens(10))), 'one', 'root')
    await house.directory.update('root', { limits: [] })
    await book(house, taken(await house.hold('root', tokens(80))), 'two', 'root')
    await house.directory.update('root', { limits: monthly })
    assert.deepEqual(refusal(await house.hold('root', tokens(11))), ['budget_too_small', 'root', 'tokens'])
    assert.equal((await house.escrow.states(await house.account('root')))[0]?.used, 90)
  })

  it('counts a line that was on its way when the limit came', async () => {
    const house = await open()
    await house.store.accounts.insert(accountRow('root', null, []), null)
    const hold = taken(await house.hold('root', tokens(70)))
    hold.settle(tokens(70))
    const entry = entryOf(hold, 'late', 'root', tokens(70))
    await house.directory.update('root', { limits: [stop('tokens', 100, { window: 'month' })] })
    await house.store.ledger.append([entry])
    assert.deepEqual(refusal(await house.hold('root', tokens(31))), ['budget_too_small', 'root', 'tokens'])
  })

  it('of a process started in its middle goes on where it was', async () => {
    const limits = [stop('tokens', 100, { window: 'day', zone: 'Europe/Berlin' })]
    const one = await open()
    await one.store.accounts.insert(accountRow('root', null, limits), null)
    await book(one, taken(await one.hold('root', tokens(60))), 'one', 'root')
    const two = await open()
    assert.equal(two.escrow.free(await two.account('root')).tokens, 40)
    assert.deepEqual(refusal(await two.hold('root', tokens(41))), ['budget_too_small', 'root', 'tokens'])
  })

  it('counts each line in exactly one window, whatever the clocks do', async () => {
    const minuteLimits = [
      stop('requests', 1_000_000, { window: 'minute' }),
      stop('requests', 1_000_000, { window: 'hour', zone: 'Asia/Kolkata' }),
      stop('requests', 1_000_000, { window: 'day', zone: 'Europe/Berlin' }),
    ]
    // The night on which the clocks go back in Berlin.
    let now = Date.UTC(2026, 9, 24, 21, 50)
    const skews = [0, 5000, -5000]
    const members = []
    for (const skew of skews) members.push(await open({ now: () => now + skew }))
    const [first] = members as [House]
    await first.store.accounts.insert(accountRow('root', null, minuteLimits), null)
    await first.store.accounts.insert(accountRow('leaf', 'root', []), null)
    const moves = fc.sample(fc.integer({ min: -3_600_000, max: 3_700_000 }), { numRuns: 40, seed: 7 })
    const open20: { house: House; hold: EscrowHold }[] = []
    let line = 0
    const finish = async (count: number) => {
      for (const { house, hold } of open20.splice(0, count)) await book(house, hold, `l${line++}`, 'leaf')
    }
    for (const move of moves) {
      for (const house of members)
        open20.push({ house, hold: taken(await house.hold('leaf', { ...none, requests: 1 })) })
      now += move
      await finish(open20.length - 2)
    }
    await finish(open20.length)
    const rows = await allRows(first.store)
    assert.equal(rows.length, 3 * moves.length)
    const balances = await first.store.balances.of('root')
    for (const period of ['total', 'minute', 'hour@Asia/Kolkata', 'day@Europe/Berlin']) {
      const sum = balances.filter((row) => row.period === period).reduce((all, row) => all + row.used.requests, 0)
      assert.equal(sum, rows.length, period)
    }
    await fromLedger(first, 'root')
  })

  it('is not opened again by a clock that steps back', async () => {
    let now = Date.UTC(2026, 4, 4, 10, 59, 59, 999)
    const house = await open({ now: () => now, databaseNow: () => now })
    await house.store.accounts.insert(accountRow('root', null, [stop('tokens', 10, { window: 'minute' })]), null)
    await book(house, taken(await house.hold('root', tokens(10))), 'before', 'root')
    assert.deepEqual(refusal(await house.hold('root', tokens(1))), ['budget_exhausted', 'root', 'tokens'])
    now += 1
    await book(house, taken(await house.hold('root', tokens(10))), 'after', 'root')
    now -= 30_000
    assert.deepEqual(refusal(await house.hold('root', tokens(1))), ['budget_exhausted', 'root', 'tokens'])
  })
})

/** Every counter of an account holds what the lines booked in its window come to. */
async function fromLedger(house: House, account: string): Promise<void> {
  const balances = await house.store.balances.of(account)
  for (const { period, startsAt } of balances) {
    if (period === 'total') continue
    const before = sumOf(await house.store.balances.of(account), period, startsAt).used
    const { windowEnd } = await import('../../src/escrow/window.ts')
    await house.store.balances.recount({ account, period, startsAt }, windowEnd(period, startsAt))
    const counted = sumOf(await house.store.balances.of(account), period, startsAt).used
    assert.deepEqual(counted, before, `${period} from ${startsAt}`)
  }
}

describe('several processes', () => {
  it('never come to more than a limit together, in whatever order they hold, settle and give back', async () => {
    const [one, two, three] = [await open({ recallMs: 0 }), await open({ recallMs: 0 }), await open({ recallMs: 0 })]
    const members = [one, two, three]
    await one.store.accounts.insert(accountRow('root', null, [stop('tokens', 500), stop('usd', 900)]), null)
    for (const id of ['a', 'b']) await one.store.accounts.insert(accountRow(id, 'root', [stop('tokens', 400)]), null)
    const openHolds: { house: House; hold: EscrowHold; leaf: string }[] = []
    const steps = fc.sample(
      fc.record({
        who: fc.nat(2),
        leaf: fc.constantFrom('a', 'b'),
        count: fc.integer({ min: 1, max: 60 }),
        end: fc.nat(3),
      }),
      { numRuns: 150, seed: 11 },
    )
    let line = 0
    for (const { who, leaf, count, end } of steps) {
      const house = members[who] as House
      const hold = await house.hold(leaf, { ...none, tokens: count, usd: 2 * count })
      if (!(hold instanceof Fault)) openHolds.push({ house, hold, leaf })
      if (end === 0) await house.presence.beat()
      if (end > 1 && openHolds.length > 0) {
        const [ended] = openHolds.splice(count % openHolds.length, 1)
        if (ended === undefined) continue
        const part = end === 2 ? none : { ...ended.hold.amounts, tokens: ended.hold.amounts.tokens >> 1 }
        await book(ended.house, ended.hold, `l${line++}`, ended.leaf, part)
      }
      for (const [id, max] of [
        ['root', 500],
        ['a', 400],
        ['b', 400],
      ] as const) {
        const { used, leased } = sumOf(await one.store.balances.of(id), 'total', 0)
        assert.ok(used.tokens + leased.tokens <= max, `${id}: ${used.tokens} + ${leased.tokens}`)
        for (const unit of units) assert.ok(leased[unit] >= 0, `${id} ${unit} leased ${leased[unit]}`)
      }
    }
  })

  it('give back what they do not use to one that waits', async () => {
    const [one, two] = [await open({ everyMs: 20 }), await open({ everyMs: 20 })]
    await one.store.accounts.insert(accountRow('root', null, [stop('tokens', 100)]), null)
    taken(await one.hold('root', tokens(10))).settle(none)
    assert.ok((await leasedIn(one, 'root')).tokens > 10)
    const all = taken(await two.hold('root', tokens(100)))
    assert.deepEqual(await leasedIn(one, 'root'), tokens(100))
    all.settle(none)
  })

  it('that wait for the same rest with a part of it each do not keep it from each other', async () => {
    const [one, two, three] = [await open({ everyMs: 20 }), await open({ everyMs: 20 }), await open({ everyMs: 20 })]
    await one.store.accounts.insert(accountRow('root', null, [stop('tokens', 100)]), null)
    const rest = taken(await three.hold('root', tokens(60)))
    const waiting = [one.hold('root', tokens(70)), two.hold('root', tokens(70))]
    rest.settle(none)
    const ends = await Promise.all(waiting)
    assert.equal(ends.filter((end) => !(end instanceof Fault)).length, 1)
    const lost = ends.find((end) => end instanceof Fault) as Fault
    assert.deepEqual(refusal(lost), ['budget_contended', 'root', 'tokens'])
  })

  it('give back each amount once, however many of them hold a lease of the counter', async () => {
    const members = [await open(), await open(), await open()]
    const [one] = members as [House]
    await one.store.accounts.insert(accountRow('root', null, [stop('tokens', 1000)]), null)
    for (const house of members) taken(await house.hold('root', tokens(10)))
    const { id } = one.store.writers
    await members[1]?.escrow.recall(`root total 0 ${id}`)
    const rows = await one.store.balances.of('root')
    for (const row of rows) assert.ok(row.leased.tokens >= 10, `${row.writer} has ${row.leased.tokens}`)
  })
})

describe('a process taken for dead', () => {
  async function pair(): Promise<[House, House]> {
    const [slow, other] = [await open({ recallMs: 0 }), await open({ recallMs: 0 })]
    await slow.store.accounts.insert(accountRow('root', null, [stop('tokens', 100)]), null)
    await slow.store.accounts.insert(accountRow('leaf', 'root', []), null)
    return [slow, other]
  }

  it('loses its leases, and spends nothing of them once it writes under another name', async () => {
    const [slow, other] = await pair()
    const hold = taken(await slow.hold('leaf', tokens(10)))
    await takeForDead(slow, other)
    await other.presence.beat()
    const all = taken(await other.hold('leaf', tokens(100)))
    // A line of its own tells it, before any beat does.
    await book(slow, hold, 'late', 'leaf')
    assert.deepEqual(refusal(await slow.hold('leaf', tokens(1))), ['budget_contended', 'root', 'tokens'])
    assert.deepEqual(await leasedIn(other, 'root'), tokens(100))
    all.settle(none)
  })

  it('goes on under another name where it asks for more', async () => {
    const [slow, other] = await pair()
    taken(await slow.hold('leaf', tokens(10))).settle(none)
    const before = slow.store.writers.id
    await takeForDead(slow, other)
    await other.presence.beat()
    await book(slow, taken(await slow.hold('leaf', tokens(100))), 'after', 'leaf', tokens(60))
    assert.notEqual(slow.store.writers.id, before)
    assert.deepEqual(refusal(await other.hold('leaf', tokens(41))), ['budget_too_small', 'root', 'tokens'])
  })

  it('takes nothing from its new leases for a line that was spent from the old', async () => {
    const [slow, other] = await pair()
    const old = taken(await slow.hold('leaf', tokens(40)))
    old.settle(tokens(40))
    const entry = entryOf(old, 'old', 'leaf', tokens(40))
    await takeForDead(slow, other)
    await other.presence.beat()
    taken(await slow.hold('leaf', tokens(50)))
    await slow.store.ledger.append([entry])
    const { used, leased } = sumOf(await other.store.balances.of('root'), 'total', 0)
    assert.equal(used.tokens, 40)
    assert.ok(leased.tokens >= 50, `the open hold has ${leased.tokens}`)
  })

  it('gives nothing back that is not its own any more', async () => {
    const [slow, other] = await pair()
    taken(await slow.hold('leaf', tokens(10))).settle(none)
    await takeForDead(slow, other)
    await other.presence.beat()
    await slow.escrow.recall(`root total 0 ${other.store.writers.id}`)
    assert.deepEqual(await leasedIn(other, 'root'), none)
  })

  it('dispatches nothing on a lease that has ended', async () => {
    const [slow, other] = await pair()
    const hold = taken(await slow.hold('leaf', tokens(30)))
    await takeForDead(slow, other)
    await other.presence.beat()
    await slow.presence.beat()
    assert.throws(() => void dispatch(hold, 'line'), /silent too long/)
    hold.settle(none)
    await dispatch(taken(await slow.hold('leaf', tokens(30))), 'line')
  })

  it('has what it dispatched booked as held, and nothing of what had not left', async () => {
    const [slow, other] = await pair()
    const left = taken(await slow.hold('leaf', tokens(30)))
    await dispatch(left, 'left')
    await left.extend(tokens(5))
    taken(await slow.hold('leaf', tokens(20)))
    await takeForDead(slow, other)
    await other.presence.beat()
    const rows = await allRows(other.store)
    assert.deepEqual(
      rows.map((row) => [row.id, row.tokens, outcomeOf(row)]),
      [['left', 35, 'recovered']],
    )
    assert.deepEqual(await usedIn(other, 'root'), tokens(35))
    assert.deepEqual(await leasedIn(other, 'root'), none)
  })

  it('corrects once what was booked for it, when it comes back', async () => {
    const [slow, other] = await pair()
    const less = taken(await slow.hold('leaf', tokens(30)))
    const more = taken(await slow.hold('leaf', tokens(20)))
    await dispatch(less, 'less')
    await dispatch(more, 'more')
    await takeForDead(slow, other)
    await other.presence.beat()
    less.settle(tokens(12))
    more.settle(tokens(26))
    const entries = [entryOf(less, 'less', 'leaf', tokens(12)), entryOf(more, 'more', 'leaf', tokens(26))]
    await slow.store.ledger.append(entries)
    await slow.store.ledger.append(entries)
    await other.store.ledger.append(entries)
    const rows = await allRows(other.store)
    assert.deepEqual(
      rows.map((row) => [row.id, row.tokens, outcomeOf(row)]),
      [
        ['less', 30, 'recovered'],
        ['less.c', -18, 'corrected'],
        ['more', 20, 'recovered'],
        ['more.c', 6, 'corrected'],
      ],
    )
    for (const id of ['leaf', 'root']) assert.deepEqual(await usedIn(other, id), tokens(38))
    assert.deepEqual(refusal(await other.hold('leaf', tokens(63))), ['budget_too_small', 'root', 'tokens'])
    taken(await other.hold('leaf', tokens(62)))
    assert.ok(rows.every((row) => row.body.startsWith(head.slice(0, 10))))
  })

  it('that wrote first is not recovered', async () => {
    const [slow, other] = await pair()
    const hold = taken(await slow.hold('leaf', tokens(30)))
    await dispatch(hold, 'line')
    await takeForDead(slow, other)
    await book(slow, hold, 'line', 'leaf', tokens(5))
    await other.presence.beat()
    const rows = await allRows(other.store)
    assert.deepEqual(
      rows.map((row) => [row.id, row.tokens, outcomeOf(row)]),
      [['line', 5, 'answered']],
    )
    assert.deepEqual(await usedIn(other, 'root'), tokens(5))
  })
})
