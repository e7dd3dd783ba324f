/** Accounts, keys and sessions as the admin API shows them, and as a terminal does. @module */
import { InvalidArgumentError } from 'commander'
import { z } from 'zod'
import { units, windows } from '../call.ts'
import { fields, table } from './report.ts'

const amount = z.union([z.string(), z.number()])
const perUnit = z.record(z.string(), amount)
const names = z.array(z.string()).nullable()

/** What is not named here is kept, so that `--json` prints the whole answer. */
export const accountShape = z.looseObject({
  id: z.string(),
  kind: z.string(),
  name: z.string(),
  parent: z.string().nullable(),
  limits: z.array(
    z.looseObject({ unit: z.string(), max: amount, window: z.string(), zone: z.string(), action: z.string() }),
  ),
  models: names,
  tools: names,
  roles: z.array(z.string()),
  labels: z.record(z.string(), z.string()),
  expires_at: z.string().nullable(),
  revoked_at: z.string().nullable(),
  created_at: z.string().nullable(),
})
export type AccountView = z.output<typeof accountShape>

export const createdKeyShape = accountShape.extend({ key: z.string() })

export const erasedShape = accountShape.extend({ erased: z.object({ accounts: z.number(), rows: z.number() }) })

export const standingShape = accountShape.extend({
  standing: z.looseObject({
    spent: perUnit,
    limits: perUnit,
    used: perUnit,
    held: perUnit,
    remaining: perUnit,
    resets_at: z.record(z.string(), z.string().nullable()),
  }),
})
export type StandingView = z.output<typeof standingShape>

/** One line per account. */
export function accountTable(rows: readonly AccountView[], empty: string): string {
  const heads = ['ID', 'KIND', 'NAME', 'UNDER', 'ROLES', 'LIMITS', 'STATE']
  return table(
    heads,
    rows.map((row) => [row.id, row.kind, row.name, row.parent ?? '', row.roles.join(' '), limitsText(row), state(row)]),
    empty,
  )
}

/** One account field by field. `secret` is the key itself, right after it was made. */
export function accountText(row: AccountView, secret?: string): string {
  return fields([
    ['id', row.id],
    ['kind', row.kind],
    ['name', row.name],
    ['under', row.parent],
    ['roles', row.roles.length === 0 ? null : row.roles.join(' ')],
    ['models', listText(row.models)],
    ['tools', listText(row.tools)],
    ['limits', limitsText(row) || 'none of its own'],
    ['labels', pairsText(row.labels)],
    ['state', state(row)],
    ['key', secret === undefined ? null : `${secret}   (shown this once)`],
  ])
}

/** One account with what it used. */
export function standingText(row: StandingView): string {
  const { standing } = row
  const limits = Object.keys(standing.limits).map((unit) => {
    const of = (values: Readonly<Record<string, string | number>>) => String(values[unit] ?? '')
    const { limits, used, held, remaining } = standing
    return [unit, of(limits), of(used), of(held), of(remaining), standing.resets_at[unit] ?? 'never']
  })
  const spent = Object.entries(standing.spent).map(([unit, value]) => `${unit}=${value}`)
  return [
    accountText(row),
    `spent   ${spent.join(', ')}`,
    '',
    table(['UNIT', 'LIMIT', 'USED', 'HELD', 'REMAINING', 'RESETS'], limits, 'no limit on its path'),
  ].join('\n')
}

function state(row: AccountView): string {
  if (row.revoked_at !== null) return `revoked ${row.revoked_at}`
  return row.expires_at === null ? 'live' : `until ${row.expires_at}`
}

function listText(list: readonly string[] | null): string {
  if (list === null) return 'as above it'
  return list.length === 0 ? 'none' : list.join(' ')
}

function limitsText(row: AccountView): string {
  const one = ({ unit, max, window, zone, action }: AccountView['limits'][number]) => {
    const per = window === 'total' ? '' : `/${window}${zone === 'UTC' ? '' : `@${zone}`}`
    return `${unit}=${max}${per}${action === 'warn' ? ',warn' : ''}`
  }
  return row.limits.map(one).join(' ')
}

function pairsText(pairs: Readonly<Record<string, string>>): string | null {
  const all = Object.entries(pairs).map(([name, value]) => `${name}=${value}`)
  return all.length === 0 ? null : all.join(' ')
}

const limitForm =
  /^(?<unit>[a-z_]+)=(?<max>[0-9.]+)(?:\/(?<window>[a-z]+)(?:@(?<zone>[A-Za-z0-9_+/-]+))?)?(?<warn>,warn)?(?:,alert=(?<alert>\d+(?:,\d+)*))?(?<late>,warn)?$/

export const limitHelp =
  'UNIT=MAX[/WINDOW[@ZONE]][,warn][,alert=N,N], as in usd=5/day@Europe/Berlin,alert=80,95; may be repeated'

/** A limit on the command line, as `limitHelp` has it, added to those before. */
export function limitOption(text: string, before: readonly unknown[]): readonly unknown[] {
  const { unit = '', max = '', window = 'total', zone, warn, late, alert } = limitForm.exec(text)?.groups ?? {}
  if (!units.some((known) => known === unit) || !windows.some((known) => known === window)) {
    const how = `as in usd=5/day@Europe/Berlin: ${units.join(', ')}; per ${windows.join(', ')}`
    throw new InvalidArgumentError(`A limit is UNIT=MAX[/WINDOW[@ZONE]][,warn][,alert=N,N], ${how}.`)
  }
  const limit = {
    unit,
    max: unit === 'usd' ? max : Number(max),
    window,
    ...(zone === undefined ? {} : { zone }),
    ...(warn === undefined && late === undefined ? {} : { action: 'warn' }),
    ...(alert === undefined ? {} : { alert_at: alert.split(',').map(Number) }),
  }
  return [...before, limit]
}

/** `team=red`: a label on the command line. */
export function labelOption(text: string, before: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  const at = text.indexOf('=')
  if (at < 1) throw new InvalidArgumentError('A label is NAME=VALUE.')
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) }
}

/** An option that may be given more than once. */
export function several(text: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), text]
}
