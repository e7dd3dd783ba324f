/**
 * Carries messages to webhooks. They are kept in the store until they were acknowledged, so a restart goes on; a process
 * takes a message up before it sends it, so of several only one does. A receiver that answers and is not heard is asked
 * again with the same `webhook-id`.
 * @module
 */
import type { Egress } from '../egress.ts'
import { Fault } from '../fault.ts'
import type { AlertStore, Delivery } from '../stores/store.ts'
import { signedHeaders, type Webhook } from './webhook.ts'

export interface DeliveryDeps {
  readonly store: AlertStore
  readonly egress: Pick<Egress, 'fetch'>
  /** Ms since the epoch. */
  readonly now: () => number
  /** Uniform in [0, 1). */
  readonly chance: () => number
  readonly webhooks: () => readonly Webhook[]
  /** @throws {Error} the secret is not there */
  readonly secret: (ref: string) => string
  readonly log: { warn(fields: object, message: string): void }
}

export interface Courier {
  /** Takes up what is due, as far as there is room. Never rejects; what is slow goes on by itself. */
  look(): Promise<void>
  /** Waits a moment for what is at work and breaks it off then; it is tried again after the next start. */
  stop(): Promise<void>
}

const timeoutMs = 5_000
/** A process that dies in the middle of a try has its message taken up by another after this. */
const claimMs = timeoutMs + 5_000
/** Tries at the same time for one address: a slow receiver keeps nobody else waiting. */
const mostAtOnce = 4
/** How long a stop waits for answers. */
const lastWordMs = 1_000
const firstPauseMs = 1_000
const longestPauseMs = 15 * 60_000
const patienceMs = 24 * 3_600_000

export function createCourier(deps: DeliveryDeps): Courier {
  const { store, egress, now, webhooks, log } = deps
  const atWork = new Map<string, number>()
  const tries = new Set<Promise<void>>()
  const broken = new AbortController()
  let stopped = false

  async function takeUp(webhook: Webhook): Promise<void> {
    const room = mostAtOnce - (atWork.get(webhook.url) ?? 0)
    if (room <= 0) return
    for (const delivery of await store.due(webhook.url, now(), room)) {
      const claimed = await store.claim(delivery, now() + claimMs)
      if (claimed === null) continue
      if (stopped) await store.again(claimed, now())
      else begin(webhook, claimed)
    }
  }

  function begin(webhook: Webhook, claimed: Delivery): void {
    const { url } = webhook
    atWork.set(url, (atWork.get(url) ?? 0) + 1)
    const work = attempt(webhook, claimed)
      .catch((error: unknown) => log.warn({ webhook: claimed.id, error: String(error) }, 'a webhook was not noted'))
      .finally(() => {
        atWork.set(url, (atWork.get(url) ?? 1) - 1)
        tries.delete(work)
      })
    tries.add(work)
  }

  async function attempt(webhook: Webhook, claimed: Delivery): Promise<void> {
    const why = await send(webhook, claimed)
    if (why === null) return store.end(claimed, 'delivered', now())
    if (broken.signal.aborted) return store.again(claimed, now())
    const { id, event, attempts, createdAt } = claimed
    const givenUp = now() - createdAt >= patienceMs
    log.warn({ webhook: id, event, attempts, why, givenUp }, 'a webhook was not acknowledged')
    if (givenUp) return store.end(claimed, 'given_up', now())
    return store.again(claimed, now() + pauseOf(attempts, deps.chance()))
  }

  /** @returns why it was not acknowledged, or null */
  async function send({ url, secret, allowPrivate }: Webhook, { id, body }: Delivery): Promise<string | null> {
    let signed: readonly string[]
    try {
      signed = signedHeaders(deps.secret(secret), id, now(), body)
    } catch {
      return `the secret ${secret} is not set`
    }
    const answer = await egress.fetch({
      url,
      method: 'POST',
      headers: ['content-type', 'application/json', 'user-agent', 'gatehouse', ...signed],
      body,
      maxBytes: 4096,
      overflow: 'cut',
      timeoutMs,
      allowPrivate,
      signal: broken.signal,
      upstream: 'webhook',
    })
    if (answer instanceof Fault) return answer.code
    return answer.status >= 200 && answer.status < 300 ? null : `status ${answer.status}`
  }

  return {
    async look() {
      if (stopped) return
      await Promise.all(webhooks().map((webhook) => takeUp(webhook).catch(() => undefined)))
    },
    async stop() {
      stopped = true
      const late = setTimeout(() => broken.abort(), lastWordMs)
      await Promise.all(tries)
      clearTimeout(late)
      broken.abort()
    },
  }
}

/** Twice as long every time, with up to a quarter more so that many do not come back together. */
export function pauseOf(attempts: number, chance: number): number {
  const pause = Math.min(longestPauseMs, firstPauseMs * 2 ** Math.min(30, attempts - 1))
  return Math.round(pause * (1 + chance / 4))
}
