/** zod slice of `policies/routes.yaml`: what an agent may call a model, and what stands behind it. @module */
import { z } from 'zod'
import { strategyNames } from '../strategies/strategies.ts'
import { duration } from '../targets/row.ts'

export const triggers = ['error', 'rate_limit', 'timeout'] as const

const targets = z
  .array(
    z.strictObject({
      provider: z.string().min(1),
      model: z.string().min(1),
      timeout: duration.optional().describe('how long this target may take before the next is tried'),
      weight: z.number().min(0).max(1_000_000).default(1).describe('share under the weighted strategy'),
    }),
  )
  .min(1)

/** A whole percentage as people write it (`20%`); a share from 0 to 1 after parsing. */
const percent = z
  .string()
  .regex(/^[1-9][0-9]?%$/, 'must be a percentage from 1% to 99%')
  .transform((text) => Number.parseInt(text, 10) / 100)

export const routeSchema = z.strictObject({
  strategy: z.enum(strategyNames).default('fallback'),
  to: targets,
  when_budget: z
    .strictObject({
      below: percent.describe('share of the limit that is neither used nor held'),
      to: targets,
    })
    .optional()
    .describe(
      "cheaper targets, used instead of `to` while the tightest limit (dollars, tokens or requests) on the caller's path has less than this left",
    ),
  on: z
    .array(z.enum(triggers))
    .default([...triggers])
    .describe('which failures of one target let the next be tried'),
})

/** A route name must not read as `provider/model`. */
export const routeId = /^[^\s/]+$/
