/** What people send about accounts, keys and sessions. @module */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { Fault } from '../../src/fault.ts'
import { asLimits, changeSchema, keySchema, mintSchema, read, topUpSchema, usd } from '../../src/identity/requests.ts'

describe('dollars', () => {
  it('are read to the micro-dollar, as text or as a number', () => {
    for (const [given, micros] of [
      ...[
        ['0', 0],
        ['1', 1_000_000],
        ['0.25', 250_000],
        ['0.000001', 1],
        ['999999999.999999', 999_999_999_999_999],
      ],
      ...[
        ['0010.10', 10_100_000],
        [0.1, 100_000],
        [0.3, 300_000],
        [1.005, 1_005_000],
        [4.35, 4_350_000],
        [7, 7_000_000],
      ],
    ] as const)
      assert.equal(usd.parse(given), micros, String(given))
  })

  it('survive the way there and back for every amount', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 999_999_999_999_999 }), (micros) => {
        const digits = String(micros).padStart(7, '0')
        assert.equal(usd.parse(`${digits.slice(0, -6)}.${digits.slice(-6)}`), micros)
      }),
    )
  })

  it('are refused in every other spelling', () => {
    for (const given of [
      '',
      '.5',
      '5.',
      '-1',
      '+1',
      '1e3',
      '0x10',
      ' 1',
      '1 ',
      '1,5',
      '1.0000001',
      '1000000000',
      'NaN',
      'Infinity',
    ])
      assert.equal(usd.safeParse(given).success, false, given)
    for (const given of [-0.5, 1e-7, 1e21, Number.NaN, Number.POSITIVE_INFINITY, null, true, [1], {}])
      assert.equal(usd.safeParse(given).success, false, String(given))
  })
})

describe('a request about accounts', () => {
  const where = (result: unknown) =>
    result instanceof Fault && result.body.code === 'invalid_request' ? result.body.where : null

  it('names the first field that is wrong', () => {
    assert.equal(where(read(mintSchema, { limits: { tokens: -1 } })), 'limits.tokens')
    assert.equal(where(read(mintSchema, { models: ['x', ''] })), 'models.1')
    assert.equal(where(read(mintSchema, { surprise: 1 })), 'body')
    assert.equal(where(read(mintSchema, 7)), 'body')
    assert.equal(where(read(keySchema, {})), 'account')
    assert.equal(where(read(keySchema, { account: 'a', limits: [{ unit: 'usd', max: 'x' }] })), 'limits.0.max')
    assert.equal(where(read(topUpSchema, {})), 'add')
  })

  it('leaves out what was left out', () => {
    assert.deepEqual(read(changeSchema, {}), {})
    assert.deepEqual(read(mintSchema, {}), {})
    const key = read(keySchema, { account: 'a' })
    assert.ok(!(key instanceof Fault))
    assert.deepEqual([key.models, key.tools, key.limits, key.roles, key.expires_at], [null, null, undefined, [], null])
  })

  it('gives limits in a fixed order, zero included', () => {
    const limits = asLimits({ tool_calls: 0, usd: 5 })
    assert.deepEqual(
      limits.map(({ unit, max, window, action }) => [unit, max, window, action]),
      [
        ['usd', 5, 'total', 'stop'],
        ['tool_calls', 0, 'total', 'stop'],
      ],
    )
  })

  it('is bounded in every direction', () => {
    const many = (count: number) => Array.from({ length: count }, (_, i) => `m${i}`)
    assert.ok(read(mintSchema, { models: many(1001) }) instanceof Fault)
    assert.ok(read(mintSchema, { models: ['x'.repeat(201)] }) instanceof Fault)
    assert.ok(read(mintSchema, { labels: Object.fromEntries(many(33).map((name) => [name, ''])) }) instanceof Fault)
    assert.ok(read(mintSchema, { labels: { a: 'x'.repeat(257) } }) instanceof Fault)
    assert.ok(read(mintSchema, { ttl: 366 * 24 * 3600 + 1 }) instanceof Fault)
    assert.ok(read(mintSchema, { limits: { tokens: 2 ** 53 } }) instanceof Fault)
  })
})
