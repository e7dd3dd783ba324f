/**
 * The only way out. Every address is checked before it is connected, and the address connected is the address checked,
 * so a name that changes its answer between check and connect gains nothing. Proxy variables of the environment play
 * no part: nothing here reads them.
 * @module
 */
import { lookup as systemLookup } from 'node:dns/promises'
import type { LookupFunction } from 'node:net'
import { isIP } from 'node:net'
import { buildConnector, type Dispatcher, Pool } from 'undici'
import { type Allowed, compileAllowances, judgeUrl, mayConnect, portOf } from './egress/addresses.ts'
import { AddressRefused, NameUnresolved } from './egress/faults.ts'
import { type EgressRequest, type EgressResponse, exchange } from './egress/fetch.ts'
import { Fault } from './fault.ts'

export { type Allowance, checkUrl, parseAllowance } from './egress/addresses.ts'
export { connectFault, neverSent } from './egress/faults.ts'
export type { EgressRequest, EgressResponse } from './egress/fetch.ts'

/** Resolves a name to all its addresses, or rejects. Replaceable so that tests can be a hostile name server. */
export type Lookup = (hostname: string) => Promise<readonly { readonly address: string; readonly family: number }[]>

export interface EgressOptions {
  /** `CIDR:port` entries allowed for every destination (GATEHOUSE_ALLOW_PRIVATE). */
  readonly allowPrivate: readonly string[]
  readonly lookup?: Lookup
  /** Connections per pool; default 10,000: one per call at work, so that no call waits behind another. */
  readonly connections?: number
}

export interface Egress {
  /**
   * A pool for one origin; kept and shared by all who ask with the same origin and allowance, until `close`.
   * It has no header or body timeout: whoever dispatches guards its own call, or sets `headersTimeout` and
   * `bodyTimeout` in the dispatch. Errors of a dispatch become faults with `connectFault`.
   *
   * @param origin scheme, host and port; a path is ignored
   * @param allowPrivate `CIDR:port` entries allowed beside those of the environment
   * @throws {Error} the origin is not an http(s) URL or an entry is malformed (configuration checks both before)
   */
  pool(origin: string, allowPrivate: readonly string[]): Dispatcher
  /** One whole exchange with caps; see {@link EgressRequest}. */
  fetch(request: EgressRequest): Promise<EgressResponse | Fault>
  /** Breaks what is open. Nothing can be sent afterwards. */
  close(): Promise<void>
}

const dnsTimeoutMs = 2_000
const connectTimeoutMs = 10_000
// Addresses met while following documents are not known beforehand, so the pools for them must not pile up.
const passingPools = 64

/** @throws {Error} an entry of `allowPrivate` is malformed */
export function createEgress(options: EgressOptions): Egress {
  compileAllowances(options.allowPrivate)
  const resolve = resolver(options.lookup ?? ((name) => systemLookup(name, { all: true })))
  const kept = new Map<string, Pool>()
  const passing = new Map<string, Pool>()

  const allowedWith = memoized((entries) => compileAllowances([...options.allowPrivate, ...entries]))

  function build(url: URL, allowed: Allowed): Pool {
    const port = portOf(url)
    const connect = buildConnector({
      timeout: connectTimeoutMs,
      allowH2: false,
      lookup: pinned(resolve, port, allowed),
    })
    return new Pool(url.origin, {
      connections: options.connections ?? 10_000,
      pipelining: 1,
      keepAliveTimeout: 60_000,
      headersTimeout: 0,
      bodyTimeout: 0,
      maxHeaderSize: 32_768,
      // A literal address never reaches the lookup, so it is judged here. undici sets noDelay on every socket.
      connect(target, callback) {
        const host = target.hostname.replace(/^\[|\]$/g, '')
        if (isIP(host) !== 0 && !mayConnect(host, port, allowed)) {
          queueMicrotask(() => callback(new AddressRefused(), null))
          return
        }
        connect(target, callback)
      },
    })
  }

  function pool(origin: string, allowPrivate: readonly string[]): Pool {
    const url = new URL(origin)
    if (url.protocol !== 'http:' && url.protocol !== 'https:') throw new Error(`${url.protocol} is not http or https`)
    const key = keyOf(url, allowPrivate)
    const known = kept.get(key)
    if (known !== undefined) return known
    const made = build(url, allowedWith(allowPrivate))
    kept.set(key, made)
    return made
  }

  function passingPool(url: URL, allowPrivate: readonly string[]): Pool {
    const key = keyOf(url, allowPrivate)
    const made = kept.get(key) ?? passing.get(key) ?? build(url, allowedWith(allowPrivate))
    if (kept.has(key)) return made
    // Last used, last out. `close` lets what is in flight finish.
    passing.delete(key)
    passing.set(key, made)
    for (const [oldest, idle] of passing) {
      if (passing.size <= passingPools) break
      passing.delete(oldest)
      void idle.close()
    }
    return made
  }

  return {
    pool,
    fetch(request) {
      const entries = request.allowPrivate ?? []
      return exchange(request, (text) => {
        const url = judgeUrl(text, allowedWith(entries))
        return url instanceof Fault ? url : { url, dispatcher: passingPool(url, entries) }
      })
    },
    async close() {
      const all = [...kept.values(), ...passing.values()]
      kept.clear()
      passing.clear()
      await Promise.all(all.map((one) => one.destroy()))
    },
  }
}

function keyOf(url: URL, allowPrivate: readonly string[]): string {
  return [url.origin, ...[...allowPrivate].sort()].join(' ')
}

/** Lookup for `net.connect` that hands over only addresses it has judged: what is judged is what is connected. */
function pinned(resolve: Lookup, port: number, allowed: Allowed): LookupFunction {
  return (hostname, options, callback) => {
    resolve(hostname).then(
      (answers) => {
        // One private answer spoils the name: a mixed answer is how a rebinding name server gets its second try.
        if (!answers.every(({ address }) => mayConnect(address, port, allowed)))
          return callback(new AddressRefused(), '', 0)
        const usable = answers.filter(({ family }) => !options.family || family === options.family)
        const first = usable[0]
        if (first === undefined) return callback(new NameUnresolved(), '', 0)
        if (options.all) return callback(null, [...usable])
        return callback(null, first.address, first.family)
      },
      () => callback(new NameUnresolved(), '', 0),
    )
  }
}

/** Bounds a lookup in time and lets connections opened together share one question. */
function resolver(lookup: Lookup): Lookup {
  const asked = new Map<string, ReturnType<Lookup>>()
  return (hostname) => {
    const open = asked.get(hostname)
    if (open !== undefined) return open
    const answer = withinTime(lookup(hostname), dnsTimeoutMs).finally(() => asked.delete(hostname))
    asked.set(hostname, answer)
    return answer
  }
}

function withinTime<T>(promise: Promise<T>, ms: number): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new NameUnresolved()), ms)
    promise.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}

/** Allowances are few and repeat with every call; compiling them once is enough. */
function memoized(compile: (entries: readonly string[]) => Allowed): (entries: readonly string[]) => Allowed {
  const known = new Map<string, Allowed>()
  return (entries) => {
    const key = entries.join(' ')
    const allowed = known.get(key) ?? compile(entries)
    known.set(key, allowed)
    return allowed
  }
}
