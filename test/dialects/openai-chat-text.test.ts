/** How much text events carry: the same as a parser finds, whoever wrote the JSON. @module */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import {
  ordinaryEvents,
  outputCertain,
  outputSeen,
  readEvents,
  streamState,
} from '../../src/dialects/openai-chat/stream.ts'

/** Text of any script, without the control characters that JSON writes as `\u` and two zeros. */
const words = fc.string({ unit: 'grapheme', maxLength: 40 }).map((text) => text.replace(/[\p{Cc}\p{Cs}]/gu, ''))
/** As written by libraries that keep to ASCII and put blanks behind colons. */
const ascii = (value: unknown) =>
  JSON.stringify(value, null, 1)
    .replace(/\n */g, ' ')
    .replace(/[^\x20-\x7e]/g, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, '0')}`)

const deltaOf = {
  content: (text: string) => ({ content: text }),
  reasoning: (text: string) => ({ content: null, reasoning_content: text }),
  tool: (text: string) => ({ tool_calls: [{ index: 0, function: { arguments: text } }] }),
  refusal: (text: string) => ({ refusal: text }),
}
const chat = (delta: object) => ({ id: 'c', choices: [{ index: 0, delta, logprobs: null, finish_reason: null }] })

function counted(json: readonly string[]) {
  const bytes = Buffer.from(json.map((one) => `data: ${one}\n\n`).join(''))
  const quick = streamState()
  assert.equal(ordinaryEvents(bytes, quick), true)
  const careful = streamState()
  for (const _ of readEvents(bytes, careful));
  const numbers = ({ events, text, pieces }: typeof quick) => ({ events, text, pieces })
  assert.deepEqual(numbers(quick), numbers(careful))
  return quick
}

describe('the text of a stream', () => {
  for (const [name, delta] of Object.entries(deltaOf)) {
    it(`is counted to the byte: ${name}`, () => {
      fc.assert(
        fc.property(fc.array(words, { minLength: 1, maxLength: 8 }), (texts) => {
          const state = counted(texts.map((text) => JSON.stringify(chat(delta(text)))))
          assert.equal(
            state.text,
            texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0),
          )
          assert.equal(state.pieces, texts.filter((text) => text !== '').length)
          assert.equal(state.events, texts.length)
        }),
      )
    })
  }

  it('is never counted as less when it is written in ASCII, and as no more than three bytes a character', () => {
    fc.assert(
      fc.property(words, (text) => {
        const state = counted([ascii(chat(deltaOf.content(text)))])
        assert.ok(state.text >= Buffer.byteLength(text) && state.text <= 3 * text.length, `${state.text}: ${text}`)
      }),
    )
  })

  it('is not what only looks like it inside of text', () => {
    const state = counted([JSON.stringify(chat({ content: 'say "content":"x" and \\"text\\":"y"' }))])
    assert.equal(state.pieces, 1)
  })

  it('counts completions, several answers in one event, and many tokens in one event', () => {
    assert.equal(counted([JSON.stringify({ choices: [{ index: 0, text: 'four' }] })]).text, 4)
    const both = { choices: [0, 1].map((index) => ({ index, delta: { content: 'ab' }, finish_reason: null })) }
    assert.deepEqual([counted([JSON.stringify(both)]).pieces, counted([JSON.stringify(both)]).text], [2, 4])
    const large = counted([JSON.stringify(chat(deltaOf.content('x'.repeat(4000))))])
    assert.deepEqual([outputSeen(large), outputCertain(large)], [1000, 250])
    const small = counted(Array.from({ length: 50 }, () => JSON.stringify(chat(deltaOf.content('a')))))
    assert.deepEqual([outputSeen(small), outputCertain(small)], [50, 50])
  })
})
