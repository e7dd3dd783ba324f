/** Rate limits counted in Redis, by the scripts themselves: two processes, dead processes, a clock that steps back. @module */
import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import type { Account } from '../../src/call.ts'
import { ratesSchema } from '../../src/rates/limit.ts'
import { type Want, wantsOf } from '../../src/rates/match.ts'
import { openRedis } from '../../src/stores/redis.ts'
import { sharedRates } from '../../src/stores/redis-rates.ts'
import { atEnd, eventually } from '../gateway.ts'
import { noRedis, type RedisUnderTest, startRedis } from '../services/redis.ts'

const quiet = { info() {}, warn() {} }
const account = { id: 'k', kind: 'key', parent: null, roles: [], labels: {} } as unknown as Account
let limits = 0

/** What a call wants of limits nobody else uses. */
function wants(row: object, tokens = 0): readonly Want[] {
  const rates = ratesSchema.parse({ [`l${limits++}`]: { per: 'key', ...row } }) ?? []
  return wantsOf(rates, { id: 'r', account, about: 'model', names: ['m'], tokens })
}

describe('shared counters', { skip: noRedis }, () => {
  let redis: RedisUnderTest
  before(async () => {
    redis = await startRedis()
  })

  /** What one process has of it. The patience is long: here nobody is to fall back for a slow machine. */
  async function process(leaseMs = 30_000) {
    const link = openRedis(redis.url, { log: quiet, patienceMs: 20_000 })
    const rates = sharedRates(link, { leaseMs })
    const end = () => {
      rates.close()
      return link.close()
    }
    atEnd(end)
    await eventually(() => rates.up())
    return { ...rates, end }
  }
  const redisNow = async () => {
    const [seconds, micros] = await redis.client.time()
    return Number(seconds) * 1000 + Math.floor(Number(micros) / 1000)
  }

  it('never let more through than limit and burst in any window, over several processes', async () => {
    const some = await Promise.all([process(), process(), process()])
    const want = wants({ requests: 7, burst: 3, window: '1s' })
    const passed: { from: number; to: number }[] = []
    const until = (await redisNow()) + 3500
    await Promise.all(
      some.flatMap((one, at) =>
        [0, 1].map(async (loop) => {
          for (let from = await redisNow(); from < until; from = await redisNow()) {
            const taken = await one.take(want, `${at}.${loop}`)
            if (taken?.taken === true) passed.push({ from, to: await redisNow() })
          }
        }),
      ),
    )
    // Each was let through somewhere between its two times; those that lie whole in one window are certain.
    const fullest = Math.max(
      ...passed.map(({ from }) => passed.filter((one) => one.from >= from && one.to < from + 1000).length),
    )
    assert.ok(fullest <= 10, `${fullest} in one window`)
    // Over time no more than the limit, and nearly that.
    assert.ok(passed.length <= 10 + 7 * 4, String(passed.length))
    assert.ok(passed.length >= 10 + 7, String(passed.length))
  })

  it('take all that a call wants or nothing, and say which one refused', async () => {
    const one = await process()
    const wide = wants({ requests: 5, window: '1h' })
    const narrow = wants({ requests: 1, window: '1h' })
    const both = [...wide, ...narrow]
    assert.equal((await one.take(both, 'a'))?.taken, true)
    const refused = await one.take(both, 'b')
    assert.ok(refused?.taken === false)
    assert.equal(refused.want, 1)
    assert.ok(refused.waitMs > 3_500_000 && refused.waitMs <= 3_600_000)
    assert.deepEqual(
      refused.rooms.map(({ remaining }) => remaining),
      [4, 0],
    )
  })

  it('are corrected by what another process sees', async () => {
    const [one, two] = [await process(), await process()]
    const want = wants({ tokens: 100, window: '1h' }, 80)
    const taken = await one.take(want, 'a')
    assert.ok(taken?.taken === true)
    assert.equal((await two.take(want, 'b'))?.taken, false)
    one.change([{ want: want[0] as Want, slot: taken.slots[0] as number, delta: -70 }], 'a')
    await eventually(async () => (await two.take(want, 'b'))?.taken === true)
    const refused = await one.take(want, 'c')
    assert.deepEqual(
      refused?.rooms.map(({ remaining }) => remaining),
      [10],
    )
  })

  it('give the places of a dead process back when its leases end, and keep those of one that lives', async () => {
    const [dying, living] = [await process(400), await process(400)]
    const want = wants({ concurrent: 2 })
    assert.equal((await dying.take(want, 'a'))?.taken, true)
    assert.equal((await living.take(want, 'b'))?.taken, true)
    assert.equal((await living.take(want, 'c'))?.taken, false)
    await dying.end()
    await eventually(async () => (await living.take(want, 'c'))?.taken === true)
    const later = (await redisNow()) + 1500
    await eventually(async () => {
      assert.equal((await living.take(want, 'd'))?.taken, false)
      return (await redisNow()) > later
    })
    living.change([{ want: want[0] as Want, slot: 0, delta: -1 }], 'b')
    await eventually(async () => (await living.take(want, 'd'))?.taken === true)
  })

  it('have the places at work again soon after everything was wiped', async () => {
    const one = await process(400)
    const want = wants({ concurrent: 1 })
    await one.take(want, 'a')
    await redis.client.flushall()
    await eventually(async () => (await redis.client.exists(`{gatehouse}:rate:${want[0]?.key}`)) === 1)
    assert.equal((await one.take(want, 'b'))?.taken, false)
  })

  it('are neither refilled nor locked by a clock that steps back an hour', async () => {
    const one = await process()
    const want = wants({ requests: 2, burst: 1, window: '1s' })
    const refused = async () => {
      const answer = await one.take(want, 'x')
      return answer?.taken === false ? answer.waitMs : 0
    }
    for (let i = 0; i < 3; i++) await one.take(want, 'x')
    // As if all of it had been written by a clock an hour ahead.
    const ahead = `local w = cmsgpack.unpack(redis.call('GET', KEYS[1]))
      w.n = w.n + 3600000
      w.a = w.a + 3600000
      for _, slot in ipairs(w.s) do slot[1] = slot[1] + 3600000; slot[2] = slot[2] + 3600000 end
      redis.call('SET', KEYS[1], cmsgpack.pack(w))`
    await redis.client.eval(ahead, 1, `{gatehouse}:rate:${want[0]?.key}`)
    const waitMs = await refused()
    assert.ok(waitMs > 0 && waitMs <= 1000, String(waitMs))
    await eventually(async () => (await refused()) === 0)
  })

  it('leave no key behind without an end', async () => {
    const one = await process()
    const all = wants({ requests: 9, tokens: 9, window: '1m', concurrent: 9 }, 3)
    assert.equal((await one.take(all, 'a'))?.taken, true)
    const keys = await redis.client.keys(`*:${all[0]?.limit.name}|*`)
    assert.equal(keys.length, 3)
    for (const key of keys) assert.ok((await redis.client.pttl(key)) > 0, key)
  })

  it('answer null, and not an error, when Redis refuses or forgets', async () => {
    const one = await process()
    const want = wants({ requests: 2, window: '1h' })
    await redis.client.set(`{gatehouse}:rate:${want[0]?.key}`, 'no window of ours')
    assert.equal(await one.take(want, 'a'), null)
    assert.equal(one.up(), false)
    await eventually(() => one.up())
    await redis.client.script('FLUSH')
    assert.equal((await one.take(wants({ requests: 2, window: '1h' }), 'a'))?.taken, true)
  })
})
