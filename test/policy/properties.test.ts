import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Account, Tool } from '../../src/call.ts'
import { decide } from '../../src/policy/decide.ts'
import { type CompiledPolicies, compilePolicies, type PolicyRow, policySchema } from '../../src/policy/policies.ts'

const names = ['a__read', 'a__write', 'a__delete', 'b__read', 'b__send']
const globs = fc.constantFrom('*', 'a__*', '*__read', 'b__send', '*delete*', 'a__*e', 'c__*')
const conditions = fc.constantFrom(
  undefined,
  'args.n > 1',
  'args.n % 2 == 0',
  'args.missing == 1',
  'caller.kind == "key"',
)
const rule = fc.record({ tools: fc.array(globs, { minLength: 1, maxLength: 2 }), when: conditions })
const file = fc.record({
  role: fc.constantFrom('r', 's', '*'),
  allow: fc.array(rule, { maxLength: 3 }),
  deny: fc.array(rule, { maxLength: 2 }),
  mode: fc.constantFrom('enforce', 'log'),
})
const files = fc.array(file, { maxLength: 4 })
const list = fc.option(fc.array(globs, { maxLength: 3 }), { nil: null })
const node = fc.record({ tools: list, roles: fc.subarray(['r', 's']) })
const chain = fc.array(node, { minLength: 1, maxLength: 4 })
const argument = fc.record({ n: fc.constantFrom(0, 1, 2, 3, 'x') })
const name = fc.constantFrom(...names)

function compiled(rows: readonly unknown[]): CompiledPolicies {
  return compilePolicies(
    rows.map((row, index) => ({ file: `${index}.yaml`, row: policySchema.parse(row) as PolicyRow, line: () => 1 })),
  )
}

function accountOf(nodes: readonly { tools: string[] | null; roles: string[] }[]): Account {
  return nodes.reduce<Account | null>(
    (parent, { tools, roles }, index) => ({
      id: `n${index}`,
      parent,
      kind: 'key',
      name: '',
      limits: [],
      models: null,
      tools,
      roles,
      labels: {},
      expiresAt: null,
      revokedAt: null,
      createdAt: 0,
      version: 1,
    }),
    null,
  ) as Account
}

function toolOf(outward: string): Tool {
  const [server = '', own = ''] = outward.split('__')
  return { server, name: own, outward, definition: {} }
}

test('a tool that can be called with some arguments is always listed', () => {
  fc.assert(
    fc.property(files, chain, name, argument, (rows, nodes, outward, args) => {
      const policies = compiled(rows)
      const account = accountOf(nodes)
      const tool = toolOf(outward)
      if (decide(policies, { account, tool, args }).allowed) {
        assert.ok(decide(policies, { account, tool, args: null }).allowed)
      }
    }),
    { numRuns: 500 },
  )
})

test('the order of files and rules changes no decision', () => {
  fc.assert(
    fc.property(files, chain, name, fc.option(argument, { nil: null }), (rows, nodes, outward, args) => {
      const turned = [...rows]
        .reverse()
        .map((row) => ({ ...row, allow: [...row.allow].reverse(), deny: [...row.deny].reverse() }))
      const question = { account: accountOf(nodes), tool: toolOf(outward), args }
      assert.equal(decide(compiled(rows), question).allowed, decide(compiled(turned), question).allowed)
    }),
    { numRuns: 500 },
  )
})

test('a deny rule for everybody forbids the tool to everybody, wherever it stands', () => {
  fc.assert(
    fc.property(files, chain, name, argument, fc.nat(4), (rows, nodes, outward, args, at) => {
      const ban = { role: '*', deny: [{ tools: [outward] }] }
      const policies = compiled([...rows.slice(0, at), ban, ...rows.slice(at)])
      assert.equal(decide(policies, { account: accountOf(nodes), tool: toolOf(outward), args }).allowed, false)
    }),
    { numRuns: 300 },
  )
})

test('a child with a tools list of its own never gets more than its parent', () => {
  fc.assert(
    fc.property(files, chain, list, name, fc.option(argument, { nil: null }), (rows, nodes, tools, outward, args) => {
      // A root without role or list has nothing; giving it a role first keeps the comparison about lists.
      const [root = { tools: null, roles: [] }, ...rest] = nodes
      const parents = [{ ...root, roles: root.roles.length === 0 && root.tools === null ? ['r'] : root.roles }, ...rest]
      const policies = compiled(rows)
      const tool = toolOf(outward)
      const child = accountOf([...parents, { tools, roles: [] }])
      if (decide(policies, { account: child, tool, args }).allowed) {
        assert.ok(decide(policies, { account: accountOf(parents), tool, args }).allowed)
      }
    }),
    { numRuns: 500 },
  )
})
