import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Tool } from '../../src/call.ts'
import { unknownFields } from '../../src/policy/fields.ts'
import { compilePolicies, policySchema } from '../../src/policy/policies.ts'

function tool(outward: string, inputSchema: unknown): Tool {
  return { server: 'a', name: 'x', outward, definition: { inputSchema } }
}

test('an argument in a condition that the tool does not declare is found', () => {
  const row = policySchema.parse({
    role: 'r',
    allow: [{ tools: ['a__*'], when: 'args.amunt <= 5 && args.currency == "EUR" && caller.kind == "key"' }],
  })
  const policies = compilePolicies([{ file: 'r.yaml', row, line: () => 3 }])
  const properties = { amount: { type: 'number' }, currency: { type: 'string' } }
  const found = unknownFields(policies, [
    tool('a__pay', { type: 'object', properties }),
    tool('a__open', { type: 'object', $ref: '#/$defs/x' }),
    tool('b__pay', { type: 'object', properties }),
  ])
  assert.deepEqual(
    found.map(({ rule, tool: { outward }, field }) => [rule.id, outward, field]),
    [['r.yaml#allow[0]', 'a__pay', 'amunt']],
  )
})
