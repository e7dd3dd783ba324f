/** The arithmetic of budgets against a plain model of it: whatever happens in whatever order, no limit is passed. @module */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { type Account, type Amounts, type Limit, type Unit, units, type Window } from '../../src/call.ts'
import { createEscrow, type Escrow, type EscrowHold } from '../../src/escrow/escrow.ts'
import { windowStart } from '../../src/escrow/window.ts'
import { Fault } from '../../src/fault.ts'
import type { BalanceRow } from '../../src/stores/store.ts'

const none: Amounts = { usd: 0, tokens: 0, requests: 0, tool_calls: 0 }

function account(id: string, parent: Account | null, limits: Limit[]): Account {
  const free = { models: null, tools: null, roles: [], labels: {}, expiresAt: null, revokedAt: null, createdAt: 0 }
  return { id, parent, kind: parent === null ? 'organization' : 'session', name: id, limits, ...free }
}
const stop = (unit: Unit, max: number, window: Window = 'total'): Limit => ({
  unit,
  max,
  window,
  action: 'stop',
  alertAt: [],
})

/** A tree of four levels with two branches: root, team, two keys, three sessions. */
function tree(limits: Limit[][]): Account[] {
  const at = (index: number) => limits[index] ?? []
  const root = account('root', null, at(0))
  const team = account('team', root, at(1))
  const one = account('one', team, at(2))
  const two = account('two', team, at(3))
  return [root, team, one, two, account('a', one, at(4)), account('b', one, at(5)), account('c', two, at(6))]
}
const path = (leaf: Account): Account[] => (leaf.parent === null ? [leaf] : [leaf, ...path(leaf.parent)])

/** What is open and settled, as a list; every number the escrow gives must follow from it. */
interface Entry {
  readonly path: readonly Account[]
  readonly amounts: Amounts
  readonly hold: EscrowHold
  actual: Amounts | null
}

const amounts = fc.record({
  usd: fc.nat(40),
  tokens: fc.nat(40),
  requests: fc.constantFrom(0, 1),
  tool_calls: fc.constantFrom(0, 1),
})
const limit: fc.Arbitrary<Limit> = fc.record({
  unit: fc.constantFrom(...units),
  max: fc.nat(120),
  window: fc.constantFrom<Window>('total', 'minute', 'hour'),
  action: fc.constantFrom<Limit['action']>('stop', 'stop', 'stop', 'warn'),
  alertAt: fc.constant([]),
})
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('hold' as const), leaf: fc.nat(2), amounts }) },
  {
    weight: 5,
    arbitrary: fc.record({ do: fc.constant('settle' as const), which: fc.nat(), actual: amounts, over: fc.boolean() }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('limit' as const),
      who: fc.nat(6),
      limits: fc.array(limit, { maxLength: 3 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('clock' as const), by: fc.integer({ min: -90_000, max: 120_000 }) }),
  },
)

type Step = typeof step extends fc.Arbitrary<infer Value> ? Value : never

