import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import fc from 'fast-check'
import { noUsage, type Usage } from '../src/call.ts'
import { cataloguedModels, catalogueVersion, costOf, type PriceRow, priceOf, priceSchema } from '../src/price.ts'

function used(counts: Partial<Usage>): Usage {
  return { ...noUsage, source: 'provider', ...counts }
}

function known(provider: string, model: string): PriceRow {
  const row = priceOf(provider, model, null)
  assert.ok(row !== null, `${provider}/${model}`)
  return row
}

test('the version in ledger rows is the version of the installed catalogue', () => {
  const file = new URL('../node_modules/@pydantic/genai-prices/package.json', import.meta.url)
  const { version } = JSON.parse(readFileSync(file, 'utf8')) as { version: string }
  assert.equal(catalogueVersion, `genai-prices@${version}`)
})

test('a catalogue price becomes whole pico-dollars per token', () => {
  // $0.25 in, $0.025 cached, $2 out per million tokens.
  assert.deepEqual(known('openai', 'gpt-5-mini'), {
    input: 250_000,
    output: 2_000_000,
    cacheRead: 25_000,
    cacheWrite: 250_000,
    version: catalogueVersion,
  })
})

test('a call costs what a hand calculation says, to the micro-dollar', () => {
  const mini = known('openai', 'gpt-5-mini')
  // 1000 x 0.25 + 100 x 2 = 450 millionths of a dollar.
  assert.equal(costOf(mini, used({ input: 1000, output: 100 })), 450)
  // 600 fresh x 0.25 + 400 cached x 0.025 + 100 x 2 = 150 + 10 + 200.
  assert.equal(costOf(mini, used({ input: 1000, cacheRead: 400, output: 100 })), 360)
  // 1 x 0.25, rounded up.
  assert.equal(costOf(mini, used({ input: 1 })), 1)
  assert.equal(costOf(mini, used({})), 0)
  // Reasoning is in the output already.
  assert.equal(costOf(mini, used({ output: 100, reasoning: 90 })), 200)
  const haiku = known('anthropic', 'claude-haiku-4-5')
  // 500 fresh x 1 + 300 read x 0.10 + 200 written x 1.25 + 50 x 5 = 500 + 30 + 250 + 250.
  assert.equal(costOf(haiku, used({ input: 1000, cacheRead: 300, cacheWrite: 200, output: 50 })), 1030)
})

test('a call past a tier pays that tier for all of its tokens', () => {
  const pro = known('gemini', 'gemini-2.5-pro')
  // 200,000 x 1.25 + 10 x 10.
  assert.equal(costOf(pro, used({ input: 200_000, output: 10 })), 250_100)
  // 200,001 x 2.50 + 10 x 15 = 500,002.5 + 150, rounded up.
  assert.equal(costOf(pro, used({ input: 200_001, output: 10 })), 500_153)
})

test('our own price wins over the catalogue', () => {
  const override = priceSchema.parse({ input: 0.1, output: 0.3, tiers: [{ above: 1000, input: 0.2, output: 0.6 }] })
  const row = priceOf('openai', 'gpt-5-mini', override)
  assert.ok(row !== null)
  assert.equal(row.version, 'models.yaml')
  // 1000 x 0.1 + 1000 x 0.3.
  assert.equal(costOf(row, used({ input: 1000, output: 1000 })), 400)
  // 1001 x 0.2 + 1000 x 0.6 = 800.2, rounded up.
  assert.equal(costOf(row, used({ input: 1001, output: 1000 })), 801)
  assert.equal(priceOf('openai', 'gpt-5-mini', override), row)
})

test('a model at 0.15 and 0.60 dollars has no rounding of its own', () => {
  const row = priceOf('demo', 'demo', priceSchema.parse({ input: 0.15, output: 0.6 }))
  assert.ok(row !== null)
  assert.deepEqual([row.input, row.output, row.cacheRead, row.cacheWrite], [150_000, 600_000, 150_000, 150_000])
  // 20 x 0.15 + 5 x 0.6 = 6 exactly.
  assert.equal(costOf(row, used({ input: 20, output: 5 })), 6)
})

test('a price that nobody knows is null, not free', () => {
  assert.equal(priceOf('openai', 'no-such-model', null), null)
  assert.equal(priceOf('demo', 'demo', null), null)
  assert.equal(priceOf('vllm', 'gpt-4o', null), null)
})

test('the price of a model is looked up once', () => {
  assert.equal(priceOf('openai', 'gpt-4o', null), priceOf('openai', 'gpt-4o', null))
})

test('a count that is no count is a programming error', () => {
  const row = known('openai', 'gpt-4o')
  for (const input of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY]) {
    assert.throws(() => costOf(row, used({ input })), RangeError)
  }
})

test('cost is exact and rounded up for every price and count', () => {
  const price = fc.integer({ min: 0, max: 1_000_000_000_000 })
  const count = fc.integer({ min: 0, max: 100_000_000 })
  fc.assert(
    fc.property(price, price, price, price, count, count, count, count, (i, o, r, w, fresh, read, write, output) => {
      const row = { input: i, output: o, cacheRead: r, cacheWrite: w, version: 'x' }
      const cost = costOf(row, used({ input: fresh + read + write, cacheRead: read, cacheWrite: write, output }))
      const exact =
        BigInt(fresh) * BigInt(i) + BigInt(read) * BigInt(r) + BigInt(write) * BigInt(w) + BigInt(output) * BigInt(o)
      const up = (exact + 999_999n) / 1_000_000n
      assert.equal(cost, Number(up))
    }),
  )
})

test('the catalogue lists the models of a vendor and none of an unknown one', () => {
  assert.equal(cataloguedModels('openai').get('gpt-4o')?.context, 128_000)
  assert.equal(cataloguedModels('vllm').size, 0)
})
