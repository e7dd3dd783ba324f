/** zod slice of `webhooks` in `policies/limits.yaml`: who is told when a budget runs low. @module */
import { z } from 'zod'
import { webhookEvents } from '../alerts/webhook.ts'
import { secretRef } from '../credentials/schemes.ts'
import { allowPrivate, upstreamUrl } from '../targets/row.ts'

const webhook = z
  .strictObject({
    url: upstreamUrl.describe('where messages are posted to, signed as Standard Webhooks'),
    secret: secretRef.describe(
      'what they are signed with; base64 behind whsec_, or any text. Without one nothing starts',
    ),
    events: z
      .array(z.enum(webhookEvents))
      .min(1)
      .default([...webhookEvents]),
    allow_private: allowPrivate.default([]),
  })
  .transform(({ url, secret, events, allow_private }) => ({ url, secret, events, allowPrivate: allow_private }))

export const webhooksSchema = z
  .array(webhook)
  .max(20)
  .refine((rows) => new Set(rows.map(({ url }) => url)).size === rows.length, 'each url once')