/** Runs a story and compares after every step. */
function play(limits: Limit[][], steps: readonly Step[]): void {
  let now = Date.UTC(2026, 4, 4, 10, 59, 30)
  const escrow = createEscrow(() => now)
  const accounts = tree(limits)
  for (const one of accounts) escrow.attach(one, [])
  const entries: Entry[] = []
  const starts = new Map<string, number>()
  /** The window an account is in: the latest it was ever seen in, since a clock that steps back opens none. */
  const startOf = (id: string, window: Window) => {
    const start = Math.max(windowStart(window, now), starts.get(`${id} ${window}`) ?? 0)
    starts.set(`${id} ${window}`, start)
    return start
  }
  const inWindow = (entry: Entry, id: string, window: Window, start: number) =>
    entry.hold.balances.some((key) => key.account === id && key.window === window && key.startsAt === start)
  function expected(one: Account, { unit, window }: Limit): { used: number; held: number } {
    const start = startOf(one.id, window)
    let used = 0
    let held = 0
    for (const entry of entries.filter((each) => inWindow(each, one.id, window, start))) {
      if (entry.actual === null) held += entry.amounts[unit]
      else used += entry.actual[unit]
    }
    return { used, held }
  }
  const compare = () => {
    assert.equal(escrow.open(), entries.filter((entry) => entry.actual === null).length)
    for (const one of accounts) {
      for (const state of escrow.states(one)) {
        const { used, held } = expected(one, state.limit)
        assert.deepEqual([state.used, state.held], [used, held], `${one.id} ${JSON.stringify(state.limit)}`)
      }
      const settled = entries.filter((entry) => entry.actual !== null && entry.path.includes(one))
      for (const unit of units) {
        const sum = settled.reduce((total, entry) => total + (entry.actual as Amounts)[unit], 0)
        assert.equal(escrow.used(one)[unit], sum, `${one.id} ${unit}`)
      }
    }
  }

  for (const move of steps) {
    compare()
    if (move.do === 'clock') now += move.by
    else if (move.do === 'limit') (accounts[move.who] as Account).limits = move.limits
    else if (move.do === 'settle') {
      const open = entries.filter((entry) => entry.actual === null)
      const entry = open[move.which % Math.max(1, open.length)]
      if (entry === undefined) continue
      const within = { ...none }
      for (const unit of units)
        within[unit] = move.over ? move.actual[unit] : Math.min(move.actual[unit], entry.amounts[unit])
      assert.equal(entry.hold.settle(within), true)
      entry.actual = within
      assert.equal(entry.hold.settle(move.actual), false)
      assert.equal(entry.hold.open, false)
    } else {
      const leaf = accounts[4 + move.leaf] as Account
      const blocked = path(leaf).some((one) =>
        one.limits.some((each) => {
          const { used, held } = expected(one, each)
          return (
            each.action === 'stop' && move.amounts[each.unit] > 0 && used + held + move.amounts[each.unit] > each.max
          )
        }),
      )
      const hold = escrow.hold(leaf, move.amounts)
      assert.equal(hold instanceof Fault, blocked)
      if (!(hold instanceof Fault)) entries.push({ path: path(leaf), amounts: move.amounts, hold, actual: null })
    }
  }
  compare()
  restart(escrow, accounts, entries, now)
}

/** Another process that loads the durable balances has the same used amounts in every window that goes on. */
function restart(escrow: Escrow, accounts: readonly Account[], entries: readonly Entry[], now: number): void {
  const rows = new Map<string, BalanceRow & Amounts>()
  for (const { hold, actual } of entries) {
    if (actual === null) continue
    for (const key of hold.balances) {
      const name = `${key.account} ${key.window} ${key.startsAt}`
      const row = rows.get(name) ?? { ...key, ...none }
      for (const unit of units) row[unit] += actual[unit]
      rows.set(name, row)
    }
  }
  const next = createEscrow(() => now)
  for (const one of accounts)
    next.attach(
      one,
      [...rows.values()].filter((row) => row.account === one.id),
    )
  for (const one of accounts) {
    assert.deepEqual({ ...next.used(one) }, { ...escrow.used(one) })
    const current = escrow.states(one)
    next.states(one).forEach((state, index) => {
      const before = current[index]
      // After a step back of the clock the old process stays in the later window; the new one cannot know it.
      if (before?.resetsAt === state.resetsAt) assert.equal(state.used, before?.used)
    })
  }
}

