/** zod slice of `policies/limits.yaml`: what the gateway takes on at most. Everything has a default. @module */
import { z } from 'zod'

const count = (max: number) => z.int().min(1).max(max)

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
  })
  .transform((row) =>
    Object.freeze({
      maxInFlight: row.max_in_flight,
      bodyBytes: row.body_bytes,
      defaultMaxOutput: row.default_max_output,
      maxAttempts: row.max_attempts,
    }),
  )

export type Limits = z.output<typeof limitsSchema>
