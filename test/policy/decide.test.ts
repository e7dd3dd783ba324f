import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Account, Tool } from '../../src/call.ts'
import { type Decision, decide } from '../../src/policy/decide.ts'
import { type CompiledPolicies, compilePolicies, policySchema } from '../../src/policy/policies.ts'

function policies(files: Readonly<Record<string, unknown>>): CompiledPolicies {
  return compilePolicies(
    Object.entries(files).map(([file, row]) => ({
      file,
      row: policySchema.parse(row),
      line: (list, index) => (list === 'allow' ? 10 : 20) + index,
    })),
  )
}

let accounts = 0
function account(over: Partial<Account> = {}): Account {
  return {
    id: over.id ?? `acct_${++accounts}`,
    parent: null,
    kind: 'key',
    name: 'test',
    limits: [],
    models: null,
    tools: null,
    roles: [],
    labels: {},
    expiresAt: null,
    revokedAt: null,
    createdAt: 0,
    version: 1,
    ...over,
  }
}

function tool(outward: string, definition: Record<string, unknown> = {}): Tool {
  const [server = '', name = ''] = outward.split('__')
  return { server, name, outward, definition }
}

const finance = policies({
  'finance.yaml': {
    role: 'finance-agent',
    allow: [
      { tools: ['ledger__*'] },
      { tools: ['accounting__transfer'], when: 'args.amount <= 1000 && args.currency in ["EUR", "USD"]' },
    ],
    deny: [
      { tools: ['*__delete_*'], reason: 'destructive operations need a person' },
      { tools: ['ledger__post'], when: 'args.amount > 500' },
    ],
  },
})

function asked(
  name: string,
  args: Record<string, unknown> | null,
  over: Partial<Account> = { roles: ['finance-agent'] },
): Decision {
  return decide(finance, { account: account(over), tool: tool(name), args })
}

test('a role may call what a rule allows, and the rule is named with its file and line', () => {
  const decision = asked('ledger__read', {})
  assert.deepEqual(decision, {
    allowed: true,
    rule: 'finance.yaml#allow[0]',
    reason: null,
    file: 'finance.yaml',
    line: 10,
    mode: 'enforce',
    wouldDeny: null,
  })
})

test('what no rule allows is refused', () => {
  const decision = asked('mail__send', {})
  assert.equal(decision.allowed, false)
  assert.equal(decision.rule, 'default-deny')
  assert.equal(decision.file, null)
})

test('a deny rule wins over an allow rule and gives its reason', () => {
  const decision = asked('ledger__delete_row', {})
  assert.equal(decision.allowed, false)
  assert.equal(decision.rule, 'finance.yaml#deny[0]')
  assert.equal(decision.reason, 'destructive operations need a person')
  assert.equal(decision.line, 20)
})

test('a condition on the arguments decides a call', () => {
  assert.equal(asked('accounting__transfer', { amount: 1000, currency: 'EUR' }).allowed, true)
  for (const args of [
    { amount: 1001, currency: 'EUR' },
    { amount: 5, currency: 'GBP' },
    { amount: '5', currency: 'EUR' },
    {},
  ]) {
    const decision = asked('accounting__transfer', args)
    assert.equal(decision.allowed, false, JSON.stringify(args))
    assert.equal(decision.rule, 'finance.yaml#allow[1]')
  }
})

test('a deny condition that cannot be evaluated denies', () => {
  assert.equal(asked('ledger__post', { amount: 500 }).allowed, true)
  for (const args of [{ amount: 501 }, {}, { amount: '1' }, { amount: null }]) {
    const decision = asked('ledger__post', args)
    assert.equal(decision.allowed, false, JSON.stringify(args))
    assert.equal(decision.rule, 'finance.yaml#deny[1]')
  }
})

test('a tool is listed when some arguments could be allowed', () => {
  assert.equal(asked('accounting__transfer', null).allowed, true)
  assert.equal(asked('ledger__post', null).allowed, true)
  assert.equal(asked('ledger__delete_row', null).allowed, false)
  assert.equal(asked('mail__send', null).allowed, false)
})

test('a condition that does not look at the arguments already decides the list', () => {
  const only = policies({
    'red.yaml': { role: 'r', allow: [{ tools: ['a__*'], when: 'caller.labels.team == "red"' }] },
  })
  const ask = (team: string) =>
    decide(only, { account: account({ roles: ['r'], labels: { team } }), tool: tool('a__b'), args: null }).allowed
  assert.equal(ask('red'), true)
  assert.equal(ask('blue'), false)
})

test('a key without a role and without a tools list has no tools', () => {
  const open = policies({ 'all.yaml': { role: '*', allow: [{ tools: ['*'] }] } })
  const decision = decide(open, { account: account(), tool: tool('a__b'), args: {} })
  assert.equal(decision.allowed, false)
  assert.equal(decision.rule, 'default-deny')
})

test('a role that no file speaks of allows nothing', () => {
  assert.equal(asked('ledger__read', {}, { roles: ['stranger'] }).allowed, false)
})

