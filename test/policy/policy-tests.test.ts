import assert from 'node:assert/strict'
import { test } from 'node:test'
import { compilePolicies, policySchema } from '../../src/policy/policies.ts'
import { policyTestsSchema, runPolicyTests } from '../../src/policy/policy-tests.ts'

const row = policySchema.parse({
  role: 'finance-agent',
  allow: [{ tools: ['accounting__*'], when: 'args.amount <= 1000 && caller.labels.team == "red"' }],
})
const policies = compilePolicies([{ file: 'finance.yaml', row, line: () => 3 }])

test('a policy test passes when the decision is the expected one and fails when it is not', () => {
  const rows = policyTestsSchema.parse([
    {
      role: 'finance-agent',
      tool: 'accounting__transfer',
      args: { amount: 5000 },
      labels: { team: 'red' },
      expect: 'deny',
    },
    {
      role: 'finance-agent',
      tool: 'accounting__transfer',
      args: { amount: 50 },
      labels: { team: 'red' },
      expect: 'allow',
    },
    { role: 'finance-agent', tool: 'accounting__transfer', args: { amount: 50 }, expect: 'allow' },
  ])
  const tests = rows.map((each, index) => ({ row: each, file: 'policies/tests/a.yaml', line: index + 1 }))
  const results = runPolicyTests(policies, tests, new Map())
  assert.deepEqual(
    results.map(({ passed }) => passed),
    [true, true, false],
  )
  assert.equal(results[2]?.decision.rule, 'finance.yaml#allow[0]')
})
