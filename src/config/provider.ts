/** zod slices of `registry/providers.yaml` and `registry/models.yaml`. @module */
import { z } from 'zod'
import { credentialSchema } from '../credentials/schemes.ts'
import { priceSchema } from '../price.ts'
import { allowPrivate, baseUrl } from '../targets/row.ts'

/** Wire formats. A provider may speak one that this version does not translate yet. */
export const dialects = ['openai-chat', 'openai-responses', 'anthropic-messages', 'gemini', 'bedrock-converse'] as const
export type Dialect = (typeof dialects)[number]

/** `provider/model` is split at the first slash, so an id has none. */
export const providerId = /^[a-z][a-z0-9-]*$/

/** Headers the gateway sets itself, or that frame the message, are not a row's to set. */
const headerName = z
  .string()
  .regex(
    /^(?!(authorization|cookie|host|connection|content-length|content-type|transfer-encoding|te|upgrade|expect|proxy-.*)$)[a-z0-9-]+$/i,
    'must be a header name the gateway does not set itself',
  )

export const providerSchema = z
  .strictObject({
    base_url: z.union([z.string().regex(/^builtin:[a-z]+$/), baseUrl]),
    speaks: z.array(z.enum(dialects)).min(1),
    credential: z.union([z.literal('none'), credentialSchema]).optional(),
    credentials: z.array(credentialSchema).min(1).optional(),
    allow_private: allowPrivate.default([]),
    headers: z.record(headerName, z.string().regex(/^[\x20-\x7e]*$/)).default({}),
    prefix: z.string().default(''),
    free: z.boolean().default(false),
  })
  .superRefine((row, context) => {
    if ((row.credential === undefined) === (row.credentials === undefined)) {
      context.addIssue({
        code: 'custom',
        path: [row.credential === undefined ? 'base_url' : 'credentials'],
        message: 'give either credential (one, or none) or credentials (a pool)',
      })
    }
  })

export const modelSchema = z.strictObject({
  provider: z.string(),
  upstream: z.string().min(1).optional(),
  context: z.int().min(1).optional(),
  max_output: z.int().min(1).optional(),
  price: priceSchema.optional(),
})
