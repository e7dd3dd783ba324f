/** zod slice of `rates` in `policies/limits.yaml`: how many requests, tool calls and tokens a window may see. @module */
import { z } from 'zod'
import { accountKinds } from '../call.ts'

export const rateScopes = ['key', 'account', 'model', 'tool'] as const
export type RateScope = (typeof rateScopes)[number]
export type RateUnit = 'requests' | 'tool_calls' | 'tokens' | 'concurrent'

/** One number of a limit. */
export interface RateCount {
  readonly unit: RateUnit
  readonly max: number
  /** On top of `max` for a caller that has been quiet; 0 for `concurrent`. */
  readonly burst: number
  /** Length of the sliding window; 0 for `concurrent`. */
  readonly windowMs: number
  /** As people say it: `60 requests in 1m`. */
  readonly said: string
}

/** One entry of `rates`. A selector that is null selects everything. */
export interface RateLimit {
  readonly name: string
  /** What has a counter of its own. */
  readonly per: readonly RateScope[]
  readonly counts: readonly RateCount[]
  readonly kinds: readonly string[] | null
  readonly accounts: readonly string[] | null
  readonly keys: readonly string[] | null
  readonly roles: readonly string[] | null
  readonly labels: Readonly<Record<string, string>> | null
  /** Lower-case globs. */
  readonly models: readonly string[] | null
  /** Lower-case globs. */
  readonly tools: readonly string[] | null
  /** Names of limits that do not count where this one does. */
  readonly replaces: readonly string[]
}

const longestSeconds = 86_400
const seconds: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600 }

/** A number of seconds or `10s`, `1m`, `1h`; milliseconds after parsing. */
const windowSchema = z
  .union([z.int(), z.string().regex(/^[0-9]{1,5}[smh]$/, 'must be seconds, or a window like 10s, 1m or 1h')])
  .transform((given) =>
    typeof given === 'number' ? given : Number.parseInt(given, 10) * (seconds[given.slice(-1)] ?? Number.NaN),
  )
  .refine((length) => length >= 1 && length <= longestSeconds, 'must be between 1s and 24h')
  .transform((length) => length * 1000)

const positive = z.int().min(1).max(1_000_000_000)
const extra = z.int().min(0).max(1_000_000_000)
const ids = z.array(z.string().min(1)).min(1)
const globs = z.array(z.string().min(1, 'an empty pattern matches nothing')).min(1)
const scope = z.enum(rateScopes)

const rowSchema = z
  .strictObject({
    per: z
      .union([scope, z.array(scope).min(1).max(3)])
      .describe(
        'what has a counter of its own. key: a key with every session below it. account: each account that `kinds` or ' +
          '`accounts` names, with all keys and sessions below it. model, tool: each name. A list: each combination',
      ),
    requests: positive.optional().describe('model calls in a window'),
    tool_calls: positive.optional().describe('tool calls in a window'),
    tokens: positive
      .optional()
      .describe('input and output tokens in a window; the most a call may need is taken first, then what it used'),
    window: windowSchema
      .optional()
      .describe(
        'length of the sliding window: seconds, or 10s, 1m, 1h; at most 24h. Needed unless only concurrent is set',
      ),
    burst: extra
      .default(0)
      .describe('requests or tool calls on top, for a caller that has been quiet; no window ever sees more than both'),
    burst_tokens: extra.default(0).describe('the same for tokens'),
    concurrent: positive.optional().describe('calls at work at the same time, model calls and tool calls together'),
    kinds: z.array(z.enum(accountKinds)).min(1).optional().describe('with per account: which kinds of account'),
    accounts: ids.optional().describe('only calls from these accounts, keys or sessions and everything below them'),
    keys: ids.optional().describe('only calls with these keys, or with sessions below them'),
    roles: ids.optional().describe('only callers with one of these roles'),
    labels: z
      .record(z.string(), z.string())
      .optional()
      .describe('only callers whose key or accounts carry these labels; what a session calls itself does not count'),
    models: globs.optional().describe('only these models: globs over the name as written and over provider/model'),
    tools: globs.optional().describe('only these tools: globs over <server>__<tool>'),
    replaces: z
      .array(z.string())
      .default([])
      .describe('names of limits with the same `per` that do not count where this one does'),
  })
  .superRefine((row, context) => {
    const complain = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message })
    const per = scopesOf(row.per)
    const windowed = row.requests ?? row.tool_calls ?? row.tokens
    if ((windowed ?? row.concurrent) === undefined)
      complain('per', 'limits nothing; give requests, tool_calls, tokens or concurrent')
    if (windowed !== undefined && row.window === undefined) complain('per', 'needs a window, for example window: 1m')
    if (windowed === undefined && row.window !== undefined)
      complain('window', 'has nothing to count; give requests, tool_calls or tokens')
    if (row.burst > 0 && row.requests === undefined && row.tool_calls === undefined)
      complain('burst', 'belongs to requests or tool_calls')
    if (row.burst_tokens > 0 && row.tokens === undefined) complain('burst_tokens', 'belongs to tokens')
    if (new Set(per).size < per.length) complain('per', 'names a scope twice')
    const ofModels = per.includes('model') || row.models !== undefined
    const ofTools = per.includes('tool') || row.tools !== undefined
    if (ofModels && ofTools) complain('per', 'no call has both a model and a tool; write two limits')
    if (ofModels && row.tool_calls !== undefined) complain('tool_calls', 'a limit of models counts requests and tokens')
    if (ofTools && row.requests !== undefined) complain('requests', 'a limit of tools counts tool_calls')
    if (ofTools && row.tokens !== undefined) complain('tokens', 'a limit of tools counts tool_calls')
    if (per.includes('account') && row.kinds === undefined && row.accounts === undefined)
      complain('per', 'which accounts? give kinds or accounts')
    if (!per.includes('account') && row.kinds !== undefined) complain('kinds', 'belongs to per: account')
  })
