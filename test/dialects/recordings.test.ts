/**
 * Answers that real providers gave, through the passthrough lane: what they say they used is what is read, and a stream
 * leaves as it came. The recordings lie beside the repository; without them these tests are skipped.
 * @module
 */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { readUsage } from '../../src/dialects/openai-chat/usage.ts'
import { isRecord } from '../upstreams/vendor-body.ts'
import { type Fixture, type FixtureRow, fixtureFolder, fixtureRows, readFixture } from '../upstreams/vendor-fixtures.ts'
import { hear } from './lane-rig.ts'

const spoken = /(chat\/completions|\/completions|embeddings)$/
const rows = fixtureRows((row) => spoken.test(row.endpoint))
const skip = existsSync(fixtureFolder) ? false : 'the recordings are not here'
const done = 'data: [DONE]\n\n'
const json = { 'content-type': 'application/json', 'content-length': '1' }

function recording(row: FixtureRow): Fixture {
  return readFixture(row.file) ?? assert.fail(`${row.file} is missing`)
}
/** What the stream's events say of usage at the top level, last first. */
function reported(body: Buffer): unknown {
  const events = body
    .toString()
    .split(/\r?\n/)
    .filter((line) => line.startsWith('data: {'))
  for (const line of events.toReversed()) {
    const { usage } = JSON.parse(line.slice(6)) as { usage?: unknown }
    if (usage !== undefined && usage !== null) return usage
  }
  return null
}

describe('recorded answers', { skip }, () => {
  it('are there in number, from many vendors', () => {
    assert.ok(rows.length > 400, String(rows.length))
    assert.ok(new Set(rows.map(({ provider }) => provider)).size >= 12)
  })

  it('that came whole: usage as the body says, the body untouched', () => {
    let priced = 0
    for (const row of rows.filter(({ streaming, status }) => !streaming && status === 200)) {
      const { body } = recording(row)
      const kind = row.endpoint.endsWith('embeddings') ? 'embedding' : 'chat'
      const { ending, bytes } = hear({ headers: json, chunks: [body], kind })
      assert.ok(bytes.equals(body), row.file)
      assert.equal(ending.outcome, 'answered', row.file)
      const said = (JSON.parse(body.toString()) as { usage?: Record<string, number> }).usage
      const expected = readUsage(said)
      if (expected === null) {
        assert.equal(ending.usage.source, 'estimated', row.file)
        continue
      }
      priced++
      assert.deepEqual(ending.usage, expected, row.file)
      assert.equal(expected.input + expected.output, said?.total_tokens ?? Number.NaN, row.file)
    }
    assert.ok(priced > 350, String(priced))
  })

  it('that came as streams: the same bytes in pieces of any size, and the last usage they report', () => {
    const streams = rows.filter(({ streaming, status }) => streaming && status === 200)
    assert.ok(streams.length > 100, String(streams.length))
    for (const row of streams) {
      const { body, request } = recording(row)
      const n = isRecord(request?.body) && typeof request.body.n === 'number' ? { n: request.body.n } : {}
      for (const size of [body.length, 1000, 61]) {
        const chunks = Array.from({ length: Math.ceil(body.length / size) }, (_, i) =>
          body.subarray(i * size, (i + 1) * size),
        )
        const { ending, bytes } = hear({
          chunks,
          asked: { stream: true, stream_options: { include_usage: true }, ...n },
        })
        assert.equal(ending.outcome, 'answered', row.file)
        // Some were kept without their terminator, which is then supplied.
        const whole = body.includes('[DONE]') ? body.toString() : `${body}${done}`
        assert.equal(bytes.toString(), whole, `${row.file} in pieces of ${size}`)
        const expected = readUsage(reported(body))
        if (expected === null) assert.equal(ending.usage.source, 'estimated', row.file)
        else assert.deepEqual(ending.usage, expected, row.file)
      }
    }
  })

  it("that are refusals: passed on in the provider's words, or kept where they are about the gateway's credential", () => {
    const refusals = rows.filter(({ status }) => status >= 400)
    assert.ok(refusals.length > 5, String(refusals.length))
    for (const row of refusals) {
      const { body, status } = recording(row)
      const { ending } = hear({ status, headers: json, chunks: [body] })
      assert.equal(ending.outcome, 'fault', row.file)
      const told = ending.answer?.kind === 'bytes'
      assert.equal(told, ![401, 403, 408, 429].includes(status) && status < 500, `${row.file} ${status}`)
    }
  })
})

