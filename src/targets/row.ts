/** Shapes that every row about the outside shares: durations, allowances for private addresses, upstream URLs. @module */
import { z } from 'zod'
import { parseAllowance } from '../egress.ts'

const factors: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }

/** A duration as people write it (`500ms`, `5s`, `2m`); milliseconds after parsing. */
export const duration = z
  .string()
  .regex(/^[0-9]{1,9}(ms|s|m|h)$/, 'must be a duration like 500ms, 5s or 2m')
  .transform(milliseconds)
  .refine((ms) => ms >= 1 && ms <= 86_400_000, 'must be between 1ms and 24h')

/** @param text a duration that has been checked against the pattern above */
function milliseconds(text: string): number {
  const unit = text.replace(/^[0-9]+/, '')
  return Number.parseInt(text, 10) * (factors[unit] ?? Number.NaN)
}

/**
 * Private addresses an upstream may live on, one `CIDR:port` each (`127.0.0.1/32:11434`, `[::1]/128:8080`).
 * Exact ports only: a range of ports would open every other service of that host to whoever can edit a URL.
 */
export const allowPrivate = z.array(
  z.string().superRefine((text, context) => {
    const parsed = parseAllowance(text)
    if (typeof parsed === 'string') context.addIssue({ code: 'custom', message: parsed })
  }),
)

/** An http(s) URL of an upstream. Credentials belong in `auth`, so a URL that carries them is refused. */
export const upstreamUrl = z.string().superRefine((text, context) => {
  const url = URL.parse(text)
  const why =
    url === null || (url.protocol !== 'https:' && url.protocol !== 'http:')
      ? 'must be an http or https URL'
      : url.username !== '' || url.password !== ''
        ? 'must not carry credentials; use auth'
        : url.hash !== ''
          ? 'must not have a fragment'
          : null
  if (why !== null) context.addIssue({ code: 'custom', message: why })
})

/** What paths are appended to: a URL without a query, without the trailing slash after parsing. */
export const baseUrl = upstreamUrl
  .refine((text) => !text.includes('?'), 'must not have a query')
  .transform((text) => text.replace(/\/+$/, ''))

const mostUsd = 1_000

/** USD with at most 6 decimals; micro-dollars after parsing. */
export const usdPerCall = z
  .number()
  .min(0)
  .max(mostUsd)
  .refine((usd) => Math.round(usd * 1e6) / 1e6 === usd, 'must have at most 6 decimals')
  .transform((usd) => Math.round(usd * 1e6))

/** What calls of a server's tools cost: each of them, and by the server's own name of a tool. */
export const toolPrices = z.strictObject({
  call: usdPerCall.prefault(0).describe('USD per call of any tool, at most 6 decimals'),
  tools: z.record(z.string().min(1), usdPerCall).default({}).describe('USD per call, by the name the server knows'),
})
