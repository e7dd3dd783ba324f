/**
 * Redis emptied, stopped, started empty, put back to an old dump and cut off while budgeted calls go on. Money was never
 * asked of it: no balance changes, nobody gets more than a budget has, and nobody sees an error because of it.
 * @module
 */
import assert from 'node:assert/strict'
import { eventually, type GatewayOptions, type GatewayUnderTest } from '../gateway.ts'
import { openWay, type RedisUnderTest, startRedis } from '../services/redis.ts'
import type { Vendor } from '../upstreams/vendor.ts'
import { assertAllThere, closeHouse, type House } from './house.ts'

/** Rates that Redis counts, and that never bind. */
const limits = {
  rates: { model: { per: 'model', models: ['vendor/ok'], requests: 1_000_000, window: '1h' } },
  replicas: 2,
}
const narrow = 10
/** The longest pause that may be seen, as a part of the whole load. */
const mostPause = 1 / 3

interface Answer {
  readonly at: number
  readonly status: number
  readonly id: string
}

/** @param open starts the gateways with these options @param turns how often everything is done to Redis */
export async function loseRedis(
  vendor: Vendor,
  open: (options: GatewayOptions) => Promise<House>,
  turns: number,
): Promise<void> {
  const redis = await startRedis()
  const way = await openWay(redis.port)
  const house = await open({ vendor, limits, env: { REDIS_URL: `redis://127.0.0.1:${way.port}` } })
  const [admin] = house.gateways as [GatewayUnderTest]
  const up = async (wanted: 0 | 1) => {
    for (const one of house.gateways) await eventually(async () => (await one.metric('gatehouse_redis_up')) === wanted)
  }
  await up(1)
  const wide = await admin.mintKey({ limits: [{ unit: 'requests', max: 1_000_000 }] })
  const answers: Answer[] = []
  let going = true
  const from = performance.now()
  const ask = async (gateway: GatewayUnderTest, key: string) => {
    const { status, headers } = await gateway.chat(key, {})
    const answer = { at: performance.now(), status, id: headers.get('x-gatehouse-request-id') ?? '' }
    answers.push(answer)
    return answer
  }
  const load = Promise.all(
    [...house.gateways, ...house.gateways].map(async (gateway) => {
      while (going) await ask(gateway, wide.key)
    }),
  )
  /** A budget of its own, used up while something is wrong. */
  const useUp = async () => {
    const key = await admin.mintKey({ limits: [{ unit: 'requests', max: narrow }] })
    const gateways = Array.from({ length: 3 * narrow }, (_, i) => house.gateways[i % house.gateways.length])
    let got = 0
    const count = async (gateway: GatewayUnderTest | undefined) => {
      const { status } = await ask(gateway as GatewayUnderTest, key.key)
      if (status === 200) got++
    }
    await Promise.all(gateways.map(count))
    assert.ok(got <= narrow, `${got} of ${narrow}`)
    // What one gateway had set aside and not used comes back to the other.
    await eventually(async () => {
      for (const gateway of house.gateways) await count(gateway)
      return got >= narrow
    })
    assert.equal(got, narrow)
  }
  for (let turn = 0; turn < turns; turn++) for (const step of stepsOf(redis, way)) await step(up, useUp)
  going = false
  await load
  const took = performance.now() - from

  assert.deepEqual([...new Set(answers.map(({ status }) => status))].sort(), [200, 429])
  const good = answers.filter(({ status }) => status === 200)
  const times = [from, ...good.map(({ at }) => at), from + took].toSorted((a, b) => a - b)
  const pause = Math.max(...times.slice(1).map((time, index) => time - (times[index] as number)))
  process.stdout.write(`${good.length} answered in ${took.toFixed(0)} ms, longest pause ${pause.toFixed(0)} ms\n`)
  assert.ok(pause < took * mostPause, `nothing was answered for ${pause} of ${took} ms`)
  await assertAllThere(
    house,
    good.map(({ id }) => id),
  )
  assert.equal(vendor.requests.length, good.length)
  await closeHouse(house)
}

type Step = (up: (wanted: 0 | 1) => Promise<void>, useUp: () => Promise<void>) => Promise<void>

function stepsOf(redis: RedisUnderTest, way: Awaited<ReturnType<typeof openWay>>): readonly Step[] {
  let restore = async (): Promise<void> => {}
  return [
    async (_, useUp) => {
      restore = await redis.dump()
      await redis.client.flushall()
      await useUp()
    },
    async (up, useUp) => {
      await redis.stop('SIGKILL')
      await Promise.all([useUp(), up(0)])
      await redis.start()
      await Promise.all([useUp(), up(1)])
    },
    async (up, useUp) => {
      await restore()
      await useUp()
      await up(1)
    },
    async (up, useUp) => {
      way.block()
      await Promise.all([useUp(), up(0)])
      way.unblock()
      await Promise.all([useUp(), up(1)])
    },
  ]
}