describe('usage of vendors that count in their own way', () => {
  const numbers = (value: unknown) => {
    const usage = readUsage(value)
    return usage === null ? null : [usage.input, usage.output, usage.cacheRead, usage.reasoning]
  }
  it('is read as what is billed', () => {
    assert.deepEqual(numbers({ prompt_tokens: 5, completion_tokens: 7, total_tokens: 12 }), [5, 7, 0, 0])
    assert.deepEqual(numbers({ prompt_tokens: 5, completion_tokens: 0, total_tokens: 5 }), [5, 0, 0, 0])
    // Thinking left out of the output count, but not of the total.
    assert.deepEqual(
      numbers({
        prompt_tokens: 12,
        completion_tokens: 2,
        total_tokens: 354,
        completion_tokens_details: { reasoning_tokens: 340 },
      }),
      [12, 342, 0, 340],
    )
    assert.deepEqual(numbers({ prompt_tokens: 4, total_tokens: 4 }), [4, 0, 0, 0])
    assert.deepEqual(numbers({ total_tokens: 9 }), [9, 0, 0, 0])
    assert.deepEqual(
      numbers({ prompt_tokens: 9, completion_tokens: 1, prompt_tokens_details: { cached_tokens: 99 } }),
      [9, 1, 9, 0],
    )
  })

  it('tells apart what was cached, thought and spoken, wherever a vendor puts it', () => {
    const kinds = (value: object) => {
      const usage = readUsage({ prompt_tokens: 100, completion_tokens: 50, ...value })
      assert.ok(usage !== null, JSON.stringify(value))
      const { source, ...counts } = usage
      return Object.fromEntries(Object.entries(counts).filter(([, count]) => count !== 0))
    }
    const plain = { input: 100, output: 50 }
    assert.deepEqual(
      kinds({
        prompt_tokens_details: { cached_tokens: 10, audio_tokens: 20, cache_write_tokens: 30 },
        completion_tokens_details: { reasoning_tokens: 5, audio_tokens: 40 },
      }),
      { ...plain, cacheRead: 10, audioInput: 20, cacheWrite: 30, reasoning: 5, audioOutput: 40 },
    )
    assert.deepEqual(kinds({ prompt_cache_hit_tokens: 64, prompt_cache_miss_tokens: 36 }), { ...plain, cacheRead: 64 })
    const anthropic = {
      cache_read_input_tokens: 20,
      cache_creation_input_tokens: 30,
      cache_creation: { ephemeral_5m_input_tokens: 10, ephemeral_1h_input_tokens: 20 },
    }
    assert.deepEqual(kinds(anthropic), { ...plain, cacheRead: 20, cacheWrite: 30, cacheWriteLong: 20 })
    // More than the prompt: it stands beside it.
    assert.deepEqual(kinds({ prompt_tokens: 7, ...anthropic }), {
      ...{ input: 57, output: 50, cacheRead: 20 },
      ...{ cacheWrite: 30, cacheWriteLong: 20 },
    })
    assert.deepEqual(kinds({ reasoning_tokens: 900, total_tokens: 150 }), { input: 100, output: 950, reasoning: 900 })
    assert.deepEqual(
      kinds({ prompt_tokens_details: null, completion_tokens_details: { reasoning_tokens: null } }),
      plain,
    )
    assert.deepEqual(kinds({ prompt_tokens_details: { audio_tokens: 999 } }), { ...plain, audioInput: 100 })
  })

  it('never charges more parts than a vendor told of, nor fewer than none', () => {
    const odd = fc.oneof(
      fc.integer({ min: -5, max: 2_000 }),
      fc.constantFrom(null, undefined, Number.NaN, '7', 1e15, 0),
    )
    const details = fc.record({ cached_tokens: odd, audio_tokens: odd, cache_write_tokens: odd, reasoning_tokens: odd })
    const usage = fc.record({
      ...{ prompt_tokens: odd, completion_tokens: odd, total_tokens: odd, prompt_cache_hit_tokens: odd },
      ...{ cache_read_input_tokens: odd, cache_creation_input_tokens: odd, reasoning_tokens: odd },
      ...{ prompt_tokens_details: details, completion_tokens_details: details },
      cache_creation: fc.record({ ephemeral_5m_input_tokens: odd, ephemeral_1h_input_tokens: odd }),
    })
    fc.assert(
      fc.property(usage, (value) => {
        const read = readUsage(value)
        if (read === null) return
        const { source, ...counts } = read
        for (const count of Object.values(counts)) assert.ok(Number.isSafeInteger(count) && count >= 0)
        for (const part of [read.cacheRead, read.cacheWrite, read.audioInput]) assert.ok(part <= read.input)
        for (const part of [read.reasoning, read.audioOutput]) assert.ok(part <= read.output)
        assert.ok(read.cacheWriteLong <= read.cacheWrite)
      }),
      { numRuns: 5000 },
    )
  })

  it('that is no usage is not believed', () => {
    for (const value of [
      null,
      7,
      {},
      { prompt_tokens: '5', completion_tokens: '7' },
      { prompt_tokens: -1, completion_tokens: 1 },
      { prompt_tokens: 5 },
      { prompt_tokens: 1.5, completion_tokens: 1 },
      { prompt_tokens: 1e12, completion_tokens: 1 },
      { prompt_tokens: 5, completion_tokens: 1, prompt_tokens_details: { cached_tokens: -1 } },
      { prompt_tokens: 5, completion_tokens: 1, prompt_tokens_details: { audio_tokens: Number.NaN } },
      { prompt_tokens: 5, completion_tokens: 1, completion_tokens_details: { audio_tokens: '3' } },
      { prompt_tokens: 5, completion_tokens: 1, cache_creation: { ephemeral_1h_input_tokens: 1e12 } },
    ])
      assert.equal(numbers(value), null, JSON.stringify(value))
  })
})
