/** Hints between processes over Redis publish and subscribe. What is said while Redis is away is lost elsewhere. @module */
import { Redis } from 'ioredis'
import { type Bus, createListeners } from './bus.ts'
import { type RedisLog, reasonOf, redisOptions } from './redis.ts'

export interface RedisBusOptions {
  readonly log: RedisLog
  /** Names this process, so that it does not hear itself twice. */
  readonly origin: string
  /** Gateways that share a Redis but not their accounts need different ones. */
  readonly prefix?: string
  /** Between pings that find a dead connection, ms. */
  readonly pulseMs?: number
}

const defaultPulseMs = 2000

/** Connects in the background. Listeners of this process hear it whether Redis is there or not. */
export function redisBus(url: string, options: RedisBusOptions): Bus {
  const { log, origin, prefix = 'gatehouse', pulseMs = defaultPulseMs } = options
  const listeners = createListeners((error) => log.warn({ reason: reasonOf(error) }, 'a listener of the bus failed'))
  const speaks = new Redis(url, redisOptions)
  const hears = new Redis(url, redisOptions)
  const channel = `${prefix}:bus`
  let said: 'up' | 'down' | null = null
  let closed = false

  function lost(error: unknown): void {
    if (said === 'down' || closed) return
    said = 'down'
    log.warn({ reason: reasonOf(error) }, 'the bus over Redis is down: hints reach this process only until it is back')
  }

  async function listen(): Promise<void> {
    try {
      await hears.subscribe(channel)
      if (said !== 'up' && !closed) log.info({}, 'the bus over Redis is up')
      said = 'up'
    } catch (error) {
      lost(error)
    }
  }

  for (const client of [speaks, hears]) {
    client.on('error', lost)
    client.on('close', () => lost(new Error('CLOSED ')))
  }
  hears.on('ready', () => void listen())
  hears.on('message', (_channel: string, message: string) => {
    const parts = readMessage(message)
    if (parts !== null && parts[0] !== origin) listeners.tell(parts[1], parts[2])
  })

  /** A connection that is cut without a word looks idle; one that does not answer is opened anew. */
  const pulse = setInterval(() => {
    for (const client of [speaks, hears]) if (client.status === 'ready') void beat(client)
  }, pulseMs)
  pulse.unref()

  async function beat(client: Redis): Promise<void> {
    const late = setTimeout(() => client.disconnect(true), pulseMs)
    try {
      await client.ping()
    } catch (error) {
      lost(error)
    } finally {
      clearTimeout(late)
    }
  }

  return {
    publish(topic, text) {
      listeners.tell(topic, text)
      if (speaks.status === 'ready') speaks.publish(channel, JSON.stringify([origin, topic, text])).catch(lost)
    },
    subscribe: listeners.add,
    async close() {
      closed = true
      clearInterval(pulse)
      listeners.clear()
      speaks.disconnect()
      hears.disconnect()
    },
  }
}

/** Anybody who can reach Redis can write there; what is no message of ours is dropped. */
function readMessage(message: string): readonly [origin: string, topic: string, text: string] | null {
  try {
    const parts: unknown = JSON.parse(message)
    return Array.isArray(parts) && parts.length === 3 && parts.every((part) => typeof part === 'string')
      ? (parts as [string, string, string])
      : null
  } catch {
    return null
  }
}
