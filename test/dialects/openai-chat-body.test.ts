/** Reading a request body and splicing it: every byte that is not the gateway's stays the caller's. @module */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { LlmFacts } from '../../src/call.ts'
import { readBody } from '../../src/dialects/openai-chat/body.ts'
import { spliceBody } from '../../src/dialects/openai-chat/splice.ts'
import { Fault } from '../../src/fault.ts'

const owned = new Set(['model', 'stream', 'stream_options', 'max_tokens', 'max_completion_tokens', 'n', 'best_of'])
const space = fc.string({ unit: fc.constantFrom(' ', '\t', '\n', '\r'), maxLength: 3 })

/** The same text with every character as an escape. */
const escaped = (text: string) =>
  `"${[...text].map((letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, '0')}`).join('')}"`

const number = fc.constantFrom('0', '-0', '1.50', '1e0', '2E+3', '12345678901234567890', '0.1000')
const { value } = fc.letrec<{ value: string; array: string; object: string }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small' },
    number,
    fc.constantFrom('true', 'false', 'null', '"model"', '"a\\"model\\":\\"b"', '"{[\\\\"'),
    fc.string({ unit: 'grapheme' }).map((text) => JSON.stringify(text)),
    tie('array'),
    tie('object'),
  ),
  array: fc
    .array(fc.tuple(space, tie('value')), { maxLength: 4 })
    .map((items) => `[${items.map(([gap, item]) => gap + item).join(',')}]`),
  object: fc
    .uniqueArray(fc.tuple(fc.constantFrom('model', 'max_tokens', 'x', 'y', 'ü'), space, tie('value')), {
      maxLength: 4,
      selector: ([key]) => key,
    })
    .map((items) => `{${items.map(([key, gap, item]) => `"${key}"${gap}:${item}`).join(',')}}`),
}))

interface Written {
  readonly text: string
  readonly model: string
  readonly cap: number | null
  readonly stream: boolean
}

/** A body as somebody could write it: members in any order, any white space, any nesting. */
const body: fc.Arbitrary<Written> = fc
  .record({
    model: fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 }),
    spelledOut: fc.boolean(),
    cap: fc.option(
      fc.record({
        name: fc.constantFrom('max_tokens', 'max_completion_tokens'),
        value: fc.integer({ min: 1, max: 5000 }),
      }),
    ),
    stream: fc.boolean(),
    options: fc.constantFrom(null, 'null', '{}', '{ "include_usage" : true }', '{"include_usage":false,"x":[1]}'),
    others: fc.uniqueArray(
      fc.tuple(
        fc.string({ maxLength: 8 }).filter((key) => !owned.has(key.toLowerCase())),
        value,
      ),
      {
        maxLength: 5,
        selector: ([key]) => key,
      },
    ),
    gaps: fc.array(space, { minLength: 60, maxLength: 60 }),
    order: fc.array(fc.nat(), { minLength: 12, maxLength: 12 }),
  })
  .map(({ model, spelledOut, cap, stream, options, others, gaps, order }) => {
    let at = 0
    const gap = () => gaps[at++ % gaps.length] ?? ''
    const members: [string, string][] = [
      [spelledOut ? escaped('model') : '"model"', JSON.stringify(model)],
      ...(cap === null ? [] : [[`"${cap.name}"`, String(cap.value)] as [string, string]]),
      ...(stream ? [['"stream"', 'true'] as [string, string]] : []),
      ...(options === null ? [] : [['"stream_options"', options] as [string, string]]),
      ...others.map(([key, item]): [string, string] => [JSON.stringify(key), item]),
    ]
    const shuffled = members.map((member, index) => ({ member, by: order[index] ?? 0 })).sort((a, b) => a.by - b.by)
    const inner = shuffled.map(({ member: [key, item] }) => `${gap()}${key}${gap()}:${gap()}${item}${gap()}`).join(',')
    return { text: `${gap()}{${inner}}${gap()}`, model, cap: cap?.value ?? null, stream }
  })

