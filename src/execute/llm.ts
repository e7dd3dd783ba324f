/**
 * A model call to its provider: dispatched on a pool of checked addresses, the answer fed to the lane as it comes.
 * @module
 */
import type { Admitted, Attempt, Ending, Lane, LlmCall, ModelTarget } from '../call.ts'
import type { Provider } from '../config/config.ts'
import { authHeader } from '../credentials/schemes.ts'
import { spliceBody } from '../dialects/openai-chat/splice.ts'
import { Fault, fault } from '../fault.ts'
import type { Gateway } from '../gateway.ts'
import { demo } from './demo.ts'
import { type Destination, dispatch } from './dispatch.ts'
import { ended } from './standing.ts'

const paths: Record<LlmCall['kind'], string> = {
  chat: '/chat/completions',
  completion: '/completions',
  embedding: '/embeddings',
}

/** Recomputed when the configuration is swapped. */
const prepared = new WeakMap<Provider, Destination>()

export function callModel(
  gateway: Gateway,
  call: LlmCall,
  admitted: Admitted,
  attempt: Attempt,
  lane: Lane,
): Promise<Ending> {
  const target = attempt.target as ModelTarget
  const refused = ended(gateway, admitted)
  if (refused !== null) return Promise.resolve(lane.fail(refused, false))
  const provider = gateway.config.providers.get(target.provider)
  if (provider === undefined)
    return Promise.resolve(lane.fail(unreachable(target.provider, 'it is no longer configured'), false))
  const body = spliceBody(call.body, call.facts, {
    model: target.model,
    cap: attempt.cap,
    capName: call.kind === 'chat' && provider.id === 'openai' ? 'max_completion_tokens' : 'max_tokens',
    usage: call.facts.stream,
  })
  const account = admitted.caller.role === 'holder' ? admitted.caller.account : null
  const leg = { call, account, target, lane }
  if (provider.baseUrl === 'builtin:demo') return demo(gateway, leg, body)
  const ready = prepare(gateway, provider)
  if (ready instanceof Fault) return Promise.resolve(lane.fail(ready, false))
  return dispatch(gateway, leg, ready, paths[call.kind], body)
}

function prepare(gateway: Gateway, provider: Provider): Destination | Fault {
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
    const ready: Destination = { pool, origin: url.origin, path: url.pathname.replace(/\/$/, ''), headers }
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

function unreachable(upstream: string, why: string): Fault {
  return fault({ code: 'upstream_error', upstream, status: null, why, unsent: true })
}
