/** zod slice and compiled form of `policies/tools/*.yaml`: who may call which tool, with which arguments. @module */
import { z } from 'zod'
import { compileExpr, type Expr } from '../expr.ts'

/** What a condition may ask about. */
export const conditionVariables = ['args', 'caller', 'session', 'tool'] as const

const condition = z.string().superRefine((source, context) => {
  const result = compileExpr(source, { variables: conditionVariables })
  if ('message' in result) {
    const place = result.line > 1 ? `line ${result.line}, column ${result.column}` : `column ${result.column}`
    context.addIssue({ code: 'custom', message: `${result.message} (${place} of the condition)` })
  }
})

const toolGlobs = z
  .array(z.string().min(1, 'an empty pattern matches nothing'))
  .min(1)
  .describe('globs over whole tool names, <server>__<tool>')

export const policySchema = z.strictObject({
  role: z
    .string()
    .regex(/^(\*|[A-Za-z0-9][A-Za-z0-9._-]*)$/, 'must be a role name, or "*" for every caller')
    .describe('the role this file speaks of; "*" is every caller'),
  allow: z.array(z.strictObject({ tools: toolGlobs, when: condition.optional() })).default([]),
  deny: z
    .array(z.strictObject({ tools: toolGlobs, when: condition.optional(), reason: z.string().optional() }))
    .default([]),
  mode: z.enum(['enforce', 'log']).default('enforce'),
})
export type PolicyRow = z.output<typeof policySchema>

/** One `allow` or `deny` entry, compiled. */
export interface Rule {
  /** `finance.yaml#deny[1]`. */
  readonly id: string
  readonly file: string
  /** Line of the entry, from 1. */
  readonly line: number
  readonly tools: readonly string[]
  readonly when: Expr | null
  readonly reason: string | null
}

/** One file, compiled. */
export interface Policy {
  readonly file: string
  readonly role: string
  readonly mode: 'enforce' | 'log'
  readonly allow: readonly Rule[]
  readonly deny: readonly Rule[]
}

export interface CompiledPolicies {
  /** By role, `*` included. */
  readonly byRole: ReadonlyMap<string, readonly Policy[]>
}

/** A file that passed its schema. */
export interface PolicyFile {
  /** Name within `policies/tools/`, shown in rule ids. */
  readonly file: string
  readonly row: PolicyRow
  /** Line of an entry; `('deny', 1)` is the second one. */
  readonly line: (list: 'allow' | 'deny', index: number) => number
}

/**
 * Compiles every file once; requests only read the result.
 *
 * @throws {Error} a condition does not compile (the schema has refused those)
 */
export function compilePolicies(files: readonly PolicyFile[]): CompiledPolicies {
  const byRole = new Map<string, Policy[]>()
  for (const { file, row, line } of files) {
    const rules = (list: 'allow' | 'deny'): readonly Rule[] =>
      (row[list] as PolicyRow['deny']).map((entry, index) =>
        Object.freeze({
          id: `${file}#${list}[${index}]`,
          file,
          line: line(list, index),
          tools: Object.freeze([...entry.tools]),
          when: entry.when === undefined ? null : compiled(entry.when),
          reason: entry.reason ?? null,
        }),
      )
    const policy = Object.freeze({ file, role: row.role, mode: row.mode, allow: rules('allow'), deny: rules('deny') })
    byRole.set(row.role, [...(byRole.get(row.role) ?? []), policy])
  }
  return Object.freeze({ byRole })
}

function compiled(source: string): Expr {
  const result = compileExpr(source, { variables: conditionVariables })
  if ('message' in result) throw new Error(`unchecked condition: ${result.message}`)
  return result
}
