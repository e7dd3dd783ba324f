/** zod slice: an HTTP API described by an OpenAPI document, each operation a tool. @module */
import { z } from 'zod'
import { serverAuthSchema } from '../credentials/schemes.ts'
import { allowPrivate, baseUrl, duration, toolPrices } from './row.ts'

/** A glob over operation ids, or over `METHOD /path`. */
const operationGlob = z.string().min(1)

const specLocation = z
  .string()
  .min(1)
  .refine((text) => !/^[a-z][a-z0-9+.-]*:\/\//i.test(text) || /^https:\/\//.test(text), {
    message: 'must be a path or an https URL',
  })

export const openapiRowSchema = z
  .strictObject({
    kind: z.literal('openapi'),
    spec: specLocation,
    base_url: baseUrl,
    include: z.array(operationGlob).optional(),
    exclude: z.array(operationGlob).optional(),
    auth: serverAuthSchema.default({ kind: 'none' }),
    timeout: duration.default(30_000),
    allow_private: allowPrivate.default([]),
    disabled: z.boolean().default(false),
    price: toolPrices.optional(),
    /** Operation id (or `METHOD /path`) to the tool's name. */
    names: z
      .record(z.string().min(1), z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, 'must be 1 to 64 of A-Z, a-z, 0-9, _ and -'))
      .optional(),
  })
  .transform(({ timeout, ...row }) => ({ ...row, timeoutMs: timeout }))

/** As read: `base_url` without a trailing slash, `timeoutMs` for one call; `include` absent means every operation. */
export type OpenapiRow = z.output<typeof openapiRowSchema>
