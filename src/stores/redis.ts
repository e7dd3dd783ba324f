/**
 * Redis: hot state that processes share, and that may vanish at any time. One connection with a breaker: a command that
 * fails or takes too long opens it, and nobody waits for Redis again until it has answered a ping.
 * @module
 */
import { Redis, type RedisOptions } from 'ioredis'

export interface RedisLog {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
}

export interface RedisDeps {
  readonly log: RedisLog
  /** Longest wait for one command, ms. */
  readonly patienceMs?: number
  /** Between attempts to find it again, ms. */
  readonly probeMs?: number
}

/** A Lua script, and the name it is known by here. */
export interface Script {
  readonly name: string
  readonly lua: string
}

export interface RedisLink {
  /** It answers, as far as is known. */
  up(): boolean
  /** @returns the script's reply, or null when there is none in time; never rejects */
  run(script: Script, keys: readonly string[], args: readonly (string | number)[]): Promise<unknown>
  close(): Promise<void>
}

const defaultPatienceMs = 100
const defaultProbeMs = 1000
/** A ping may take longer than a command: nobody waits for it. */
const pingPatienceMs = 500
const reconnectMs = 250
const connectTimeoutMs = 2000

/** Options every connection has. A command is never sent twice: it may have been carried out the first time. */
export const redisOptions = {
  enableOfflineQueue: false,
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: 0,
  connectTimeout: connectTimeoutMs,
  retryStrategy: () => reconnectMs,
  disableClientInfo: true,
  // Replies as the classic protocol has them, whatever the server speaks.
  protocol: 2,
} satisfies RedisOptions

/** Connects in the background; until it has, `up()` is false. */
export function openRedis(url: string, deps: RedisDeps): RedisLink {
  return new Link(url, deps)
}

class Link implements RedisLink {
  readonly #client: Redis
  readonly #log: RedisLog
  readonly #patienceMs: number
  readonly #probing: NodeJS.Timeout
  readonly #digests = new Map<string, Promise<string>>()
  #up = false
  /** Said once per change: the first success is worth a line, and so is a first failure. */
  #said: 'up' | 'down' | null = null
  #pinging = false
  #closed = false

  constructor(url: string, { log, patienceMs = defaultPatienceMs, probeMs = defaultProbeMs }: RedisDeps) {
    this.#log = log
    this.#patienceMs = patienceMs
    this.#client = new Redis(url, redisOptions)
    this.#client.on('ready', () => void this.#probe())
    this.#client.on('error', (error: unknown) => this.#lost(reasonOf(error)))
    this.#client.on('close', () => this.#lost('the connection closed'))
    this.#probing = setInterval(() => {
      if (!this.#up) void this.#probe()
    }, probeMs)
    this.#probing.unref()
  }

  up(): boolean {
    return this.#up
  }

  async run(script: Script, keys: readonly string[], args: readonly (string | number)[]): Promise<unknown> {
    if (!this.#up) return null
    try {
      return await within(this.#patienceMs, this.#evaluate(script, keys, args))
    } catch (error) {
      this.#lost(reasonOf(error))
      return null
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#up = false
    clearInterval(this.#probing)
    this.#client.disconnect()
  }

  async #evaluate(script: Script, keys: readonly string[], args: readonly (string | number)[]): Promise<unknown> {
    const all = [...keys, ...args]
    const known = this.#digests.get(script.name)
    if (known !== undefined) {
      try {
        return await this.#client.evalsha(await known, keys.length, ...all)
      } catch (error) {
        // A restart forgets scripts. The command was not carried out, so it may be sent again.
        if (!(error instanceof Error) || !error.message.startsWith('NOSCRIPT')) throw error
      }
    }
    const loading = this.#client.script('LOAD', script.lua) as Promise<string>
    this.#digests.set(script.name, loading)
    loading.catch(() => this.#digests.delete(script.name))
    return this.#client.evalsha(await loading, keys.length, ...all)
  }

  /** Asks whether it answers; a connection on which it does not is dropped, since late replies may still be in it. */
  async #probe(): Promise<void> {
    if (this.#pinging || this.#closed || this.#client.status !== 'ready') return
    this.#pinging = true
    try {
      await within(pingPatienceMs, this.#client.ping())
      this.#found()
    } catch (error) {
      this.#lost(reasonOf(error))
      if (!this.#closed && this.#client.status === 'ready') this.#client.disconnect(true)
    } finally {
      this.#pinging = false
    }
  }

  #found(): void {
    if (this.#closed) return
    this.#up = true
    if (this.#said === 'up') return
    this.#said = 'up'
    this.#log.info({}, 'Redis answers: rate limits are shared')
  }

  #lost(reason: string): void {
    this.#up = false
    if (this.#said === 'down' || this.#closed) return
    this.#said = 'down'
    this.#log.warn({ reason }, 'Redis does not answer: rate limits are counted in this process until it does')
  }
}

/**
 * Rejects after the time with a `timeout`; what comes later is dropped. A reply that lies there unread, because this
 * process itself was busy, is read first.
 */
function within<T>(ms: number, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => setImmediate(() => reject(new Error('timeout'))), ms)
    work.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}

/** Why, in a word of a small vocabulary: an error's text could carry an address with its password. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return 'error'
  const { code } = error as NodeJS.ErrnoException
  if (typeof code === 'string' && /^[A-Z_]{3,40}$/.test(code)) return code
  return error.message === 'timeout' ? 'timeout' : (/^[A-Z]{3,20}(?= )/.exec(error.message)?.[0] ?? error.name)
}
