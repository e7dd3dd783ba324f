/**
 * A random story of several processes on one database, told from a seed and held against the reference after every step:
 * holds, growth, settling, lines that come late, processes that die or are taken for dead and come back, limits that
 * change, clocks that step.
 * @module
 */
import assert from 'node:assert/strict'
import { type Account, type Amounts, type Limit, type Unit, units } from '../../src/call.ts'
import type { EscrowHold } from '../../src/escrow/escrow.ts'
import { windowEnd, windowStart } from '../../src/escrow/window.ts'
import { Fault } from '../../src/fault.ts'
import type { LedgerEntry, Store } from '../../src/stores/store.ts'
import { type Key, type Level, Reference } from './reference.ts'
import { accountRow, allRows, entryOf, type House, none, openHouse, outcomeOf, stop } from './rig.ts'

export interface StoryOptions {
  readonly seed: number
  readonly steps: number
  /** A further handle on the same database. */
  readonly open: () => Promise<Store>
  /** Keeps everybody from writing until what it returns is called; absent where a database has no such lock. */
  readonly lock?: () => () => void
  /** What the store says of every counter of some accounts now, without asking a process. */
  readonly look: (accounts: readonly string[]) => Counted | Promise<Counted>
}

export type Counted = ReadonlyMap<Key, { readonly used: Amounts; readonly leased: Amounts }>

/** What a story came to, so that a test can tell that it was one. */
export interface Told {
  readonly steps: number
  readonly admitted: number
  readonly refused: number
  /** Holds that were had only after the others gave back. */
  readonly afterRecall: number
  readonly deaths: number
  readonly recovered: number
  readonly corrected: number
  readonly rows: number
}

interface Open {
  readonly id: string
  readonly leaf: string
  readonly member: Member
  readonly hold: EscrowHold
  readonly keys: readonly Key[]
  dispatched: boolean
  /** Its process was taken for dead while it was out. */
  orphan: boolean
  /** What another process booked for it, where it was dispatched then. */
  recovered: Amounts | null
}

interface Line {
  readonly of: Open
  readonly entry: LedgerEntry
  readonly actual: Amounts
}

interface Member {
  readonly house: House
  readonly leaves: readonly Account[]
  /** Off the database's clock by, ms. */
  skew: number
  /** What it takes the time for; see Escrow.beat. */
  correction: number
  latest: number
  late: Line[]
  dead: boolean
}

/** Steps between two looks at every counter, about: looking costs more than the steps do. */
const watchEvery = 5

const parents: Readonly<Record<string, string | null>> = {
  org: null,
  east: 'org',
  west: 'org',
  ann: 'east',
  bob: 'east',
  cid: 'west',
  a1: 'ann',
  a2: 'ann',
  b1: 'bob',
  c1: 'cid',
}
const leaves = ['a1', 'a2', 'b1', 'c1'] as const
const everybody = Object.keys(parents)

