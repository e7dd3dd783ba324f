/** Alerts by the calendar and over leftovers of a process that died: with a clock of the test's own. @module */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createAlerts } from '../../src/alerts/alerts.ts'
import { pauseOf } from '../../src/alerts/delivery.ts'
import { isUsableSecret, signedHeaders } from '../../src/alerts/webhook.ts'
import type { Account, Limit } from '../../src/call.ts'
import { createEscrow } from '../../src/escrow/escrow.ts'
import type { OpenHold } from '../../src/escrow/hold.ts'
import { fault } from '../../src/fault.ts'
import { openSqlite } from '../../src/stores/sqlite.ts'

const url = 'https://hooks.example.com/'
const day = 86_400_000

async function open(limits: readonly Limit[]) {
  const store = await openSqlite(':memory:')
  let at = Date.UTC(2026, 10, 2, 12)
  const now = () => at
  const escrow = createEscrow({ ...store, now, mono: now, reload: async () => {}, current: () => true })
  const account: Account = {
    ...{ id: 'a_one', parent: null, kind: 'team', name: 'one', limits, models: null, tools: null, roles: [] },
    ...{ labels: {}, expiresAt: null, revokedAt: null, createdAt: at, version: 1 },
  }
  await store.accounts.insert({ ...account, parent: null }, null)
  escrow.attach(account, [])
  const told: string[] = []
  const alerts = createAlerts({
    escrow,
    ...{ balances: store.balances, accounts: store.accounts, store: store.alerts, now },
    egress: { fetch: async () => fault({ code: 'draining' }) },
    random: (bytes) => Buffer.alloc(bytes, told.length + 1),
    webhooks: () => [],
    secret: () => '',
    log: { warn: (fields) => void told.push(inWords(fields)) },
    onAlert: () => {},
  })
  let lines = 0
  return {
    ...{ store, escrow, alerts, account, told },
    go: (ms: number) => {
      at += ms
    },
    async use(requests: number) {
      const hold = (await escrow.hold(account, { usd: 0, tokens: 0, requests, tool_calls: 0 })) as OpenHold
      hold.settle(hold.amounts)
      const line = { id: `l_${lines++}`, account: account.id, at, booked: hold.booked, ...hold.amounts }
      await store.ledger.append([{ line: { ...line, body: '{}', notes: null }, ...hold.entry() }])
    },
  }
}

function inWords(fields: object): string {
  const { unit, threshold, used, limit, resets_at: resets } = fields as Record<string, unknown>
  return `${unit} ${threshold}% ${used}/${limit} ${resets}`
}

const limit = (max: number, part: Partial<Limit> = {}): Limit => ({
  ...{ unit: 'requests', max, window: 'day', zone: 'UTC', action: 'stop', alertAt: [50, 100] },
  ...part,
})

