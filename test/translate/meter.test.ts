/** Streams beside each other never take more than their budget, whatever they send and however late answers come. @module */
import assert from 'node:assert/strict'
import { after, it } from 'node:test'
import fc from 'fast-check'
import type { Account, Attempt, Hold, LlmCall } from '../../src/call.ts'
import { streamState } from '../../src/dialects/openai-chat/stream.ts'
import { createEscrow } from '../../src/escrow/escrow.ts'
import { Fault } from '../../src/fault.ts'
import type { Gateway } from '../../src/gateway.ts'
import { openSqlite } from '../../src/stores/sqlite.ts'
import { Meter } from '../../src/translate/meter.ts'

const input = 7
const tokens = (count: number) => ({ usd: 0, tokens: count, requests: 0, tool_calls: 0 })

const store = await openSqlite(':memory:')
after(() => store.close())
let accounts = 0

function account(id: string, max: number): Account {
  const limit = {
    unit: 'tokens' as const,
    max,
    window: 'total' as const,
    zone: 'UTC',
    action: 'stop' as const,
    alertAt: [],
  }
  return {
    ...{ id, parent: null, kind: 'key', name: 'a', limits: [limit], models: null, tools: null, roles: [] },
    ...{ labels: {}, expiresAt: null, revokedAt: null, createdAt: 0, version: 1 },
  } as Account
}

/** A stream that says `says` tokens, so many at a time. */
interface Plan {
  readonly cap: number
  readonly first: number
  readonly says: number
  readonly chunk: number
}
const plans = fc.array(
  fc.record({
    cap: fc.integer({ min: 1, max: 9000 }),
    first: fc.integer({ min: 1, max: 300 }),
    says: fc.integer({ min: 1, max: 12_000 }),
    chunk: fc.integer({ min: 1, max: 40 }),
  }),
  { minLength: 1, maxLength: 5 },
)

/** Runs the streams in turns. @param late answers to a growing hold come after as many turns of the event loop */
async function run(max: number, chosen: readonly Plan[], late: number | null): Promise<void> {
  const owner = account(`a${++accounts}`, max)
  await store.accounts.insert({ ...owner, parent: null }, null)
  const { leases, balances, writers } = store
  const escrow = createEscrow({
    now: () => 0,
    mono: () => 0,
    leases,
    balances,
    writers,
    reload: async () => {},
    current: () => true,
  })
  escrow.attach(owner, [])
  const gateway = { escrow } as unknown as Gateway
  const started = chosen.map(async (plan) => {
    const first = Math.min(plan.first, plan.cap)
    const slices = { first, most: plan.cap, more: (from: number, to: number) => tokens(to - from) }
    const attempt: Attempt = { target: null, hold: tokens(input + first), cap: plan.cap, slices, toolPrice: null }
    const hold = await escrow.hold(owner, attempt.hold)
    if (hold instanceof Fault) return []
    const slow: Hold = Object.create(hold, {
      extend: {
        async value(more: Parameters<Hold['extend']>[0]) {
          for (let turn = 0; turn < (late ?? 0); turn++) await new Promise(setImmediate)
          return hold.extend(more)
        },
      },
    })
    const call = { id: 'c' } as LlmCall
    const meter = new Meter({ gateway, call, account: owner, attempt, hold: late === null ? hold : slow }, plan.cap)
    return [{ plan, hold, meter, state: streamState() }]
  })
  const streams = (await Promise.all(started)).flat()

  await Promise.all(
    streams.map(async ({ plan, hold, meter, state }) => {
      // A vendor that keeps to its cap.
      const end = Math.min(plan.says, plan.cap)
      while (state.events < end) {
        state.events = Math.min(end, state.events + plan.chunk)
        state.pieces = state.events
        // Never more than is held, whatever comes at once: the first chunk of all is the one that nobody could foresee.
        if (state.events > plan.chunk) assert.ok(input + state.events <= hold.amounts.tokens, 'more than was held')
        let next = meter.passes(state) ? 'more' : meter.look(state)
        while (next === 'wait') {
          await new Promise<void>((resume) => meter.onAnswer(resume))
          next = meter.look(state)
        }
        if (next === 'stop') break
        if (late !== null) await new Promise(setImmediate)
      }
      if (meter.stopped !== null) assert.equal(meter.stopped.code, 'budget_exhausted')
      assert.equal(hold.settle(tokens(input + state.events)), true)
      // Once is enough.
      assert.equal(hold.settle(tokens(99)), false)
      assert.equal(hold.extend(tokens(1)), false)
    }),
  )
  const [standing] = await escrow.states(owner)
  assert.equal(standing?.held, 0)
  assert.equal(escrow.open(), 0)
  const over = streams.reduce((sum, { plan, state }) => {
    const first = Math.min(plan.first, plan.cap)
    const chunk = Math.min(plan.chunk, plan.says, plan.cap)
    return sum + (state.events === chunk ? Math.max(0, chunk - first) : 0)
  }, 0)
  assert.ok((standing?.used ?? 0) <= max + over, `${standing?.used} of ${max}`)
}

it('a budget holds under streams whose slices are given at once', async () => {
  await fc.assert(fc.asyncProperty(fc.integer({ min: 1, max: 20_000 }), plans, (max, chosen) => run(max, chosen, null)))
})

it('a budget holds under streams whose slices come late', async () => {
  const few = fc.array(
    fc.record({
      cap: fc.integer({ min: 1, max: 900 }),
      first: fc.integer({ min: 1, max: 300 }),
      says: fc.integer({ min: 1, max: 1200 }),
      chunk: fc.integer({ min: 1, max: 40 }),
    }),
    { minLength: 1, maxLength: 5 },
  )
  const lateness = fc.integer({ min: 1, max: 30 })
  await fc.assert(fc.asyncProperty(fc.integer({ min: 1, max: 2000 }), few, lateness, run), { numRuns: 40 })
})
