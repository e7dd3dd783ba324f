/**
 * Answers that real providers gave, through the passthrough lane: what they say they used is what is read, and a stream
 * leaves as it came. The recordings lie beside the repository; without them these tests are skipped.
 * @module
 */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { describe, it } from 'node:test'
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
    ])
      assert.equal(numbers(value), null, JSON.stringify(value))
  })
})
