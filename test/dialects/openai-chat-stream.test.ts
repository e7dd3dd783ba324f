/** An event stream passing by: however it is cut into pieces, the same events, the same usage, the same bytes. @module */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { lastEventEnd, readEvents, streamState } from '../../src/dialects/openai-chat/stream.ts'
import { hear } from './lane-rig.ts'

const newline = fc.constantFrom('\n', '\r\n', '\r')
const chunk = (delta: string, finish: string | null = null, more = '') =>
  `{"id":"c","choices":[{"index":0,"delta":{"content":${JSON.stringify(delta)}},"finish_reason":${finish === null ? 'null' : `"${finish}"`}}]${more}}`
const usage = ',"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}'

/** The events of a whole stream with odd but legal ones among them. */
const events = fc
  .array(
    fc.oneof(
      fc.string({ unit: 'grapheme', maxLength: 12 }).map((text) => `data: ${chunk(text)}`),
      fc.constantFrom(
        ': ping',
        'event: message',
        `data:${chunk('tight')}`,
        `id: 7\ndata: ${chunk('named')}`,
        'data: {"broken',
        `data: ${chunk('[DONE] "error" "usage"')}`,
      ),
      fc.constant(`data: ${chunk('', null, ',"usage":null')}`),
    ),
    { maxLength: 12 },
  )
  .map((middle) => [
    `data: ${chunk('first')}`,
    ...middle,
    `data: ${chunk('', 'stop')}`,
    `data: {"id":"c","choices":[]${usage}}`,
    'data: [DONE]',
  ])

const stream = fc
  .tuple(events, newline)
  .map(([list, end]) => Buffer.from(list.map((event) => `${event.replaceAll('\n', end)}${end}${end}`).join('')))

function pieces(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const places = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b)
  return [...places, bytes.length].map((end, index) => bytes.subarray(index === 0 ? 0 : places[index - 1], end))
}
const cuts = fc.array(fc.nat(), { maxLength: 40 })
const wanting = { stream: true, stream_options: { include_usage: true } }

describe('a stream in pieces', () => {
  it('is the same stream, byte for byte, with the same usage', () => {
    fc.assert(
      fc.property(stream, cuts, (bytes, at) => {
        const { ending, bytes: heard } = hear({ chunks: pieces(bytes, at), asked: wanting })
        assert.equal(heard.toString(), bytes.toString())
        assert.equal(ending.outcome, 'answered')
        assert.deepEqual([ending.usage.input, ending.usage.output, ending.usage.source], [3, 5, 'provider'])
        assert.match(ending.tail?.toString() ?? '', /^data: \[DONE\]\s+$/)
      }),
      { numRuns: 1500 },
    )
  })

  it('lacks exactly the usage event where the caller did not ask for it', () => {
    fc.assert(
      fc.property(stream, cuts, (bytes, at) => {
        const whole = hear({ chunks: [bytes], asked: { stream: true } })
        const cut = hear({ chunks: pieces(bytes, at), asked: { stream: true } })
        assert.equal(cut.bytes.toString(), whole.bytes.toString())
        assert.deepEqual(cut.ending.usage, whole.ending.usage)
        const expected = bytes.toString().replace(/data: \{"id":"c","choices":\[\],"usage":[^\r\n]*(\r\n|\n|\r){2}/, '')
        assert.equal(cut.bytes.toString(), expected)
      }),
      { numRuns: 500 },
    )
  })

  it('that stops anywhere is only whole once it has said why it ended', () => {
    fc.assert(
      fc.property(stream, fc.nat(), cuts, (bytes, length, at) => {
        const part = bytes.subarray(0, length % bytes.length)
        const { ending, bytes: heard, began } = hear({ chunks: pieces(part, at), asked: wanting })
        const finished = part.includes('"finish_reason":"stop"}]}')
        assert.equal(ending.outcome, finished ? 'answered' : began ? 'truncated' : 'fault')
        if (finished) assert.match(heard.toString(), /\[DONE\]\s+$/)
        else assert.ok(bytes.toString().startsWith(heard.toString().trimEnd()))
      }),
      { numRuns: 1500 },
    )
  })

  it('keeps tokens that come in one piece with an error, where the caller has the beginning', () => {
    const error = 'data: {"error":{"message":"CANARY"}}\n\n'
    const token = (text: string) => Buffer.from(`data: ${chunk(text)}\n\n`)
    const late = hear({
      chunks: [token('one'), Buffer.concat([token('two'), Buffer.from(error), token('three')])],
      asked: wanting,
    })
    assert.equal(late.ending.outcome, 'truncated')
    assert.ok(late.bytes.includes('two') && !late.bytes.includes('CANARY') && !late.bytes.includes('three'))
    const early = hear({ chunks: [Buffer.concat([token('one'), Buffer.from(error)])], asked: wanting })
    assert.deepEqual([early.ending.outcome, early.began], ['fault', false])
  })

  it('is given up when one event never ends, without being read over and over', () => {
    const piece = Buffer.alloc(1024, 'x')
    const endless = [Buffer.from('data: '), ...Array.from({ length: 17 * 1024 }, () => piece)]
    const { ending } = hear({ chunks: endless, asked: wanting })
    assert.equal(ending.fault?.code, 'upstream_error')
    const pings = Array.from({ length: 17 * 1024 }, () => Buffer.from(`: ${'p'.repeat(1020)}\n\n`))
    assert.equal(hear({ chunks: pings, asked: wanting }).ending.fault?.code, 'upstream_error')
  })
})

describe('the ends of events', () => {
  it('are found by any line end, and the rest is left', () => {
    for (const [text, end] of [
      ...[
        ['data: a\n\n', 9],
        ['data: a\r\n\r\n', 11],
        ['data: a\r\r', 9],
        ['data: a\n', 0],
        ['data: a\r\n', 0],
        ['', 0],
      ],
      ...[
        ['data: a\n\ndata: b', 9],
        ['\n\n', 2],
        ['data: a\n\r\n', 10],
        ['data: a\n\r', 0],
      ],
    ] as [string, number][])
      assert.equal(lastEventEnd(Buffer.from(text)), end, JSON.stringify(text))
  })

  it('cut a buffer of whole events into all its bytes', () => {
    fc.assert(
      fc.property(stream, (bytes) => {
        const state = streamState()
        const found = [...readEvents(bytes, state)].map((event) => event.bytes)
        assert.equal(Buffer.concat(found).toString(), bytes.toString())
        assert.equal(state.done, true)
      }),
    )
  })
})