describe('the escrow', () => {
  it('counts one window for everybody below, also when the clock stepped back over its beginning', () => {
    const minute: Limit = { unit: 'usd', max: 10, window: 'minute', action: 'stop', alertAt: [] }
    const nothing = { usd: 0, tokens: 0, requests: 0, tool_calls: 0 } as const
    play(
      [[minute]],
      [
        { do: 'hold', leaf: 1, amounts: nothing },
        { do: 'clock', by: 30_000 },
        { do: 'clock', by: -1 },
        { do: 'hold', leaf: 0, amounts: { ...nothing, usd: 1 } },
        { do: 'hold', leaf: 1, amounts: { ...nothing, usd: 10 } },
      ],
    )
  })

  it('gives exactly the holds that fit every limit above, whatever happens in between', () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(limit, { maxLength: 3 }), { maxLength: 7 }),
        fc.array(step, { maxLength: 60 }),
        play,
      ),
      { numRuns: 2000 },
    )
  })

  it('never lets settled and held pass a stop limit while providers keep to what was held', () => {
    const moves = fc.array(fc.record({ leaf: fc.nat(2), amounts, settles: fc.boolean() }), { maxLength: 80 })
    fc.assert(
      fc.property(
        fc.array(fc.array(limit, { maxLength: 3 }), { minLength: 7, maxLength: 7 }),
        moves,
        (limits, story) => {
          const escrow = createEscrow(() => 0)
          const accounts = tree(limits)
          for (const one of accounts) escrow.attach(one, [])
          for (const { leaf, amounts: wanted, settles } of story) {
            const hold = escrow.hold(accounts[4 + leaf] as Account, wanted)
            if (!(hold instanceof Fault) && settles) hold.settle(wanted)
            for (const one of accounts) {
              for (const { limit: each, used, held, remaining } of escrow.states(one)) {
                if (each.action === 'stop')
                  assert.ok(used + held <= each.max, `${one.id} ${used} + ${held} > ${each.max}`)
                assert.equal(remaining, Math.max(0, each.max - used - held))
              }
            }
          }
        },
      ),
      { numRuns: 200 },
    )
  })

  it('says which limit refuses, and whether waiting helps', () => {
    let now = Date.UTC(2026, 0, 31, 23, 59, 59)
    const escrow = createEscrow(() => now)
    const root = account('root', null, [stop('requests', 2, 'month')])
    const child = account('child', root, [stop('tokens', 100)])
    escrow.attach(root, [])
    escrow.attach(child, [])
    const hold = (tokens: number) => escrow.hold(child, { ...none, requests: 1, tokens })
    const first = hold(60)
    assert.ok(!(first instanceof Fault))
    assert.deepEqual(code(hold(60)), ['budget_contended', 'child', 'tokens'])
    assert.deepEqual(code(hold(101)), ['budget_too_small', 'child', 'tokens'])
    first.settle({ ...none, requests: 1, tokens: 100 })
    assert.deepEqual(code(hold(1)), ['budget_exhausted', 'child', 'tokens'])
    assert.ok(!(hold(0) instanceof Fault))
    assert.deepEqual(code(hold(0)), ['budget_contended', 'root', 'requests'])
    assert.deepEqual(escrow.free(child), { tokens: 0, requests: 0 })
    now += 1000
    assert.deepEqual(escrow.free(child), { tokens: 0, requests: 2 })
    assert.equal(escrow.states(root)[0]?.resetsAt, Date.UTC(2026, 2, 1))
  })

  it('counts what a new window had used before anything counted it', async () => {
    const now = Date.UTC(2026, 5, 5, 12, 30)
    const escrow = createEscrow(() => now)
    const root = account('root', null, [stop('tokens', 100, 'day'), stop('requests', 5)])
    escrow.attach(root, [])
    const asked: number[] = []
    const sum = async (since: number) => {
      asked.push(since)
      return { ...none, tokens: 70 }
    }
    const found = await escrow.refresh(root, sum)
    assert.deepEqual(asked, [Date.UTC(2026, 5, 5)])
    assert.deepEqual(
      found.map(({ window, tokens }) => [window, tokens]),
      [['day', 70]],
    )
    assert.equal(escrow.free(root).tokens, 30)
    assert.deepEqual(await escrow.refresh(root, sum), [])
  })
})

function code(refused: EscrowHold | Fault): [string, unknown, unknown] {
  assert.ok(refused instanceof Fault)
  const { code: name, account: who, unit } = refused.body as { code: string; account?: unknown; unit?: unknown }
  return [name, who, unit]
}
