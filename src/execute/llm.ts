/**
 * A model call to its provider: dispatched on a pool of checked addresses, the answer fed to the lane as it comes.
 * @module
 */
import type { Dispatcher } from 'undici'
import type { Attempt, Ending, Lane, LlmCall, ModelTarget } from '../call.ts'
import type { Provider } from '../config/config.ts'
import { authHeader } from '../credentials/schemes.ts'
import { spliceBody } from '../dialects/openai-chat/splice.ts'
import { connectFault } from '../egress.ts'
import { Fault, fault } from '../fault.ts'
import type { Gateway } from '../gateway.ts'
import { demo } from './demo.ts'

const paths: Record<LlmCall['kind'], string> = {
  chat: '/chat/completions',
  completion: '/completions',
  embedding: '/embeddings',
}

/** Guards when nothing else is configured: until the headers, and between two chunks. */
const defaultTimeoutMs = 300_000

/** What is the same for every request to a provider; recomputed when the configuration is swapped. */
interface Prepared {
  readonly pool: Dispatcher
  readonly origin: string
  readonly path: string
  readonly headers: readonly string[]
}
const prepared = new WeakMap<Provider, Prepared>()

export function callModel(gateway: Gateway, call: LlmCall, attempt: Attempt, lane: Lane): Promise<Ending> {
  const target = attempt.target as ModelTarget
  const provider = gateway.config.providers.get(target.provider)
  if (provider === undefined)
    return Promise.resolve(lane.fail(unreachable(target.provider, 'it is no longer configured')))
  const body = spliceBody(call.body, call.facts, {
    model: target.model,
    cap: attempt.cap,
    capName: call.kind === 'chat' && provider.id === 'openai' ? 'max_completion_tokens' : 'max_tokens',
    usage: call.facts.stream,
  })
  if (provider.baseUrl === 'builtin:demo') return demo(call, body, lane)
  const ready = prepare(gateway, provider)
  return ready instanceof Fault ? Promise.resolve(lane.fail(ready)) : dispatch(gateway, call, target, ready, body, lane)
}

function prepare(gateway: Gateway, provider: Provider): Prepared | Fault {
  const known = prepared.get(provider)
  if (known !== undefined) return known
  const url = new URL(provider.baseUrl)
  const headers = ['content-type', 'application/json', 'accept-encoding', 'identity', 'user-agent', 'gatehouse']
  for (const [name, value] of Object.entries(provider.headers)) headers.push(name.toLowerCase(), value)
  try {
    // More than one credential is a pool; until keys cool one by one, the first whose secret is there serves.
    const header = firstCredential(gateway, provider)
    if (header !== null) headers.push(...header)
    const pool = gateway.egress.pool(url.origin, provider.allowPrivate)
    const ready: Prepared = { pool, origin: url.origin, path: url.pathname.replace(/\/$/, ''), headers }
    prepared.set(provider, ready)
    return ready
  } catch (error) {
    gateway.log.error({ provider: provider.id, error: (error as Error).message }, 'provider cannot be used')
    return unreachable(provider.id, 'its credential is not available')
  }
}

function firstCredential(gateway: Gateway, provider: Provider): readonly [string, string] | null {
  let failure: unknown = null
  for (const credential of provider.credentials) {
    try {
      return authHeader(credential, gateway.secret)
    } catch (error) {
      failure = error
    }
  }
  if (failure !== null) throw failure
  return null
}

function dispatch(
  gateway: Gateway,
  call: LlmCall,
  target: ModelTarget,
  to: Prepared,
  body: Buffer,
  lane: Lane,
): Promise<Ending> {
  return new Promise((resolve) => {
    let controller: Dispatcher.DispatchController | null = null
    let over = false
    let timer: NodeJS.Timeout | undefined
    const begun = gateway.clock.mono()

    function finish(ending: Ending): void {
      if (over) return
      over = true
      clearTimeout(timer)
      gateway.running.delete(stop)
      resolve(ending)
    }
    function abandon(ending: Ending): void {
      finish(ending)
      controller?.abort(new Error('abandoned'))
    }

    const stop = (cause: Fault) => abandon(lane.fail(cause))
    gateway.running.add(stop)
    function limit(limitMs: number | null): void {
      clearTimeout(timer)
      if (limitMs === null) return
      const late = () =>
        abandon(lane.fail(fault({ code: 'upstream_timeout', upstream: target.provider, afterMs: limitMs })))
      timer = setTimeout(late, limitMs - (gateway.clock.mono() - begun))
    }
    // A target's timeout is about getting an answer; once a stream has an event for the caller, only the caller's own
    // limit goes on.
    limit(smallest(target.timeoutMs, call.timeoutMs) ?? (call.facts.stream ? defaultTimeoutMs : null))
    let waiting = true
    call.reply.onHangup(() => abandon(lane.fail(null)))
    if (over) return

    to.pool.dispatch(
      {
        origin: to.origin,
        path: to.path + paths[call.kind],
        method: 'POST',
        headers: to.headers as string[],
        body,
        headersTimeout: defaultTimeoutMs,
        bodyTimeout: defaultTimeoutMs,
      },
      {
        onRequestStart(started) {
          controller = started
          if (over) started.abort(new Error('abandoned'))
        },
        onResponseStart(_, status, headers) {
          if (over || status < 200) return
          lane.head(status, headers)
        },
        onResponseData(flow, chunk) {
          if (over) return
          const next = lane.data(chunk)
          if (waiting && call.reply.started) {
            waiting = false
            limit(call.timeoutMs)
          }
          if (next === 'more') return
          if (next === 'wait') {
            flow.pause()
            call.reply.onDrain(() => flow.resume())
            return
          }
          const ending = lane.end()
          // A finished stream ends by itself and its connection is used again; anything else is cut off.
          if (ending.outcome === 'answered') finish(ending)
          else abandon(ending)
        },
        onResponseEnd() {
          if (!over) finish(lane.end())
        },
        onResponseError(_, error) {
          if (!over) finish(lane.fail(asFault(gateway, target.provider, error)))
        },
      },
    )
  })
}

function asFault(gateway: Gateway, upstream: string, error: Error & { code?: string }): Fault {
  const { code } = error
  gateway.log.debug({ upstream, code, error: error.message }, 'upstream failed')
  if (code === 'UND_ERR_HEADERS_TIMEOUT' || code === 'UND_ERR_BODY_TIMEOUT') {
    return fault({ code: 'upstream_timeout', upstream, afterMs: defaultTimeoutMs })
  }
  return connectFault(error, upstream)
}

function unreachable(upstream: string, why: string): Fault {
  return fault({ code: 'upstream_error', upstream, status: null, why })
}

function smallest(a: number | null, b: number | null): number | null {
  if (a === null) return b
  return b === null ? a : Math.min(a, b)
}
