/** What goes out to a webhook: its events, its addresses, and the signature of Standard Webhooks. Pure. @module */
import { createHmac } from 'node:crypto'

export const webhookEvents = ['budget_alert', 'overrun'] as const
export type WebhookEvent = (typeof webhookEvents)[number]

/** Where events go. */
export interface Webhook {
  readonly url: string
  /** `env:NAME` or `file:PATH`. */
  readonly secret: string
  readonly events: readonly WebhookEvent[]
  /** `CIDR:port` entries allowed beside those of the environment. */
  readonly allowPrivate: readonly string[]
}

const prefix = 'whsec_'

/** Whether there is anything in a secret to sign with. */
export function isUsableSecret(secret: string): boolean {
  return keyOf(secret).length > 0
}

/**
 * Headers of a message by Standard Webhooks: the receiver computes the same over `id.timestamp.body` and refuses what
 * is older than five minutes.
 *
 * @param secret as shared with the receiver: any text, or base64 behind `whsec_`
 * @param at ms since the epoch
 * @returns name, value, name, value...
 */
export function signedHeaders(secret: string, id: string, at: number, body: string): readonly string[] {
  const timestamp = String(Math.floor(at / 1000))
  const signature = createHmac('sha256', keyOf(secret)).update(`${id}.${timestamp}.${body}`).digest('base64')
  return ['webhook-id', id, 'webhook-timestamp', timestamp, 'webhook-signature', `v1,${signature}`]
}

function keyOf(secret: string): Buffer {
  const text = secret.trim()
  return text.startsWith(prefix) ? Buffer.from(text.slice(prefix.length), 'base64') : Buffer.from(text)
}
