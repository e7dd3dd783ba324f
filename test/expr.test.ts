import assert from 'node:assert/strict'
import { test } from 'node:test'
import { compileExpr, type Expr, evaluate } from '../src/expr.ts'

const variables = ['args', 'caller', 'session', 'tool']

function compiled(source: string): Expr {
  const result = compileExpr(source, { variables })
  assert.ok(!('message' in result), 'message' in result ? `${source}: ${result.message}` : '')
  return result
}

const args = {
  amount: 250,
  n: 4,
  odd: 3,
  half: 2.5,
  zero: 0,
  index: 1,
  text: 'abc',
  digits: '12',
  flag: true,
  none: null,
  list: [1, 2, 3, 4],
  nested: { deep: { value: 7 } },
}

function yields(source: string): unknown {
  return evaluate(compiled(source), {
    args,
    caller: { id: 'a', labels: { team: 'red' } },
    session: { id: null },
    tool: {},
  })
}

test('numbers in arguments calculate with integer literals as people expect', () => {
  for (const source of [
    'args.amount + 1 <= 1000',
    '1 + args.amount == 251',
    'args.amount - 1 == 249',
    '2 * args.amount == 500',
    'args.amount * 1.5 == 375.0',
    'args.n % 2 == 0',
    'args.odd % 2 == 1',
    '7 % args.n == 3',
    'args.odd / 2 == 1.5',
    'args.odd / 2 > 1',
    '-args.n == -4',
    'args.amount == 250',
    'args.amount < 250.5',
    'args.n in [4, 5]',
    'args.list[args.index] == 2',
    'args.index in args.list',
    'args.list == [1, 2, 3, 4]',
    'size(args.list) > 3',
    'size(args.list) + args.n == 8',
    'args.list.all(x, x + 1 > 1)',
    'args.list.exists(x, x * 2 == 8)',
    'args.list.map(x, x * 2) == [2, 4, 6, 8]',
    'args.list.filter(x, x % 2 == 0).size() == 2',
    'int(args.half) == 2',
    'string(args.n) == "4"',
    'args.text.substring(int(args.index)) == "bc"',
    'double(args.digits) > 11',
    '7 / 2 == 3',
  ]) {
    assert.equal(yields(source), true, source)
  }
})

test('texts, maps and labels can be asked', () => {
  for (const source of [
    'args.text.startsWith("a") && args.text.endsWith("c") && args.text.contains("b")',
    'args.text.matches("^[a-c]+$")',
    'args.text.upperAscii() == "ABC"',
    'args["text"] == "abc"',
    'has(args.text) && !has(args.missing)',
    'args.none == null',
    '"text" in args',
    'caller.labels.team == "red"',
    'session.id == null',
    'args.nested.deep.value == 7',
    'type(args.n) == double',
    '{"EUR": 1000, "USD": 1100}["EUR"] > args.amount',
    'args.flag ? args.amount < 300 : false',
  ]) {
    assert.equal(yields(source), true, source)
  }
})

test('what an object inherits is not an argument', () => {
  for (const name of ['constructor', 'toString', '__proto__', 'hasOwnProperty']) {
    assert.equal(yields(`has(args.${name})`), false, name)
    assert.equal(yields(`"${name}" in args`), false, name)
    assert.equal(typeof yields(`args.${name} != null`), 'object', name)
  }
})

test('what cannot be decided is an error and never a plain false', () => {
  for (const source of [
    'args.missing == 1',
    'args.text > 1',
    'args.text + 1 == "abc1"',
    'args.amount / 0 > 1',
    'args.amount / args.zero > 1',
    'args.zero / args.zero > 1',
    'args.half % 2 == 0',
    'args.n % args.zero == 0',
    'double("NaN") > 1',
    'double("Infinity") > 1',
    'args.amount * 1e308 > 1',
    'args.text',
    'args.amount',
    'args.text.matches(args.text + "(")',
  ]) {
    const value = yields(source)
    assert.ok(typeof value === 'object' && value !== null && 'error' in value, `${source} gave ${String(value)}`)
  }
})

test('an error beside a decisive operand does not matter', () => {
  assert.equal(yields('args.missing == 1 || args.n == 4'), true)
  assert.equal(yields('args.missing == 1 && args.n == 5'), false)
})

test('a condition that does not compile says where', () => {
  const faults: readonly (readonly [string, number, RegExp])[] = [
    ['arg.amount <= 1000', 1, /unknown variable "arg"/],
    ['args.n > 1 && amount > 3', 15, /unknown variable "amount"/],
    ['args.text.startWith("a")', 20, /unknown function "startWith"/],
    ['args.n >', 8, /syntax error/],
    ['args.text.matches("(")', 19, /invalid regular expression/],
    ['args.list.all(x, y > 1)', 18, /unknown variable "y"/],
    ['google.protobuf.Timestamp{seconds: 1} == args.n', 1, /unknown type/],
    ['', 1, /syntax error/],
    [`args.text == "${'x'.repeat(5000)}"`, 1, /longer than/],
  ]
  for (const [source, column, message] of faults) {
    const result = compileExpr(source, { variables })
    assert.ok('message' in result, source)
    assert.match(result.message, message)
    assert.equal(result.line, 1)
    // Calls are placed at their parenthesis or name by the parser; what matters is that the place is in the text.
    if (!/unknown function|syntax/.test(result.message)) assert.equal(result.column, column, source)
  }
  const second = compileExpr('args.n > 1\n  && amount > 3', { variables })
  assert.ok('message' in second)
  assert.deepEqual([second.line, second.column], [2, 6])
})

test('a condition knows what it reads', () => {
  const expr = compiled('args.amount > 1 && args.list.all(caller, caller > 0) && session.id != null')
  assert.deepEqual([...expr.reads].sort(), ['args', 'session'])
  assert.deepEqual([...(expr.fields.get('args') ?? [])], ['amount', 'list'])
})

test('a regular expression that makes others backtrack for ages answers', () => {
  const expr = compiled('args.text.matches("^(a+)+$")')
  assert.equal(evaluate(expr, { args: { text: `${'a'.repeat(50_000)}!` } }), false)
})

test('arguments too large for nested loops are an error instead of a stalled gateway', () => {
  const once = compiled('args.list.all(x, x >= 0)')
  const twice = compiled('args.list.all(x, args.list.all(y, y >= 0))')
  const split = compiled('args.text.split(",").all(x, args.text.split(",").all(y, x != y))')
  const list = Array.from({ length: 1000 }, (_, i) => i)
  assert.equal(evaluate(once, { args: { list } }), true)
  assert.deepEqual(evaluate(twice, { args: { list } }), { error: 'the arguments are too large to be checked' })
  assert.deepEqual(evaluate(split, { args: { text: ','.repeat(1000) } }), {
    error: 'the arguments are too large to be checked',
  })
})
