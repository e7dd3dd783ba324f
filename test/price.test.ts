import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import fc from 'fast-check'
import { noUsage, type Usage } from '../src/call.ts'
import {
  cataloguedModels,
  catalogueVersion,
  costOf,
  describePrice,
  freePrice,
  mostOf,
  type PriceRow,
  priceOf,
  priceSchema,
  type Rates,
  recompute,
} from '../src/price.ts'

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
  const { version, ...rates } = known('openai', 'gpt-5-mini')
  assert.deepEqual(rates, {
    input: 250_000,
    output: 2_000_000,
    cacheRead: 25_000,
    cacheWrite: 250_000,
    cacheWriteLong: 250_000,
    reasoning: 2_000_000,
    audioInput: 250_000,
    audioOutput: 2_000_000,
  })
  assert.match(version, new RegExp(`^${catalogueVersion}#[0-9a-f]{8}$`))
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
  assert.match(row.version, /^models\.yaml#[0-9a-f]{8}$/)
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

test('each kind of token has its own price', () => {
  const row = priceOf(
    'x',
    'x',
    priceSchema.parse({
      ...{ input: 1, output: 10, cache_read: 0.1, cache_write: 1.25, cache_write_long: 2 },
      ...{ reasoning: 3, audio_input: 32, audio_output: 64 },
      tiers: [{ above: 1000, input: 2, output: 20, reasoning: 6, audio_input: 50 }],
    }),
  )
  assert.ok(row !== null)
  // 400 fresh x 1 + 100 read x 0.1 + 150 written x 1.25 + 50 written for long x 2 + 300 heard x 32.
  const input = { input: 1000, cacheRead: 100, cacheWrite: 200, cacheWriteLong: 50, audioInput: 300 }
  assert.equal(costOf(row, used(input)), 400 + 10 + 187.5 + 100 + 9600 + 0.5)
  // 100 said x 10 + 250 thought x 3 + 50 spoken x 64.
  assert.equal(costOf(row, used({ output: 400, reasoning: 250, audioOutput: 50 })), 1000 + 750 + 3200)
  // The tier: 501 fresh x 2 + 500 heard x 50 + 30 thought x 6 + 10 spoken at its price of output.
  assert.equal(
    costOf(row, used({ input: 1001, audioInput: 500, output: 40, reasoning: 30, audioOutput: 10 })),
    1002 + 25_000 + 180 + 200,
  )
})

test('the catalogue knows long cache writes, speech and reasoning where they are priced apart', () => {
  const sonar = known('perplexity', 'sonar-deep-research')
  assert.deepEqual([sonar.output, sonar.reasoning], [8_000_000, 3_000_000])
  const haiku = known('anthropic', 'claude-haiku-4-5')
  assert.deepEqual([haiku.cacheWrite, haiku.cacheWriteLong], [1_250_000, 2_000_000])
  const audio = known('openai', 'gpt-audio-mini')
  assert.equal(audio.audioOutput, 20_000_000)
  assert.ok(audio.audioOutput > audio.output)
})

test('a version is one of the numbers: the same for the same, another for any other', () => {
  const version = (price: object) => priceOf('x', 'x', priceSchema.parse({ input: 1, output: 2, ...price }))?.version
  const tiers = [
    { above: 10, input: 2, output: 3 },
    { above: 20, input: 3, output: 4 },
  ]
  const all = [{}, { cache_read: 0.5 }, { reasoning: 3 }, { audio_input: 3 }, { audio_output: 3 }, { tiers }]
  const versions = all.map(version)
  assert.equal(new Set(versions).size, all.length)
  assert.deepEqual(all.map(version), versions)
  // What is left out is what it means.
  assert.equal(version({ cache_read: 1, reasoning: 2 }), version({}))
  assert.equal(version({ tiers: tiers.toReversed() }), version({ tiers }))
  assert.match(freePrice.version, /^free#[0-9a-f]{8}$/)
})

test('a past cost is computed again from the rates that were kept', () => {
  const usage = used({ input: 201_234, cacheRead: 333, audioInput: 71, output: 4567, reasoning: 89 })
  for (const row of [known('gemini', 'gemini-2.5-pro'), known('anthropic', 'claude-haiku-4-5'), freePrice]) {
    assert.equal(recompute(describePrice(row), usage), costOf(row, usage))
  }
  for (const text of ['', '{}', 'null', '{"input":-1}', describePrice(freePrice).replace(':0', ':0.5')])
    assert.throws(() => recompute(text, usage), Error)
})

const price = fc.integer({ min: 0, max: 1_000_000_000_000 })
const count = fc.integer({ min: 0, max: 100_000_000 })
const anyRates: fc.Arbitrary<Rates> = fc.record({
  ...{ input: price, output: price, cacheRead: price, cacheWrite: price },
  ...{ cacheWriteLong: price, reasoning: price, audioInput: price, audioOutput: price },
})

test('cost is exact and rounded up for every price and count', () => {
  fc.assert(
    fc.property(anyRates, fc.array(count, { minLength: 8, maxLength: 8 }), (rates, counts) => {
      const [fresh = 0, read = 0, write = 0, long = 0, heard = 0, said = 0, thought = 0, spoken = 0] = counts
      const cost = costOf(
        rates,
        used({
          ...{ input: fresh + read + write + long + heard, cacheRead: read, cacheWrite: write + long },
          ...{ cacheWriteLong: long, audioInput: heard },
          ...{ output: said + thought + spoken, reasoning: thought, audioOutput: spoken },
        }),
      )
      const exact =
        BigInt(fresh) * BigInt(rates.input) +
        BigInt(read) * BigInt(rates.cacheRead) +
        BigInt(write) * BigInt(rates.cacheWrite) +
        BigInt(long) * BigInt(rates.cacheWriteLong) +
        BigInt(heard) * BigInt(rates.audioInput) +
        BigInt(said) * BigInt(rates.output) +
        BigInt(thought) * BigInt(rates.reasoning) +
        BigInt(spoken) * BigInt(rates.audioOutput)
      assert.equal(cost, Number((exact + 999_999n) / 1_000_000n))
    }),
  )
})

test('a sum near the end of exact numbers is still rounded up', () => {
  const row = { ...freePrice, input: 1, output: 1_000_000 }
  // Nine billion micro-dollars and one pico-dollar: the quotient has no digit left for it.
  assert.equal(costOf(row, used({ input: 1, output: 9_000_000_000 })), 9_000_000_001)
})

test('what is held covers whatever a call turns out to be', () => {
  const part = fc.integer({ min: 0, max: 20_000 })
  const tiers = fc.array(fc.tuple(fc.integer({ min: 1, max: 60_000 }), anyRates), { maxLength: 3 })
  fc.assert(
    fc.property(
      anyRates,
      tiers,
      fc.array(part, { minLength: 8, maxLength: 8 }),
      part,
      part,
      (base, found, parts, a, b) => {
        const ascending = found.map(([above, of]) => ({ above, ...of })).sort((x, y) => x.above - y.above)
        const row = { ...base, tiers: ascending }
        const [fresh = 0, read = 0, write = 0, long = 0, heard = 0, said = 0, thought = 0, spoken = 0] = parts
        const usage = used({
          ...{ input: fresh + read + write + long + heard, cacheRead: read, cacheWrite: write + long },
          ...{ cacheWriteLong: long, audioInput: heard },
          ...{ output: said + thought + spoken, reasoning: thought, audioOutput: spoken },
        })
        const possible = { audioInput: heard > 0, audioOutput: spoken > 0, cacheWriteLong: long > 0 }
        assert.ok(mostOf(row, usage.input + a, usage.output + b, possible) >= costOf(row, usage))
      },
    ),
  )
})

test('the catalogue lists the models of a vendor and none of an unknown one', () => {
  assert.equal(cataloguedModels('openai').get('gpt-4o')?.context, 128_000)
  assert.equal(cataloguedModels('vllm').size, 0)
})