describe('a threshold', () => {
  it('is told again in the next window, by the calendar of its zone, and never twice in one', async () => {
    const { alerts, use, go, told, store } = await open([limit(4), limit(4, { window: 'total', alertAt: [25] })])
    await use(1)
    await alerts.look()
    assert.deepEqual(told.splice(0), ['requests 25% 1/4 null'])
    await use(1)
    await alerts.look()
    await alerts.look()
    assert.deepEqual(told.splice(0), ['requests 50% 2/4 2026-11-03T00:00:00.000Z'])
    go(day)
    await use(2)
    await alerts.look()
    assert.deepEqual(told.splice(0), ['requests 50% 2/4 2026-11-04T00:00:00.000Z'])
    await store.close()
  })

  it('crossed by a call that ended after its window is told of the window it was booked in', async () => {
    const { alerts, use, go, told, store } = await open([limit(4)])
    await use(2)
    go(day)
    await alerts.look()
    assert.deepEqual(told, ['requests 50% 2/4 2026-11-03T00:00:00.000Z'])
    await store.close()
  })

  it('is told of a limit that was lowered below what is used, and of one that was raised when it is reached anew', async () => {
    const { alerts, use, told, store, account, escrow } = await open([limit(10)])
    await use(4)
    await alerts.look()
    assert.deepEqual(told, [])
    const change = async (max: number) => {
      const version = await store.accounts.update(account.id, { limits: [limit(max)] })
      Object.assign(account, { limits: [limit(max)], version })
      await escrow.changed(account)
    }
    await change(8)
    await alerts.look()
    assert.deepEqual(told.splice(0), ['requests 50% 4/8 2026-11-03T00:00:00.000Z'])
    await change(12)
    await use(2)
    await alerts.look()
    assert.deepEqual(told.splice(0), ['requests 50% 6/12 2026-11-03T00:00:00.000Z'])
    await store.close()
  })

  it('that a process reached just before it died is found by another', async () => {
    const { alerts, use, told, escrow, store } = await open([limit(4)])
    await use(4)
    escrow.takeChanged()
    await alerts.look()
    assert.deepEqual(told, [])
    await alerts.sweep()
    await alerts.sweep()
    assert.deepEqual(told, ['requests 50% 4/4 2026-11-03T00:00:00.000Z', 'requests 100% 4/4 2026-11-03T00:00:00.000Z'])
    await store.close()
  })

  it('of a limit of nothing is never reached', async () => {
    const { alerts, use, told, store } = await open([limit(0, { action: 'warn' })])
    await use(1)
    await alerts.look()
    assert.deepEqual(told, [])
    await store.close()
  })
})

describe('messages', () => {
  it('of one address are taken up by one process at a time, and again when it does not come back', async () => {
    const { store } = await open([])
    const message = { id: 'msg_1', event: 'overrun', body: '{}', at: 1000, urls: [url, 'https://other.example.com/'] }
    await store.alerts.note(null, message)
    const [one] = await store.alerts.due(url, 1000, 5)
    assert.ok(one)
    const claims = await Promise.all([store.alerts.claim(one, 9000), store.alerts.claim(one, 9000)])
    assert.deepEqual(
      claims.map((claim) => claim?.attempts ?? null),
      [1, null],
    )
    assert.deepEqual(await store.alerts.due(url, 8999, 5), [])
    const [again] = await store.alerts.due(url, 9000, 5)
    assert.equal(again?.attempts, 1)
    const second = await store.alerts.claim(again as NonNullable<typeof again>, 20_000)
    // The first one comes back late: what it says of its try counts no more.
    await store.alerts.again(claims[0] as NonNullable<(typeof claims)[0]>, 10)
    assert.deepEqual(await store.alerts.due(url, 19_999, 5), [])
    await store.alerts.end(second as NonNullable<typeof second>, 'delivered', 12_000)
    assert.deepEqual(await store.alerts.due(url, 99_999, 5), [])
    assert.equal((await store.alerts.due('https://other.example.com/', 1000, 5)).length, 1)
    await store.close()
  })

  it('wait longer after every try, up to a quarter of an hour', () => {
    assert.deepEqual(
      [1, 2, 3, 11, 500].map((attempts) => pauseOf(attempts, 0)),
      [1000, 2000, 4000, 900_000, 900_000],
    )
    assert.equal(pauseOf(1, 1), 1250)
  })

  it('are signed as the standard has it', () => {
    // The example of the specification's own libraries.
    const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
    const at = 1_614_265_330_000
    const headers = signedHeaders(secret, 'msg_p5jXN8AQM9LWM0D4loKWxJek', at, '{"test": 2432232314}')
    assert.deepEqual(headers, [
      ...['webhook-id', 'msg_p5jXN8AQM9LWM0D4loKWxJek', 'webhook-timestamp', '1614265330'],
      ...['webhook-signature', 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='],
    ])
    assert.deepEqual(['', ' ', 'whsec_', 'text'].map(isUsableSecret), [false, false, false, true])
  })
})