type Row = z.output<typeof rowSchema>

/** @returns the limits in order, or null where there are none: then nobody has to look */
export const ratesSchema = z
  .record(z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'must be letters, digits, ".", "_" or "-"'), rowSchema)
  .superRefine((rows, context) => {
    for (const [name, row] of Object.entries(rows)) {
      row.replaces.forEach((other, index) => {
        const complain = (message: string) =>
          context.addIssue({ code: 'custom', path: [name, 'replaces', index], message })
        const replaced = rows[other]
        if (replaced === undefined) complain(`no limit "${other}"`)
        else if (other === name) complain('a limit cannot replace itself')
        else if (perText(replaced) !== perText(row)) complain(`"${other}" counts per ${perText(replaced)}`)
      })
    }
  })
  .transform((rows): readonly RateLimit[] | null => {
    const limits = Object.entries(rows).map(([name, row]) => compile(name, row))
    return limits.length === 0 ? null : Object.freeze(limits)
  })

function scopesOf(per: Row['per']): readonly RateScope[] {
  const given = typeof per === 'string' ? [per] : per
  // In one order, so that two spellings of a combination are the same.
  return given.toSorted((a, b) => rateScopes.indexOf(a) - rateScopes.indexOf(b))
}

function perText(row: Row): string {
  return scopesOf(row.per).join(' and ')
}

function compile(name: string, row: Row): RateLimit {
  const counts: RateCount[] = []
  const windowMs = row.window ?? 0
  const add = (unit: RateUnit, max: number | undefined, burst: number) => {
    if (max !== undefined) counts.push(Object.freeze({ unit, max, burst, windowMs, said: say(unit, max, windowMs) }))
  }
  add('requests', row.requests, row.burst)
  add('tool_calls', row.tool_calls, row.burst)
  add('tokens', row.tokens, row.burst_tokens)
  if (row.concurrent !== undefined) {
    const said = `${row.concurrent} calls at the same time`
    counts.push(Object.freeze({ unit: 'concurrent', max: row.concurrent, burst: 0, windowMs: 0, said }))
  }
  const folded = (patterns: readonly string[] | undefined) => patterns?.map((one) => one.toLowerCase()) ?? null
  return Object.freeze({
    name,
    per: scopesOf(row.per),
    counts: Object.freeze(counts),
    kinds: row.kinds ?? null,
    accounts: row.accounts ?? null,
    keys: row.keys ?? null,
    roles: row.roles ?? null,
    labels: row.labels ?? null,
    models: folded(row.models),
    tools: folded(row.tools),
    replaces: row.replaces,
  })
}

function say(unit: RateUnit, max: number, windowMs: number): string {
  const length = windowMs / 1000
  const window = length % 3600 === 0 ? `${length / 3600}h` : length % 60 === 0 ? `${length / 60}m` : `${length}s`
  return `${max} ${unit.replace('_', ' ')} in ${window}`
}