function read(text: string): LlmFacts {
  const facts = readBody(Buffer.from(text), 'chat')
  assert.ok(!(facts instanceof Fault), facts instanceof Fault ? `${text} ${JSON.stringify(facts.body)}` : '')
  return facts
}
const cut = (text: string, { start, end }: { start: number; end: number }) =>
  Buffer.from(text).subarray(start, end).toString()

describe('a request body', () => {
  it('is read as JSON reads it, with the places of what may change', () => {
    fc.assert(
      fc.property(body, ({ text, model, cap, stream }) => {
        const facts = read(text)
        assert.deepEqual([facts.model, facts.stream, facts.cap?.value ?? null], [model, stream, cap])
        assert.equal(JSON.parse(cut(text, facts.modelSpan)), model)
        if (facts.cap !== null) assert.equal(Number(cut(text, facts.cap.span)), cap)
        if (facts.streamOptionsSpan !== null)
          assert.deepEqual(JSON.parse(cut(text, facts.streamOptionsSpan)), JSON.parse(text).stream_options)
        assert.equal(cut(text, { start: facts.bodyStart - 1, end: facts.bodyStart }), '{')
        assert.equal(facts.textBytes, Buffer.byteLength(text))
      }),
      { numRuns: 2000 },
    )
  })

  it('goes on as it came, apart from what the gateway changes', () => {
    const changes = fc.record({
      model: fc.string({ unit: 'grapheme', minLength: 1 }),
      cap: fc.option(fc.integer({ min: 1, max: 5000 })),
      capName: fc.constantFrom('max_tokens' as const, 'max_completion_tokens' as const),
      usage: fc.boolean(),
    })
    fc.assert(
      fc.property(body, changes, ({ text, model, cap }, wanted) => {
        const facts = read(text)
        const before = Buffer.from(text)
        const after = spliceBody(before, facts, wanted).toString()
        const [was, is] = [JSON.parse(text), JSON.parse(after)]
        assert.equal(is.model, wanted.model)
        const given = cap === null ? wanted.cap : Math.min(cap, wanted.cap ?? cap)
        assert.equal(is.max_tokens ?? is.max_completion_tokens ?? null, given)
        if (wanted.usage) assert.equal(is.stream_options.include_usage, true)
        for (const key of Object.keys(was)) if (!owned.has(key)) assert.deepEqual(is[key], was[key])
        // Undoing the changes one by one gives back every byte.
        let undone = after
        const put = (now: string, then: string) => {
          assert.ok(undone.includes(now), `${now} in ${undone}`)
          undone = undone.replace(now, () => then)
        }
        if (wanted.usage && !facts.wantsUsage && facts.streamOptionsSpan === null)
          put('"stream_options":{"include_usage":true},', '')
        if (wanted.cap !== null && facts.cap === null) put(`${JSON.stringify(wanted.capName)}:${wanted.cap},`, '')
        const untouched = (of: string, spans: readonly ({ start: number; end: number } | undefined | null)[]) => {
          const bytes = [...Buffer.from(of)]
          for (const span of spans.filter((one) => one != null).toSorted((a, b) => b.start - a.start))
            bytes.splice(span.start, span.end - span.start)
          return Buffer.from(bytes).toString()
        }
        const again = read(undone)
        const spans = (of: LlmFacts) => [of.modelSpan, of.cap?.span, of.streamOptionsSpan]
        assert.equal(untouched(undone, spans(again)), untouched(text, spans(facts)))
        if (wanted.model === model && wanted.cap === null && !wanted.usage) assert.equal(after, text)
      }),
      { numRuns: 2000 },
    )
  })

  it('with caps that say null is capped where the null stands', () => {
    const facts = read('{"max_tokens": null ,"model":"m"}')
    const after = (capName: 'max_tokens' | 'max_completion_tokens') =>
      spliceBody(Buffer.from('{"max_tokens": null ,"model":"m"}'), facts, {
        model: 'm',
        cap: 7,
        capName,
        usage: false,
      }).toString()
    assert.equal(after('max_tokens'), '{"max_tokens": 7 ,"model":"m"}')
    assert.equal(after('max_completion_tokens'), '{"max_completion_tokens":7,"max_tokens": null ,"model":"m"}')
  })

  it('counts every answer it asks for: n, best_of, and each prompt of a list', () => {
    const choices = (value: object) => {
      const facts = readBody(Buffer.from(JSON.stringify({ model: 'm', ...value })), 'completion')
      return facts instanceof Fault ? facts.code : facts.choices
    }
    assert.equal(choices({ prompt: 'x' }), 1)
    assert.equal(choices({ prompt: 'x', n: 3, best_of: 5 }), 5)
    assert.equal(choices({ prompt: ['x', 'y', 'z'], n: 2 }), 6)
    assert.equal(choices({ prompt: [[1, 2], [3]] }), 2)
    assert.equal(choices({ prompt: [1, 2, 3] }), 1)
    assert.equal(choices({ prompt: [] }), 1)
  })

  it('counts images and other media above their bytes', () => {
    const part = (type: string) => ({ type, [type]: { url: 'x' } })
    const text = (parts: object[]) => JSON.stringify({ model: 'm', messages: [{ role: 'user', content: parts }] })
    const plain = text([{ type: 'text', text: 'x' }])
    assert.deepEqual([read(plain).textBytes, read(plain).media], [plain.length, []])
    const far = text([part('image_url'), { type: 'file', file: { file_id: 'f' } }, { type: 'hologram', x: 1 }])
    assert.equal(read(far).textBytes, far.length)
    assert.deepEqual(read(far).media, [
      { kind: 'image', width: null, height: null, low: false },
      { kind: 'file', textBytes: null },
      { kind: 'file', textBytes: 3000 },
    ])
  })

  it('does not count the data of media as text', () => {
    const png = Buffer.alloc(3000)
    png.write('\x89PNG\r\n\x1a\n\0\0\0\rIHDR', 'latin1')
    png.writeUInt32BE(640, 16)
    png.writeUInt32BE(480, 20)
    const url = `data:image/png;base64,${png.toString('base64')}`
    const sound = Buffer.alloc(16_000).toString('base64')
    const csv = Buffer.from('a,b\n1,2\n').toString('base64')
    const parts = [
      { type: 'text', text: 'what is it' },
      { type: 'image_url', image_url: { url, detail: 'low' } },
      { type: 'input_audio', input_audio: { data: sound, format: 'pcm16' } },
      { type: 'file', file: { filename: 'a.csv', file_data: `data:text/csv;base64,${csv}` } },
    ]
    const body = JSON.stringify({
      model: 'm',
      modalities: ['text', 'audio'],
      messages: [{ role: 'user', content: parts }],
    })
    const facts = read(body)
    assert.equal(facts.textBytes, body.length - png.toString('base64').length - sound.length - csv.length)
    assert.equal(facts.speaks, true)
    assert.deepEqual(facts.media, [
      { kind: 'image', width: 640, height: 480, low: true },
      { kind: 'audio', seconds: (sound.length * 3) / 4 / 750 },
      { kind: 'file', textBytes: (csv.length * 3) / 4 },
    ])
  })

  it('is refused when a top-level key stands twice, whatever it is', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 6 }), fc.constantFrom('x', 'model', 'ü', ''), (other, key) => {
        const text = `{"model":"m",${JSON.stringify(other)}:1,${escaped(key)}:2}`
        const twice = other === key || other === 'model' || key === 'model'
        const misspelt = [other, key].some((name) => !owned.has(name) && owned.has(name.toLowerCase()))
        const badValue = ['n', 'best_of', 'stream', 'stream_options', 'max_tokens'].includes(other)
        if (!misspelt && !badValue) assert.equal(readBody(Buffer.from(text), 'chat') instanceof Fault, twice, text)
      }),
    )
  })
})
