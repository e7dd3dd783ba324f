/** zod slices of what people send about accounts, keys and sessions. Unknown fields are refused. @module */
import { z } from 'zod'
import { accountKinds, type Limit, type Unit, units, windows } from '../call.ts'
import { type Fault, fault } from '../fault.ts'

/** Dollars as a number or decimal string with at most six digits; micro-dollars after parsing. */
export const usd = z.union([z.string(), z.number()]).transform((given, context) => {
  const match = /^(\d{1,9})(?:\.(\d{1,6}))?$/.exec(String(given))
  if (match === null) {
    context.addIssue({ code: 'custom', message: 'must be dollars from 0 to 999999999 with at most 6 decimals' })
    return z.NEVER
  }
  return Number(match[1]) * 1_000_000 + Number((match[2] ?? '').padEnd(6, '0'))
})

const count = z.int().min(0).max(Number.MAX_SAFE_INTEGER)
const names = z.array(z.string().min(1).max(200)).max(1000)
const labels = z
  .record(z.string().regex(/^[A-Za-z0-9_.-]{1,64}$/), z.string().max(256))
  .refine((given) => Object.keys(given).length <= 32, 'at most 32 labels')
const ttl = z
  .int()
  .min(1)
  .max(366 * 24 * 3600)
const time = z.iso.datetime({ offset: true }).transform((text) => Date.parse(text))
const title = z.string().min(1).max(200)

/** Limits as a session states them: one total per unit. */
const totals = z.strictObject({
  usd: usd.optional(),
  tokens: count.optional(),
  requests: count.optional(),
  tool_calls: count.optional(),
})

export const mintSchema = z.strictObject({
  ttl: ttl.optional(),
  limits: totals.optional(),
  models: names.optional(),
  tools: names.optional(),
  labels: labels.optional(),
})
export const topUpSchema = z.strictObject({ add: totals })

/** An IANA time zone this machine knows. */
const zone = z.string().max(64).refine(isZone, 'must be an IANA time zone, like Europe/Berlin')

function isZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat('en', { timeZone: name })
    return true
  } catch {
    return false
  }
}

const limit = z
  .strictObject({
    unit: z.enum(units as [Unit, ...Unit[]]),
    max: z.union([z.string(), z.number()]),
    window: z.enum(windows).default('total'),
    zone: zone.default('UTC'),
    action: z.enum(['stop', 'warn']).default('stop'),
    alert_at: z.array(z.int().min(1).max(1000)).max(10).default([70, 90]),
  })
  .transform((row, context): Limit => {
    const max = (row.unit === 'usd' ? usd : count).safeParse(row.max)
    if (!max.success) {
      context.addIssue({ code: 'custom', path: ['max'], message: max.error.issues[0]?.message ?? 'is not an amount' })
      return z.NEVER
    }
    if (row.action === 'stop' && row.alert_at.some((percent) => percent > 100)) {
      context.addIssue({
        code: 'custom',
        path: ['alert_at'],
        message: 'a limit that stops is never passed: at most 100',
      })
      return z.NEVER
    }
    return {
      unit: row.unit,
      max: max.data,
      window: row.window,
      zone: row.zone,
      action: row.action,
      alertAt: [...new Set(row.alert_at)].sort((a, b) => a - b),
    }
  })
/** Limits of an account, as the admin API and policies/limits.yaml have them. */
export const limitsOf = z.array(limit).max(32)
const innerKinds = accountKinds.filter((kind) => kind !== 'key' && kind !== 'session')

export const accountSchema = z.strictObject({
  name: title,
  kind: z.enum(innerKinds as [string, ...string[]]).default('organization'),
  parent: z.string().max(64).nullable().default(null),
  limits: limitsOf.optional(),
  models: names.nullable().default(null),
  tools: names.nullable().default(null),
  labels: labels.default({}),
})
export const keySchema = z.strictObject({
  name: title.default('key'),
  account: z.string().max(64),
  roles: z.array(z.string().min(1).max(100)).max(20).default([]),
  limits: limitsOf.optional(),
  models: names.nullable().default(null),
  tools: names.nullable().default(null),
  expires_at: time.nullable().default(null),
  labels: labels.default({}),
})
/** What may be changed later, of accounts and keys alike. */
export const changeSchema = z.strictObject({
  name: title.optional(),
  limits: limitsOf.optional(),
  models: names.nullable().optional(),
  tools: names.nullable().optional(),
  roles: z.array(z.string().min(1).max(100)).max(20).optional(),
  expires_at: time.nullable().optional(),
  labels: labels.optional(),
})

/** Parses a body by a slice. @returns the value, or invalid_request naming the first field that is wrong */
export function read<T>(schema: z.ZodType<T>, body: unknown): T | Fault {
  const parsed = schema.safeParse(body)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  const where = issue?.path.length ? issue.path.join('.') : 'body'
  const unknown = issue?.code === 'unrecognized_keys' ? `unknown field ${issue.keys.join(', ')}` : undefined
  return fault({ code: 'invalid_request', where, why: unknown ?? issue?.message ?? 'is not valid' })
}

/** Session totals as limits of an account. */
export function asLimits(given: z.output<typeof totals>): Limit[] {
  const out: Limit[] = []
  for (const unit of units) {
    const max = given[unit]
    if (max !== undefined) out.push({ unit, max, window: 'total', zone: 'UTC', action: 'stop', alertAt: [70, 90] })
  }
  return out
}
