/**
 * One request to a provider, from the pool's point of view: bytes to the lane as they come, no faster than the caller
 * reads, and an end however it ends: answered, cut, late, abandoned by the caller or stopped by the gateway.
 * @module
 */
import type { Dispatcher } from 'undici'
import { type Account, type Ending, endingOf, type Lane, type LlmCall, type ModelTarget, noUsage } from '../call.ts'
import { connectFault } from '../egress.ts'
import { type Fault, fault } from '../fault.ts'
import type { Gateway } from '../gateway.ts'
import type { Entry } from '../running.ts'

/** Guard when nothing else is configured: until the headers, between two chunks, and until a stream's first event. */
const defaultTimeoutMs = 300_000

/** What is the same for every request to a provider. */
export interface Destination {
  readonly pool: Dispatcher
  readonly origin: string
  /** Before the path of the endpoint, without a trailing slash. */
  readonly path: string
  /** Name, value, name, value... */
  readonly headers: string[]
}

/** Whose call it is, whom it asks, and where the answer goes. */
export interface Leg {
  readonly call: LlmCall
  readonly account: Account | null
  readonly target: ModelTarget
  readonly lane: Lane
}

/** @returns how it ended; never rejects */
export function dispatch(gateway: Gateway, leg: Leg, to: Destination, path: string, body: Buffer): Promise<Ending> {
  return new Promise((resolve) => {
    const exchange = new Exchange(gateway, leg, resolve)
    if (exchange.over) return
    const request = {
      origin: to.origin,
      path: to.path + path,
      method: 'POST' as const,
      headers: to.headers,
      body,
      headersTimeout: defaultTimeoutMs,
      bodyTimeout: defaultTimeoutMs,
    }
    exchange.guard(() => to.pool.dispatch(request, exchange))
  })
}

/** undici's handler. A class, because one of these is made for every request. */
class Exchange implements Dispatcher.DispatchHandler {
  over = false
  readonly #gateway: Gateway
  readonly #call: LlmCall
  readonly #target: ModelTarget
  readonly #lane: Lane
  readonly #resolve: (ending: Ending) => void
  readonly #begun: number
  readonly #entry: Entry
  #controller: Dispatcher.DispatchController | null = null
  #timer: NodeJS.Timeout | undefined
  /** The caller has not been sent anything yet. */
  #silent = true

  constructor(gateway: Gateway, { call, account, target, lane }: Leg, resolve: (ending: Ending) => void) {
    this.#gateway = gateway
    this.#call = call
    this.#target = target
    this.#lane = lane
    this.#resolve = resolve
    this.#begun = gateway.clock.mono()
    this.#entry = gateway.running.enter((cause) => this.#stop(cause), account)
    // A target's timeout is about getting an answer; once a stream has an event for the caller, only the caller's own
    // limit goes on.
    this.#limit(smallest(target.timeoutMs, call.timeoutMs) ?? (call.facts.stream ? defaultTimeoutMs : null))
    call.reply.onHangup(() => this.#stop(null))
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    if (this.over) controller.abort(new Error('abandoned'))
  }

  onResponseStart(
    _: Dispatcher.DispatchController,
    status: number,
    headers: Record<string, string | string[] | undefined>,
  ): void {
    if (!this.over && status >= 200) this.guard(() => this.#lane.head(status, headers))
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (!this.over) this.guard(() => this.#take(controller, chunk))
  }

  #take(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    const next = this.#lane.data(chunk)
    if (this.#silent && this.#call.reply.started) {
      this.#silent = false
      this.#limit(this.#call.timeoutMs)
    }
    if (next === 'stop') this.#enough()
    if (next !== 'wait') return
    controller.pause()
    this.#lane.ready((then) => {
      if (this.over) return
      if (then === 'stop') this.guard(() => this.#enough())
      else controller.resume()
    })
  }

  /** The lane wants no more: a finished stream ends by itself and its connection is used again; anything else is cut off. */
  #enough(): void {
    const ending = this.#lane.end()
    if (ending.outcome === 'answered') this.#finish(ending)
    else this.#abandon(ending)
  }

  onResponseEnd(): void {
    if (!this.over) this.guard(() => this.#finish(this.#lane.end()))
  }

  onResponseError(_: Dispatcher.DispatchController, error: Error & { code?: string }): void {
    if (!this.over) this.guard(() => this.#finish(this.#lane.fail(this.#faultOf(error), this.#left)))
  }

  /** The request has been put on a connection, so the provider may work on it. */
  get #left(): boolean {
    return this.#controller !== null
  }

  /** From outside: the gateway stops the call, its time is over, or the caller hung up (null). */
  #stop(cause: Fault | null): void {
    if (!this.over) this.guard(() => this.#abandon(this.#lane.fail(cause, this.#left)))
  }

  /** A lane that breaks is a bug of ours; what the provider did until then is on its bill all the same. */
  guard(step: () => void): void {
    try {
      step()
    } catch (error) {
      const text = error instanceof Error ? error.stack : String(error)
      this.#gateway.log.error({ call: this.#call.id, error: text }, 'a stage failed')
      this.#abandon(this.#broken())
    }
  }

  #broken(): Ending {
    const cause = fault({ code: 'internal_error' })
    try {
      return this.#lane.fail(cause, this.#left)
    } catch {
      const input = Math.ceil(this.#call.facts.bytes / 4)
      const usage = this.#left ? { ...noUsage, input, source: 'estimated' as const } : noUsage
      const outcome = this.#call.reply.started ? 'truncated' : 'fault'
      return endingOf(outcome, { fault: cause, usage, dispatched: this.#left })
    }
  }

  #finish(ending: Ending): void {
    if (this.over) return
    this.over = true
    clearTimeout(this.#timer)
    this.#gateway.running.leave(this.#entry)
    this.#resolve(ending)
  }

  #abandon(ending: Ending): void {
    this.#finish(ending)
    this.#controller?.abort(new Error('abandoned'))
  }

  #limit(limitMs: number | null): void {
    clearTimeout(this.#timer)
    if (limitMs === null) return
    const cause = fault({ code: 'upstream_timeout', upstream: this.#target.provider, afterMs: limitMs })
    const left = limitMs - (this.#gateway.clock.mono() - this.#begun)
    this.#timer = setTimeout(() => this.#stop(cause), left)
  }

  #faultOf(error: Error & { code?: string }): Fault {
    const upstream = this.#target.provider
    const { code, message } = error
    this.#gateway.log.debug({ upstream, code, error: message }, 'upstream failed')
    if (code === 'UND_ERR_HEADERS_TIMEOUT' || code === 'UND_ERR_BODY_TIMEOUT') {
      return fault({ code: 'upstream_timeout', upstream, afterMs: defaultTimeoutMs })
    }
    return connectFault(error, upstream)
  }
}

function smallest(a: number | null, b: number | null): number | null {
  if (a === null) return b
  return b === null ? a : Math.min(a, b)
}