export async function tell({ seed, steps, open, lock, look }: StoryOptions): Promise<Told> {
  const random = generator(seed)
  const upTo = (count: number) => Math.floor(random() * count)
  const pick = <T>(list: readonly T[]): T => list[upTo(list.length)] as T
  const reference = new Reference()
  const limits = new Map<string, Limit[]>()
  const opens: Open[] = []
  const members: Member[] = []
  /** By how much the store's sums may still rise above limits: overruns, and lines nothing was leased for any more. */
  const allowance = new Map<string, number>()
  /** Where used and leased stood at the last look at them, by counter and unit, and which look that was. */
  const stood = new Map<string, { readonly sum: number; readonly look: number }>()
  let looks = 0
  /** The highest limit in force since the last look, and ever, where it has changed. */
  const highest = new Map<string, number>()
  const ever = new Map<string, number>()
  const told = { steps: 0, admitted: 0, refused: 0, afterRecall: 0, deaths: 0, recovered: 0, corrected: 0, rows: 0 }
  let clock = Date.UTC(2026, 2, 28, 22, 58)
  let ids = 0

  for (const account of everybody) limits.set(account, firstLimits(account))
  const first = await open()
  for (const account of everybody) {
    await first.accounts.insert(accountRow(account, parents[account] ?? null, limits.get(account) ?? []), null)
  }
  await join(first)
  for (let more = 1 + upTo(3); more > 0; more--) await join(await open())

  function firstLimits(account: string): Limit[] {
    const own: Limit[] = []
    const depth = pathOf(account).length
    const some = () => 20 + upTo(600 / depth)
    if (random() < 0.7) own.push(stop('tokens', some() * 3))
    if (random() < 0.5) own.push(stop('usd', some() * 15, { window: 'hour' }))
    if (random() < 0.3) own.push(stop('requests', 10 + upTo(60), { window: 'minute' }))
    if (random() < 0.3) own.push(stop('tool_calls', 20 + upTo(200), { window: 'day', zone: 'Europe/Berlin' }))
    if (random() < 0.2) own.push(stop('tokens', some(), { action: 'warn' }))
    return own
  }

  async function join(store: Store): Promise<void> {
    const member: Member = {
      house: null as never,
      leaves: [],
      skew: 0,
      correction: 0,
      latest: 0,
      late: [],
      dead: false,
    }
    const house = await openHouse(store, { now: () => clock + member.skew, databaseNow: () => clock, recallMs: 0 })
    Object.assign(member, { house, leaves: await Promise.all(leaves.map(house.account)) })
    members.push(member)
    notice()
  }

  function pathOf(account: string): string[] {
    const parent = parents[account] ?? null
    return parent === null ? [account] : [account, ...pathOf(parent)]
  }
  const levels = (leaf: string): Level[] =>
    pathOf(leaf).map((account) => ({ account, limits: limits.get(account) ?? [] }))

  /** Every process looks at its clock, as it does whenever it is asked anything. */
  function notice(): void {
    for (const member of members) {
      member.latest = Math.max(member.latest, clock + member.skew + member.correction)
      for (const leaf of member.leaves) member.house.escrow.free(leaf)
    }
  }

  /** The limits as one process knows them now. */
  async function known(member: Member, leaf: string): Promise<Level[]> {
    const found: Level[] = []
    for (const account of pathOf(leaf)) found.push({ account, limits: (await member.house.account(account)).limits })
    return found
  }

  function amounts(): Amounts {
    const big = random() < 0.1
    return {
      tokens: upTo(big ? 120 : 25),
      usd: upTo(big ? 300 : 60),
      requests: upTo(2),
      tool_calls: random() < 0.3 ? 1 : 0,
    }
  }

  function admit(member: Member, leaf: string, hold: EscrowHold): Open {
    const keys = Reference.keys(levels(leaf), hold.booked)
    const one = { id: `l${seed}_${++ids}`, leaf, member, hold, keys, dispatched: false, orphan: false, recovered: null }
    Reference.add(reference.held, keys, hold.amounts, 1)
    opens.push(one)
    told.admitted++
    return one
  }

  /** What was admitted fits, except above what the store itself had given out when a limit fell or a call overran. */
  async function fits(leaf: string, at: number, paths: readonly (readonly Level[])[]): Promise<void> {
    const nothingMore = { tokens: 0.5, usd: 0.5, requests: 0.5, tool_calls: 0.5 }
    if (paths.some((path) => reference.excess(path, at, nothingMore, false).every(({ by }) => by <= 0.5))) return
    // Nobody can tell what a dead process used beyond its holds.
    if (members.some(({ dead }) => dead)) return
    await posted()
    const counted = await look(pathOf(leaf))
    for (const { key, unit, max, by } of reference.excess(levels(leaf), at, nothingMore, false)) {
      const sum = counted.get(key)
      const given = (sum?.used[unit] ?? 0) + (sum?.leased[unit] ?? 0)
      assert.ok(by - 0.5 <= Math.max(0, given - max), `${key} ${unit}: ${by - 0.5} above ${max}, given ${given}`)
    }
  }

  async function hold(member: Member, leaf: string, wanted: Amounts): Promise<void> {
    const before = await known(member, leaf)
    const end = await member.house.hold(leaf, wanted)
    if (!(end instanceof Fault)) {
      assert.equal(end.booked, member.latest, 'booked at what the process takes the time for')
      admit(member, leaf, end)
      return fits(leaf, end.booked, [before, levels(leaf)])
    }
    await refused(member, leaf, wanted, end, () => member.house.hold(leaf, wanted))
  }

  /** A refusal is right when the reference refuses too; otherwise the others have what is missing, and it is had then. */
  async function refused(
    member: Member,
    leaf: string,
    wanted: Amounts,
    why: Fault,
    again: () => Promise<EscrowHold | Fault>,
  ): Promise<void> {
    told.refused++
    const over = reference.excess(levels(leaf), member.latest, wanted, true)
    const [first] = over
    if (first !== undefined)
      return random() < 0.15 ? raise(member, first.key, first.unit, first.max + first.by) : undefined
    if (members.some(({ dead }) => dead)) return
    // What a process has of a window that has ended for it nobody asks it for: clocks that far apart are the story's alone.
    const window = Reference.keys(levels(leaf), member.latest).join()
    if (members.some(({ latest }) => Reference.keys(levels(leaf), latest).join() !== window)) return
    if (why.body.code !== 'budget_contended') {
      // What was recovered counts beside the true line until that is written and corrects it.
      await posted()
      const end = await again()
      if (!(end instanceof Fault)) return void admit(member, leaf, end)
    }
    assert.equal(why.body.code, 'budget_contended', `${leaf} ${JSON.stringify(wanted)}: ${JSON.stringify(why.body)}`)
    await recallAll(member, leaf)
    const end = await again()
    assert.ok(
      !(end instanceof Fault),
      `${leaf} ${JSON.stringify(wanted)}: still ${JSON.stringify((end as Fault).body)}`,
    )
    told.afterRecall++
    admit(member, leaf, end)
  }

  async function recallAll(by: Member, leaf: string): Promise<void> {
    await posted()
    for (const member of members) {
      if (member === by) continue
      await member.house.presence.beat()
      member.correction = -member.skew
      for (const key of Reference.keys(await known(member, leaf), by.latest))
        await member.house.escrow.recall(`${key} ${by.house.store.writers.id}`)
    }
    notice()
  }

  async function extend(one: Open): Promise<void> {
    const more = amounts()
    if (await one.hold.extend(more)) {
      Reference.add(one.orphan ? reference.orphaned : reference.held, one.keys, more, 1)
    }
  }

  function settle(one: Open): void {
    opens.splice(opens.indexOf(one), 1)
    const part = random()
    const actual = { ...none }
    for (const unit of units) {
      const held = one.hold.amounts[unit]
      actual[unit] = part < 0.2 ? 0 : part < 0.5 ? held : part < 0.95 ? upTo(held + 1) : held + upTo(10)
    }
    assert.equal(one.hold.settle(actual), true)
    assert.equal(one.hold.settle(actual), false)
    Reference.add(one.orphan ? reference.orphaned : reference.held, one.keys, one.hold.amounts, -1)
    // What a process did not dispatch before it was taken for dead is nowhere booked, nor leased.
    if (one.recovered !== null) Reference.add(reference.used, one.keys, one.recovered, -1)
    Reference.add(reference.used, one.keys, actual, 1)
    for (const unit of units) {
      const over = one.orphan ? actual[unit] : Math.max(0, actual[unit] - one.hold.amounts[unit])
      if (over > 0) for (const key of one.keys) allow(`${key} ${unit}`, over)
    }
    one.member.late.push({ of: one, entry: entryOf(one.hold, one.id, one.leaf, actual), actual })
  }

  const allow = (name: string, more: number) => allowance.set(name, (allowance.get(name) ?? 0) + more)

  async function post(member: Member, count: number): Promise<void> {
    const lines = member.late.splice(0, count)
    if (lines.length > 0) await member.house.store.ledger.append(lines.map(({ entry }) => entry))
  }

  async function posted(): Promise<void> {
    for (const member of members) if (!member.dead) await post(member, Number.POSITIVE_INFINITY)
  }

  /** An append that fails is repeated, more often than needed. */
  async function postAgain(member: Member): Promise<void> {
    const entries = member.late.splice(0).map(({ entry }) => entry)
    if (entries.length === 0) return
    const unlock = lock?.()
    if (unlock !== undefined) {
      await assert.rejects(member.house.store.ledger.append(entries))
      unlock()
    }
    await member.house.store.ledger.append(entries)
    await member.house.store.ledger.append([...entries].reverse())
  }

  async function beat(member: Member): Promise<void> {
    await member.house.presence.beat()
    member.correction = -member.skew
    notice()
  }

  async function changeLimit(member: Member): Promise<void> {
    const account = pick(everybody)
    const own = limits.get(account) ?? []
    const which = upTo(own.length)
    const old = own[which]
    if (old === undefined) return
    const { unit } = old
    const key = `${account} ${periodNamed(old.window)} `
    const used = [...reference.used].filter(([name]) => name.startsWith(key)).map(([, sum]) => sum[unit])
    const base = old.window === 'total' ? Math.max(0, ...used) : 0
    const max = Math.max(0, Math.floor(base + random() * 2 * (old.window === 'total' ? 1000 : old.max + 10)))
    const changed = own.map((limit, index) => (index === which ? { ...limit, max } : limit))
    return change(member, account, changed)
  }

  /** A budget that is used up is raised now and then, or the story would be one of refusals. */
  async function raise(member: Member, key: Key, unit: Unit, to: number): Promise<void> {
    const [account = ''] = key.split(' ')
    const max = to + upTo(2 * to + 200)
    const own = limits.get(account) ?? []
    await change(
      member,
      account,
      own.map((limit) => (limit.unit === unit && limit.max < max ? { ...limit, max } : limit)),
    )
  }

  async function change(member: Member, account: string, changed: Limit[]): Promise<void> {
    for (const { unit, max, window } of [...(limits.get(account) ?? []), ...changed]) {
      const name = `${account} ${periodNamed(window)} ${unit}`
      highest.set(name, Math.max(max, highest.get(name) ?? 0))
      ever.set(name, Math.max(max, ever.get(name) ?? 0))
    }
    limits.set(account, changed)
    assert.equal(await member.house.directory.update(account, { limits: changed }), true)
  }

  /** Another process declares it dead and winds it up. */
  async function fence(victim: Member, by: Member): Promise<void> {
    const { writers } = by.house.store
    const { id } = victim.house.store.writers
    const row = (await writers.beat(15_000)).writers.find((one) => one.id === id)
    assert.ok(row !== undefined && (await writers.fence(row)))
    const before = by.house.warned.length
    await beat(by)
    assert.equal(by.house.warned.length, before + 1)
    const rows = (by.house.warned.at(-1) as { recovered: number }).recovered
    told.recovered += rows
  }

  /** What becomes of a process's calls when it is taken for dead: dispatched ones are booked as held, others are void. */
  function bury(victim: Member): number {
    let recovered = 0
    const lost = victim.dead ? victim.late.splice(0) : []
    for (const { of, actual } of lost) {
      if (of.recovered !== null) {
        // Already booked for it once; without the line nothing corrects that.
        Reference.add(reference.used, of.keys, actual, -1)
        Reference.add(reference.used, of.keys, of.recovered, 1)
        continue
      }
      Reference.add(reference.used, of.keys, actual, -1)
      if (!of.dispatched) continue
      Reference.add(reference.used, of.keys, of.hold.amounts, 1)
      recovered++
    }
    for (const one of opens.filter(({ member }) => member === victim)) {
      if (victim.dead) opens.splice(opens.indexOf(one), 1)
      const from = one.orphan ? reference.orphaned : reference.held
      Reference.add(from, one.keys, one.hold.amounts, -1)
      if (!victim.dead) Reference.add(reference.orphaned, one.keys, one.hold.amounts, 1)
      one.orphan = true
      if (!one.dispatched || one.recovered !== null) continue
      one.recovered = { ...one.hold.amounts }
      Reference.add(reference.used, one.keys, one.recovered, 1)
      recovered++
    }
    return recovered
  }

  async function die(victim: Member): Promise<void> {
    const [by] = members.filter((member) => member !== victim && !member.dead)
    if (by === undefined) return
    told.deaths++
    victim.dead = true
    victim.house.presence.stop()
    // For a while nobody notices.
    for (let steps = upTo(10); steps > 0; steps--) await step(members.filter((member) => !member.dead))
    const survivor = members.find((member) => member === by && !member.dead) as Member
    const expected = bury(victim)
    const before = told.recovered
    await fence(victim, survivor)
    assert.equal(told.recovered - before, expected)
    members.splice(members.indexOf(victim), 1)
    await victim.house.store.close()
    await join(await open())
  }

  async function comeBack(victim: Member): Promise<void> {
    const [by] = members.filter((member) => member !== victim && !member.dead)
    if (by === undefined) return
    // Lines on their way when it is taken for dead are booked by it afterwards, at what they were.
    await post(victim, Number.POSITIVE_INFINITY)
    const expected = bury(victim)
    const before = told.recovered
    await fence(victim, by)
    assert.equal(told.recovered - before, expected)
    // Its term is over, so it holds nothing before it has looked around; what it has out may end before that.
    for (const one of opens.filter(({ member }) => member === victim)) if (random() < 0.3) settle(one)
    if (random() < 0.5) await post(victim, Number.POSITIVE_INFINITY)
    await beat(victim)
  }

  async function step(able: readonly Member[]): Promise<void> {
    told.steps++
    const member = pick(able)
    const dice = random() * 1000
    const own = opens.filter((one) => able.includes(one.member))
    if (dice < 430) return hold(member, pick(leaves), amounts())
    if (dice < 520) return own.length === 0 ? undefined : extend(pick(own))
    if (dice < 600) {
      const one = own.length === 0 ? null : pick(own)
      if (one === null || one.orphan) return
      await one.hold.dispatch({ id: one.id, at: one.hold.booked, head: '{"call":"c"' })
      one.dispatched = true
      return
    }
    if (dice < 870) {
      if (own.length > 0) settle(pick(own))
      if (random() < 0.3) await post(member, 1 + upTo(20))
      return
    }
    if (dice < 930) return beat(member)
    if (dice < 950) {
      clock += upTo(40_000)
      return notice()
    }
    if (dice < 958) {
      member.skew = upTo(20_000) - 10_000
      return notice()
    }
    if (dice < 960) {
      clock += random() < 0.5 ? 3_600_000 : -upTo(4_000_000)
      return notice()
    }
    if (dice < 985) return changeLimit(member)
    if (dice < 994) {
      const [key = ''] = Reference.keys(levels(pick(leaves)), member.latest).slice(-1)
      return member.house.store.writers.announce([
        { kind: 'recall', subject: `${key} ${member.house.store.writers.id}` },
      ])
    }
    if (dice < 996) return able.length === members.length ? postAgain(member) : undefined
    if (dice < 997.5) return able.length === members.length ? comeBack(member) : undefined
    if (dice < 998.5) return able.length === members.length ? die(member) : undefined
    return posted()
  }

  /** At no time do used and leased amounts pass a limit further than they did, but by what was allowed for. */
  async function watch(): Promise<void> {
    looks++
    const counted = await look(everybody)
    for (const account of everybody) {
      for (const { unit, max, window, action } of limits.get(account) ?? []) {
        if (action !== 'stop') continue
        const period = periodNamed(window)
        const limit = `${account} ${period} ${unit}`
        const top = Math.max(max, highest.get(limit) ?? 0)
        const most = Math.max(max, ever.get(limit) ?? 0)
        for (const start of new Set(members.map(({ latest }) => windowStart(period, latest)))) {
          check(counted, `${account} ${period} ${start}`, unit, top, most)
        }
      }
    }
    highest.clear()
    for (const [key, sum] of counted)
      for (const unit of units) assert.ok(sum.leased[unit] >= 0, `${key} ${unit} leased ${sum.leased[unit]}`)
    for (const member of members) {
      const own = opens.filter((one) => one.member === member).length
      assert.equal(member.house.escrow.open(), own, 'open holds')
    }
  }

  function check(counted: Counted, key: Key, unit: Unit, max: number, most: number): void {
    const name = `${key} ${unit}`
    const sum = counted.get(key)
    const now = (sum?.used[unit] ?? 0) + (sum?.leased[unit] ?? 0)
    const last = stood.get(name)
    stood.set(name, { sum: now, look: looks })
    // A window that some process was in before, then none, and now one whose clock is behind: nobody looked meanwhile.
    if (last !== undefined && last.look < looks - 1) return
    const before = last?.sum ?? 0
    const risen = Math.max(0, now - Math.max(last === undefined ? most : max, before))
    if (risen === 0) return
    const allowed = allowance.get(name) ?? 0
    assert.ok(risen <= allowed, `${name}: used and leased went from ${before} to ${now} with a limit of ${max}`)
    allowance.set(name, allowed - risen)
  }

  while (told.steps < steps) {
    for (let some = 1 + upTo(2 * watchEvery); some > 0; some--) await step(members)
    await watch()
  }
  for (const one of [...opens]) settle(one)
  await posted()
  await watch()
  for (const { house } of members) assert.equal(house.escrow.open(), 0)
  for (const { house } of members) await house.close()
  await conserved()
  return told

  /** In the end nothing is leased, every counter is the sum of its lines, and that is what the reference has. */
  async function conserved(): Promise<void> {
    const store = await open()
    const rows = await allRows(store)
    told.rows = rows.length
    told.corrected = rows.filter((row) => outcomeOf(row) === 'corrected').length
    for (const account of everybody) {
      const below = rows.filter((row) => pathOf(row.account).includes(account))
      for (const [key, sum] of await look([account])) {
        const [, period = '', start = ''] = key.split(' ')
        const from = Number(start)
        const end = windowEnd(period, from)
        const booked = { ...none }
        for (const row of below)
          if (from <= row.booked && row.booked < end) for (const unit of units) booked[unit] += row[unit]
        assert.deepEqual(sum.leased, none, `${key} leased`)
        assert.deepEqual(sum.used, booked, `${key} against the ledger`)
        assert.deepEqual(sum.used, reference.used.get(key) ?? none, `${key} against the reference`)
      }
    }
    await store.close()
  }
}

/** As the story's limits are kept: its days are Berlin's. */
const periodNamed = (window: Limit['window']) => (window === 'day' ? 'day@Europe/Berlin' : window)

/** Mulberry32: numbers in [0, 1) that a seed repeats. */
export function generator(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
