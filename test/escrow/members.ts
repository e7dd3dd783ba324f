/** Starts processes of test/escrow/member.ts and talks to them; the last tokens of a budget among several of them. @module */
import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Store } from '../../src/stores/store.ts'
import type { Order, Report } from './member.ts'
import { accountRow, allRows, none, stop, sumOf, tokens } from './rig.ts'
import { generator } from './story.ts'

export interface Place {
  /** A name in `stores` of rig.ts. */
  readonly kind: string
  readonly address: string
}

export interface Member {
  readonly child: ChildProcess
  /** Carries it out and says what came of it; one order at a time. */
  ask(order: Order): Promise<Report>
}

export async function startMember({ kind, address }: Place, termMs: number, everyMs: number): Promise<Member> {
  const script = fileURLToPath(new URL('./member.ts', import.meta.url))
  const child = fork(script, [kind, address, String(termMs), String(everyMs)], {
    execArgv: ['--disable-warning=ExperimentalWarning'],
  })
  const answer = async (): Promise<Report> => {
    const ended = new AbortController()
    const left = once(child, 'exit', { signal: ended.signal }).then(([code]) => {
      throw new Error(`the process ended with ${code}`)
    })
    try {
      const [report] = await Promise.race([once(child, 'message'), left])
      return report as Report
    } finally {
      ended.abort()
      left.catch(() => undefined)
    }
  }
  await answer()
  return {
    child,
    ask(order) {
      const answered = answer()
      child.send(order)
      return answered
    },
  }
}

const budget = 100
const each = 10

/**
 * The last 100 tokens of a budget in the middle of a tree, for 1,000 calls of 10 in one, two and four processes, while a
 * further one has part of it idle.
 *
 * @param store a handle of the test's own on the same database
 */
export async function shareTheLast(store: Store, place: Place, seeds: readonly number[]): Promise<void> {
  const members: Member[] = []
  for (let index = 0; index < 5; index++) members.push(await startMember(place, 15_000, 50))
  const [idle, ...busy] = members as [Member, ...Member[]]
  for (const seed of seeds) {
    const count = [1, 2, 4][seed % 3] as number
    await oneRush(store, idle, busy.slice(0, count), seed)
  }
  for (const member of members) {
    const exited = once(member.child, 'exit')
    assert.deepEqual(await member.ask({ do: 'end' }), { open: 0 })
    await exited
  }
  const rows = await allRows(store)
  for (const seed of seeds) {
    for (const account of namesOf(seed)) {
      const { used, leased } = sumOf(await store.balances.of(account), 'total', 0)
      const below = rows.filter((row) => row.account === account || !account.includes('leaf'))
      const own = below.filter((row) => row.account.startsWith(`s${seed}_`))
      assert.deepEqual(used, tokens(own.reduce((sum, row) => sum + row.tokens, 0)), `seed ${seed}: ${account}`)
      assert.deepEqual(leased, none, `seed ${seed}: ${account} leased`)
    }
  }
}

const namesOf = (seed: number): readonly string[] =>
  ['org', 'team', 'user', 'leaf0', 'leaf1', 'leaf2'].map((name) => `s${seed}_${name}`)

async function oneRush(store: Store, idle: Member, busy: readonly Member[], seed: number): Promise<void> {
  const random = generator(seed)
  const [org = '', team = '', user = '', ...leaves] = namesOf(seed)
  const wide = [stop('tokens', 1_000_000)]
  await store.accounts.insert(accountRow(org, null, wide), null)
  await store.accounts.insert(accountRow(team, org, [stop('tokens', budget)]), null)
  await store.accounts.insert(accountRow(user, team, wide), null)
  for (const leaf of leaves) await store.accounts.insert(accountRow(leaf, user, wide), null)
  const [first = ''] = leaves
  assert.deepEqual(await idle.ask({ do: 'idle', account: first, tokens: 5 + Math.floor(random() * 90) }), {
    admitted: 1,
  })
  const calls = 1000 / busy.length
  const jitterMs = Math.floor(random() * 100)
  const reports = await Promise.all(
    busy.map((member, index) =>
      member.ask({ do: 'rush', accounts: leaves, calls, tokens: each, seed: seed * 10 + index, jitterMs }),
    ),
  )
  const sum: Record<string, number> = {}
  for (const report of reports) for (const [word, times] of Object.entries(report)) sum[word] = (sum[word] ?? 0) + times
  const { admitted, open, budget_contended = 0, budget_exhausted = 0, ...others } = sum
  const said = `seed ${seed} over ${busy.length}: ${JSON.stringify(sum)}`
  assert.equal(admitted, budget / each, said)
  assert.equal(open, 0, said)
  assert.equal(budget_contended + budget_exhausted, 1000 - budget / each, said)
  assert.deepEqual(others, {}, said)
  const { used, leased } = sumOf(await store.balances.of(team), 'total', 0)
  assert.deepEqual([used.tokens, leased.tokens], [budget, 0], said)
}
