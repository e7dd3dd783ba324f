/** Hints between processes: in memory, and over a real Redis that comes and goes. @module */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type Bus, memoryBus } from '../../src/stores/bus.ts'
import { redisBus } from '../../src/stores/redis-bus.ts'
import { atEnd, eventually } from '../gateway.ts'
import { noRedis, openWay, startRedis } from '../services/redis.ts'

function heard(bus: Bus, topic: string): string[] {
  const all: string[] = []
  bus.subscribe(topic, (text) => all.push(text))
  return all
}

/** Says something new until the other side has heard some of it: how a user sees that hints get through again. */
async function getsThrough(from: Bus, to: Bus): Promise<void> {
  const all = heard(to, 'probe')
  let said = 0
  await eventually(() => {
    from.publish('probe', String(said++))
    return all.length > 0
  })
}

it('a bus in memory tells every listener of a topic, until it stops listening, whatever another one throws', async () => {
  const failed: unknown[] = []
  const bus = memoryBus((error) => failed.push(error))
  bus.subscribe('a', () => {
    throw new Error('broken on purpose')
  })
  const all: string[] = []
  const listener = (text: string) => all.push(text)
  const stop = bus.subscribe('a', listener)
  bus.subscribe('a', listener)
  bus.publish('a', '1')
  bus.publish('b', '2')
  stop()
  stop()
  bus.publish('a', '3')
  assert.deepEqual(all, ['1', '1', '3'])
  assert.equal(failed.length, 2)
  await bus.close()
  bus.publish('a', '4')
  assert.equal(all.length, 3)
})

describe('a bus over Redis', { skip: noRedis }, () => {
  const lines: string[] = []
  const log = {
    info: (fields: object, message: string) => void lines.push(`${JSON.stringify(fields)} ${message}`),
    warn: (fields: object, message: string) => void lines.push(`${JSON.stringify(fields)} ${message}`),
  }
  function opened(url: string, origin: string, more: object = {}): Bus {
    const bus = redisBus(url, { log, origin, pulseMs: 200, ...more })
    atEnd(() => bus.close())
    return bus
  }

  it('reaches the other process, and its own listeners once', async () => {
    const redis = await startRedis()
    const [one, two, foreign] = [
      opened(redis.url, 'one'),
      opened(redis.url, 'two'),
      opened(redis.url, 'x', { prefix: 'y' }),
    ]
    await Promise.all([getsThrough(one, two), getsThrough(two, one)])
    const [here, there, elsewhere] = [heard(one, 'revoked'), heard(two, 'revoked'), heard(foreign, 'revoked')]
    await redis.client.publish('gatehouse:bus', 'no message of ours')
    await redis.client.publish('gatehouse:bus', '["one","revoked"]')
    one.publish('revoked', 'k_1')
    assert.deepEqual(here, ['k_1'])
    await eventually(() => there.length === 1)
    await getsThrough(two, one)
    assert.deepEqual([here, there, elsewhere], [['k_1'], ['k_1'], []])
  })

  it('comes back after a restart and after a partition, and says each change once', async () => {
    const redis = await startRedis({ password: 'canary-password' })
    const way = await openWay(redis.port)
    lines.length = 0
    const one = opened(redis.url, 'one')
    const two = opened(redis.url.replace(String(redis.port), String(way.port)), 'two')
    await getsThrough(one, two)
    await redis.stop('SIGKILL')
    await eventually(() => lines.filter((line) => line.includes('is down')).length >= 2)
    const here = heard(one, 'a')
    one.publish('a', 'while it is away')
    assert.deepEqual(here, ['while it is away'])
    await redis.start()
    await getsThrough(one, two)
    way.block()
    await eventually(() => lines.filter((line) => line.includes('is down')).length >= 3)
    way.unblock()
    await getsThrough(one, two)
    assert.equal(lines.filter((line) => line.includes('is down')).length, 3, lines.join('\n'))
    assert.ok(!lines.join('\n').includes('canary-password'))
  })
})
