/** zod slice of `policies/limits.yaml`: what the gateway takes on at most. Everything has a default. @module */
import { z } from 'zod'
import { type AccountKind, accountKinds, type Limit } from '../account.ts'
import { limitsOf } from '../identity/requests.ts'
import { ratesSchema } from '../rates/limit.ts'
import { webhooksSchema } from './webhook.ts'

const dayMs = 86_400_000
/** Windows of a month must be over before their lines go, and their counters with them. */
const leastRowDays = 62

/** Days, as `90d`; ms after parsing. */
const days = (least: number) =>
  z
    .string()
    .regex(/^[1-9]\d{0,4}d$/, 'must be days, like 90d')
    .refine((text) => Number.parseInt(text, 10) >= least, `must be at least ${least}d`)
    .transform((text) => Number.parseInt(text, 10) * dayMs)

const retention = z.strictObject({
  notes: days(1).optional().describe('how long the steps and labels of callers are kept, like 90d; left out, for good'),
  rows: days(leastRowDays)
    .optional()
    .describe(`how long rows of the ledger are kept, at least ${leastRowDays}d; left out, for good`),
})

const count = (max: number) => z.int().min(1).max(max)

const defaults = z.partialRecord(z.enum(accountKinds), limitsOf)

export const limitsSchema = z
  .strictObject({
    max_in_flight: count(100_000).default(10_000).describe('calls at work at the same time, over all keys'),
    body_bytes: count(256 * 1024 * 1024)
      .default(32 * 1024 * 1024)
      .describe('largest request body of a model call'),
    default_max_output: count(1_000_000)
      .default(8192)
      .describe('output tokens held for when neither the caller nor the model row gives a cap'),
    max_attempts: count(20).default(5).describe('targets tried for one call at most'),
    rates: ratesSchema
      .prefault({})
      .describe('rate limits by name; a call is counted against every one that matches it, or against none'),
    defaults: defaults
      .default({})
      .describe('budget limits of a new account, key or session that is given none, by its kind; [] given is none'),
    webhooks: webhooksSchema.default([]).describe('who is told when a budget runs low'),
    replicas: count(1000)
      .default(1)
      .describe('processes that serve the same callers; each takes limit / replicas of a rate while it counts alone'),
    retention: retention.prefault({}).describe('what the ledger forgets; its chains and sums stay whole'),
  })
  .transform((row) =>
    Object.freeze({
      maxInFlight: row.max_in_flight,
      bodyBytes: row.body_bytes,
      defaultMaxOutput: row.default_max_output,
      maxAttempts: row.max_attempts,
      retention: Object.freeze({ notes: row.retention.notes ?? null, rows: row.retention.rows ?? null }),
      defaults: row.defaults as Readonly<Partial<Record<AccountKind, readonly Limit[]>>>,
      webhooks: row.webhooks,
      rates: row.rates === null ? null : Object.freeze({ limits: row.rates, replicas: row.replicas }),
    }),
  )

export type Limits = z.output<typeof limitsSchema>
