/** `policies/tests/*.yaml`: what the policies are expected to say, checked without a running gateway. @module */
import { z } from 'zod'
import type { Account, Tool } from '../call.ts'
import { type Decision, decide } from './decide.ts'
import type { CompiledPolicies } from './policies.ts'

export const policyTestSchema = z.strictObject({
  role: z.string().min(1),
  /** The outward name, `<server>__<tool>`. */
  tool: z.string().regex(/^.+__.+$/, 'must be <server>__<tool>'),
  args: z.record(z.string(), z.unknown()).default({}),
  /** Labels of the caller, for conditions that ask for them. */
  labels: z.record(z.string(), z.string()).default({}),
  expect: z.enum(['allow', 'deny']),
})
export const policyTestsSchema = z.array(policyTestSchema)
export type PolicyTestRow = z.output<typeof policyTestSchema>

export interface PolicyTest {
  readonly row: PolicyTestRow
  readonly file: string
  readonly line: number
}

export interface PolicyTestResult {
  readonly test: PolicyTest
  readonly passed: boolean
  readonly decision: Decision
}

/**
 * Runs every test against the policies.
 *
 * @param tools known tools by outward name, for conditions on `tool.annotations`; others are taken as named
 */
export function runPolicyTests(
  policies: CompiledPolicies,
  tests: readonly PolicyTest[],
  tools: ReadonlyMap<string, Tool>,
): readonly PolicyTestResult[] {
  return tests.map((test) => {
    const { role, tool, args, labels, expect } = test.row
    const account = callerWith(role, labels)
    const decision = decide(policies, { account, tool: tools.get(tool) ?? named(tool), args })
    return { test, passed: decision.allowed === (expect === 'allow'), decision }
  })
}

function callerWith(role: string, labels: Readonly<Record<string, string>>): Account {
  return {
    id: 'policy-test',
    parent: null,
    kind: 'key',
    name: 'policy test',
    limits: [],
    models: null,
    tools: null,
    roles: [role],
    labels,
    expiresAt: null,
    revokedAt: null,
    createdAt: 0,
    version: 0,
  }
}

function named(outward: string): Tool {
  const at = outward.indexOf('__')
  return { server: outward.slice(0, at), name: outward.slice(at + 2), outward, definition: {} }
}
