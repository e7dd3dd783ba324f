/** zod slice of `policies/routes.yaml`: what an agent may call a model, and what stands behind it. @module */
import { z } from 'zod'
import { strategyNames } from '../strategies/strategies.ts'
import { duration } from '../targets/row.ts'

export const triggers = ['error', 'rate_limit', 'timeout'] as const

export const routeSchema = z.strictObject({
  strategy: z.enum(strategyNames).default('fallback'),
  to: z
    .array(
      z.strictObject({
        provider: z.string().min(1),
        model: z.string().min(1),
        timeout: duration.optional().describe('how long this target may take before the next is tried'),
        weight: z.number().min(0).max(1_000_000).default(1).describe('share under the weighted strategy'),
      }),
    )
    .min(1),
  on: z
    .array(z.enum(triggers))
    .default([...triggers])
    .describe('which failures of one target let the next be tried'),
})

/** A route name must not read as `provider/model`. */
export const routeId = /^[^\s/]+$/
