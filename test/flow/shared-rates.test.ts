/** Gateways that count together in Redis, and what they do while it is stopped, emptied, old, slow or cut off. @module */
import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import { type Client, eventually, type GatewayOptions, openVendor, startGateway, startInside } from '../gateway.ts'
import { noRedis, openWay, type RedisUnderTest, startRedis } from '../services/redis.ts'
import type { Vendor } from '../upstreams/vendor.ts'

/** A call as its caller saw it: when it was sent, when the answer was there, by one clock of the machine. */
interface Asked {
  readonly from: number
  readonly to: number
  readonly status: number
}

const now = () => performance.timeOrigin + performance.now()

async function ask(gateway: Client, key: string): Promise<Asked> {
  const from = now()
  const { status } = await gateway.chat(key, {})
  return { from, to: now(), status }
}

/** Most calls that certainly were let through within one window. */
function fullest(all: readonly Asked[], windowMs: number): number {
  const passed = all.filter(({ status }) => status === 200)
  return Math.max(
    0,
    ...passed.map(({ from }) => passed.filter((one) => one.from >= from && one.to < from + windowMs).length),
  )
}

describe('gateways with one Redis', { skip: noRedis }, () => {
  let vendor: Vendor
  before(async () => {
    vendor = await openVendor()
  })

  const rates = (requests: number, window: string) => ({
    rates: { model: { per: 'model', models: ['vendor/ok'], requests, window } },
    replicas: 2,
  })
  const options = (url: string, limits: object): GatewayOptions => ({ vendor, limits, env: { REDIS_URL: url } })
  const isUp = async (gateway: Client) => (await gateway.metric('gatehouse_redis_up')) === 1

  /** Two gateways inside this process, each with a key. */
  async function pair(urls: readonly [string, string], limits: object, budget = 1_000_000) {
    const open = async (url: string) => {
      const gateway = await startInside(options(url, limits))
      const { key } = await gateway.mintKey({ limits: [{ unit: 'requests', max: budget }] })
      await eventually(() => isUp(gateway))
      return { gateway, key }
    }
    return [await open(urls[0]), await open(urls[1])] as const
  }
  type Pair = Awaited<ReturnType<typeof pair>>

  /** Calls both without a pause while something happens. @returns every call, in the order of the answers */
  async function under(load: Pair, happens: (all: readonly Asked[]) => Promise<void>): Promise<readonly Asked[]> {
    const all: Asked[] = []
    let over = false
    const loops = load.flatMap(({ gateway, key }) =>
      [0, 1].map(async () => {
        while (!over) all.push(await ask(gateway, key))
      }),
    )
    try {
      await happens(all)
    } finally {
      over = true
      await Promise.all(loops)
    }
    return all
  }
  const later = (all: readonly Asked[], statuses: number) => {
    const from = all.length
    return eventually(() => all.slice(from).filter(({ status }) => status === statuses).length >= 3)
  }
  const onlyLimited = (all: readonly Asked[]) =>
    assert.deepEqual(
      all.filter(({ status }) => status !== 200 && status !== 429),
      [],
    )

  it('let no more through than one of them would: two processes, one history', async () => {
    const redis = await startRedis()
    const both = await Promise.all([0, 1].map(() => startGateway(options(redis.url, rates(12, '1s')))))
    const load = await Promise.all(both.map(async (gateway) => ({ gateway, key: (await gateway.mintKey()).key })))
    for (const { gateway } of load) await eventually(() => isUp(gateway))
    const all: Asked[] = []
    const until = now() + 2500
    await Promise.all(
      [...load, ...load].map(async ({ gateway, key }) => {
        while (now() < until) all.push(await ask(gateway, key))
      }),
    )
    onlyLimited(all)
    const passed = all.filter(({ status }) => status === 200).length
    // On a machine so loaded that Redis was given up for a moment, each had its share besides.
    const most = both.some((gateway) => gateway.log().includes('does not answer')) ? 24 : 12
    assert.ok(fullest(all, 1000) <= most, `${fullest(all, 1000)} in one window`)
    assert.ok(passed >= 24 && passed <= 48, String(passed))
  })

  it('go on within their share when it stops, without an error, and count together again when it is back', async () => {
    const redis = await startRedis()
    const limits = rates(10, '1s')
    const logging = await startGateway(options(redis.url, limits))
    await eventually(() => isUp(logging))
    const load = await pair([redis.url, redis.url], limits)
    const down = ({ gateway }: Pair[number]) => isUp(gateway).then((up) => !up)
    const all = await under(load, async (so) => {
      await later(so, 429)
      await redis.stop('SIGKILL')
      for (const one of load) await eventually(() => down(one))
      await later(so, 200)
      await later(so, 429)
      const apart = so.length
      await later(so, 200)
      await later(so, 429)
      assert.ok(fullest(so.slice(apart), 1000) <= 10)
      await redis.start()
      for (const { gateway } of load) await eventually(() => isUp(gateway))
      await later(so, 200)
      await later(so, 429)
    })
    onlyLimited(all)
    // What each had let through before it was alone still counts there; so two windows in a row are the most.
    assert.ok(fullest(all, 1000) <= 20, String(fullest(all, 1000)))
    await logging.logged(/Redis answers.*Redis does not answer.*Redis answers/s)
    await logging.stop()
    assert.equal(logging.log().match(/Redis (does not answer|answers)/g)?.length, 3, logging.log())
  })

  it('are not held up by one that swallows everything, nor by one that is slow', async () => {
    const redis = await startRedis()
    const way = await openWay(redis.port)
    const through = `redis://127.0.0.1:${way.port}`
    const load = await pair([through, through], rates(20, '1s'))
    const all = await under(load, async (so) => {
      for (const [cut, heal] of [
        [() => way.block(), () => way.unblock()],
        [() => void redis.client.call('CLIENT', 'PAUSE', '3000', 'ALL'), () => {}],
      ] as const) {
        cut()
        for (const { gateway } of load) await eventually(async () => !(await isUp(gateway)))
        await later(so, 200)
        heal()
        for (const { gateway } of load) await eventually(() => isUp(gateway))
        await later(so, 200)
      }
    })
    onlyLimited(all)
  })

  it('are bound by what they know themselves when it is emptied, restarted or put back to an old dump', async () => {
    const redis: RedisUnderTest = await startRedis()
    const load = await pair([redis.url, redis.url], rates(6, '1h'), 100)
    const [one, two] = load
    const statuses: number[] = []
    const step = async ({ gateway, key }: Pair[number], count: number) => {
      for (let i = 0; i < count; i++) statuses.push((await ask(gateway, key)).status)
    }
    const remaining = async () =>
      (await one.gateway.ask('GET', '/v1/sessions/current', { key: one.key })).json.remaining.requests
    await step(one, 2)
    const restore = await redis.dump()
    await step(two, 2)
    const used = await remaining()
    await restore()
    for (const { gateway } of load) await eventually(() => isUp(gateway))
    // The dump knows of two calls: four more fit there, but each gateway remembers what it let through itself.
    await step(one, 5)
    assert.deepEqual(statuses.splice(0), [200, 200, 200, 200, 200, 200, 200, 200, 429])
    await redis.client.flushall()
    await step(one, 1)
    await step(two, 5)
    assert.deepEqual(statuses.splice(0), [429, 200, 200, 200, 200, 429])
    await redis.stop('SIGKILL')
    await redis.start()
    for (const { gateway } of load) await eventually(() => isUp(gateway))
    await step(one, 1)
    await step(two, 1)
    assert.deepEqual(statuses, [429, 429])
    // Money was never asked of it.
    assert.deepEqual([used, await remaining()], [98, 94])
  })

  it('count a route at the target that is tried, together, and correct its tokens there', async () => {
    const redis = await startRedis()
    const limits = {
      rates: { model: { per: 'model', models: ['vendor/ok'], requests: 3, tokens: 1200, window: '1h', concurrent: 1 } },
      default_max_output: 900,
    }
    const routes = { fast: { to: [{ provider: 'vendor', model: 'ok' }] } }
    const open = async () => {
      const gateway = await startInside({ ...options(redis.url, limits), routes })
      const { key } = await gateway.mintKey()
      await eventually(() => isUp(gateway))
      return { gateway, key }
    }
    const [one, two] = [await open(), await open()]
    const key = (unit: string) => `{gatehouse}:rate:model|${unit}|vendor/ok`
    const statuses: number[] = []
    for (const { gateway, key: holder } of [one, two, one, two, one]) {
      statuses.push((await gateway.chat(holder, { model: 'fast' })).status)
      // The correction is on its way when the answer is: the place at work is given back with it.
      await eventually(async () => (await redis.client.zcard(key('concurrent'))) === 0)
    }
    assert.deepEqual(statuses, [200, 200, 200, 429, 429])
    assert.equal(await redis.client.exists(key('requests'), key('tokens')), 2)
  })

  it('share places at work, and have those of a killed gateway back', async () => {
    const redis = await startRedis()
    const limits = { rates: { model: { per: 'model', models: ['vendor/hold-0'], concurrent: 2 } } }
    const dying = await startGateway(options(redis.url, limits))
    const living = await startGateway(options(redis.url, limits))
    for (const gateway of [dying, living]) await eventually(() => isUp(gateway))
    const [theirs, ours] = [(await dying.mintKey()).key, (await living.mintKey()).key]
    const lost = Promise.allSettled([0, 1].map(() => dying.chat(theirs, { model: 'vendor/hold-0' })))
    const leases = async () => redis.client.zcard('{gatehouse}:rate:model|concurrent|vendor/hold-0')
    await eventually(async () => (await leases()) === 2)
    assert.equal((await living.chat(ours, { model: 'vendor/hold-0' })).status, 429)
    await dying.kill9()
    await lost
    // As if the leases had run out; that they do by themselves is a test of the scripts.
    const [place] = await redis.client.zrange('{gatehouse}:rate:model|concurrent|vendor/hold-0', '0', '0')
    await redis.client.zadd('{gatehouse}:rate:model|concurrent|vendor/hold-0', '1', String(place))
    let status = 0
    void living.chat(ours, { model: 'vendor/hold-0' }).then((answer) => {
      status = answer.status
    })
    await eventually(() => {
      vendor.release()
      return status !== 0
    })
    assert.equal(status, 200)
    await eventually(async () => (await leases()) === 1)
  })

  it('never write its password down, also when it is the wrong one', async () => {
    const redis = await startRedis({ password: 'right-password' })
    const wrong = redis.url.replace('right-password', 'canary-password')
    const gateway = await startGateway({
      ...options(wrong, rates(1, '1h')),
      env: { REDIS_URL: wrong, GATEHOUSE_LOG_LEVEL: 'debug' },
    })
    await gateway.logged(/Redis does not answer/)
    const { key } = await gateway.mintKey()
    assert.deepEqual([(await ask(gateway, key)).status, (await ask(gateway, key)).status], [200, 429])
    assert.match(gateway.log(), /"reason":"(WRONGPASS|NOAUTH)"/)
    await gateway.stop()
    assert.ok(!gateway.log().includes('canary-password'), gateway.log())
  })
})
