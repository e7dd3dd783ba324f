/** Rate limits counted in Redis, for every process that uses the same one. @module */
import type { Want } from '../rates/match.ts'
import type { SharedRates } from '../rates/shared.ts'
import type { Room } from '../rates/window.ts'
import type { RedisLink } from './redis.ts'
import { changeScript, renewScript, takeScript } from './redis-scripts.ts'

export interface RedisRatesOptions {
  /** How long a place at work outlives its process, ms. Places of calls at work are renewed three times as often. */
  readonly leaseMs?: number
}

const defaultLeaseMs = 30_000
/** Leases renewed by one command. */
const renewedAtOnce = 500
/** In braces: a cluster keeps all of it on one node, where one script can reach it. */
const prefix = '{gatehouse}:rate:'

export function sharedRates(
  redis: RedisLink,
  { leaseMs = defaultLeaseMs }: RedisRatesOptions = {},
): SharedRates & { close(): void } {
  /** Places held by calls of this process: key and member. */
  const leases = new Map<string, readonly [key: string, member: string]>()
  const renewing = setInterval(() => void renew(), leaseMs / 3)
  renewing.unref()

  async function renew(): Promise<void> {
    const all = [...leases.values()]
    for (let at = 0; at < all.length; at += renewedAtOnce) {
      // What ended while an earlier part was on its way must not come back.
      const part = all.slice(at, at + renewedAtOnce).filter(([key, member]) => leases.has(`${key} ${member}`))
      await redis.run(
        renewScript,
        part.map(([key]) => key),
        [leaseMs, ...part.map(([, member]) => member)],
      )
    }
  }

  return {
    up: () => redis.up(),
    async take(wants, member) {
      const reply = await redis.run(takeScript, wants.map(keyOf), [leaseMs, member, ...wants.flatMap(numbers)])
      if (!isNumbers(reply) || reply.length !== 2 + wants.length * 3) return null
      const [refused, waitMs] = reply as [number, number]
      const slots: number[] = []
      const rooms: Room[] = []
      for (let at = 2; at < reply.length; at += 3) {
        slots.push(reply[at] as number)
        rooms.push({ remaining: reply[at + 1] as number, resetMs: reply[at + 2] as number })
      }
      if (refused > 0) return { taken: false, want: refused - 1, waitMs, rooms }
      for (const want of wants) {
        if (want.count.unit === 'concurrent') leases.set(`${keyOf(want)} ${member}`, [keyOf(want), member])
      }
      return { taken: true, slots, rooms }
    },
    change(changes, member) {
      for (const { want } of changes) {
        if (want.count.unit === 'concurrent') leases.delete(`${keyOf(want)} ${member}`)
      }
      const args = changes.flatMap(({ want: { count }, slot, delta }) => [
        count.max,
        count.burst,
        count.windowMs,
        slot,
        delta,
      ])
      void redis.run(
        changeScript,
        changes.map(({ want }) => keyOf(want)),
        [member, ...args],
      )
    },
    close() {
      clearInterval(renewing)
    },
  }
}

function keyOf({ key }: Want): string {
  return prefix + key
}

function numbers({ count, amount }: Want): readonly number[] {
  return [count.max, count.burst, count.windowMs, amount]
}

function isNumbers(reply: unknown): reply is readonly number[] {
  return Array.isArray(reply) && reply.every((one) => typeof one === 'number')
}