test('a tools list alone decides where there is no role, and rules for everybody still deny', () => {
  const guarded = policies({ 'all.yaml': { role: '*', deny: [{ tools: ['*__delete_*'] }] } })
  const leaf = account({ id: 'key_1', tools: ['ledger__*'] })
  const ask = (name: string) => decide(guarded, { account: leaf, tool: tool(name), args: {} })
  assert.equal(ask('ledger__read').rule, 'tools-list:key_1')
  assert.equal(ask('ledger__read').allowed, true)
  assert.equal(ask('ledger__delete_row').rule, 'all.yaml#deny[0]')
  assert.equal(ask('mail__send').rule, 'tools-list:key_1')
  assert.equal(ask('mail__send').allowed, false)
})

test('every tools list from the leaf to the root has to agree with the role', () => {
  const root = account({ id: 'org', kind: 'organization', tools: ['ledger__*'] })
  const key = account({ id: 'key', parent: root, roles: ['finance-agent'] })
  const session = account({ id: 'ses', kind: 'session', parent: key, tools: ['*__read'] })
  const ask = (name: string) => decide(finance, { account: session, tool: tool(name), args: {} })
  assert.equal(ask('ledger__read').allowed, true)
  assert.equal(ask('ledger__write').rule, 'tools-list:ses')
  assert.equal(ask('accounting__read').rule, 'tools-list:org')
})

test('an empty tools list is nothing, whatever the role allows', () => {
  const decision = asked('ledger__read', {}, { id: 'key_9', roles: ['finance-agent'], tools: [] })
  assert.equal(decision.allowed, false)
  assert.equal(decision.rule, 'tools-list:key_9')
})

test('the roles of the nearest account that has any count', () => {
  const team = account({ roles: ['finance-agent'] })
  const key = account({ parent: team })
  const other = account({ parent: team, roles: ['stranger'] })
  assert.equal(decide(finance, { account: key, tool: tool('ledger__read'), args: {} }).allowed, true)
  assert.equal(decide(finance, { account: other, tool: tool('ledger__read'), args: {} }).allowed, false)
})

test('two roles add up, and either may deny', () => {
  const both = policies({
    'a.yaml': { role: 'a', allow: [{ tools: ['x__*'] }] },
    'b.yaml': { role: 'b', allow: [{ tools: ['y__*'] }], deny: [{ tools: ['x__drop'] }] },
  })
  const ask = (name: string) =>
    decide(both, { account: account({ roles: ['a', 'b'] }), tool: tool(name), args: {} }).allowed
  assert.deepEqual([ask('x__get'), ask('y__get'), ask('x__drop'), ask('z__get')], [true, true, false, false])
})

test('a role whose name holds a line break is not two roles', () => {
  const both = policies({ 'a.yaml': { role: 'a', allow: [{ tools: ['x__*'] }] } })
  const ask = (roles: string[]) => decide(both, { account: account({ roles }), tool: tool('x__y'), args: {} }).allowed
  assert.equal(ask(['a', 'b']), true)
  assert.equal(ask(['a\nb']), false)
  assert.equal(ask(['["a","b"]']), false)
})

test('a file on trial neither forbids nor grants, and says what it would have denied', () => {
  const trial = policies({
    'live.yaml': { role: 'r', allow: [{ tools: ['a__*'] }] },
    'trial.yaml': {
      role: 'r',
      allow: [{ tools: ['*'] }],
      deny: [{ tools: ['a__risky'], reason: 'soon' }],
      mode: 'log',
    },
  })
  const ask = (name: string) => decide(trial, { account: account({ roles: ['r'] }), tool: tool(name), args: {} })
  assert.equal(ask('a__risky').allowed, true)
  assert.equal(ask('a__risky').mode, 'log')
  assert.equal(ask('a__risky').wouldDeny?.id, 'trial.yaml#deny[0]')
  assert.equal(ask('a__safe').mode, 'enforce')
  assert.equal(ask('a__safe').wouldDeny, null)
  assert.equal(ask('b__x').allowed, false)
})

test('conditions see the caller, the session and the tool, and a session cannot pass its labels off as the caller’s', () => {
  const seen = policies({
    'r.yaml': {
      role: 'r',
      allow: [
        {
          tools: ['*'],
          when: 'caller.id == "key_a" && caller.kind == "key" && "r" in caller.roles && caller.labels.team == "red" && caller.labels.cost == "7" && session.id == "ses_a" && session.labels.team == "blue" && tool.server == "a" && tool.name == "b" && tool.annotations.readOnlyHint',
        },
      ],
    },
  })
  const team = account({ kind: 'team', labels: { cost: '7', team: 'none' } })
  const key = account({ id: 'key_a', parent: team, roles: ['r'], labels: { team: 'red' } })
  const session = account({ id: 'ses_a', kind: 'session', parent: key, labels: { team: 'blue' } })
  const named = tool('a__b', { annotations: { readOnlyHint: true } })
  assert.equal(decide(seen, { account: session, tool: named, args: {} }).allowed, true)
  assert.equal(decide(seen, { account: key, tool: named, args: {} }).allowed, false)
})

test('a changed tools list counts at the next call', () => {
  const key = account({ roles: ['finance-agent'] })
  const ask = () => decide(finance, { account: key, tool: tool('ledger__read'), args: {} }).allowed
  assert.equal(ask(), true)
  key.tools = ['mail__*']
  assert.equal(ask(), false)
  key.tools = null
  key.roles = ['stranger']
  assert.equal(ask(), false)
})
