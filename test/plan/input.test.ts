/** What a request is held for is never less than what OpenAI counts, messages and tools included. */
import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import fc from 'fast-check'
import * as gpt4o from 'gpt-tokenizer/model/gpt-4o'
import type { LlmCall } from '../../src/call.ts'
import { readBody } from '../../src/dialects/openai-chat/body.ts'
import { textsOf } from '../../src/dialects/openai-chat/parts.ts'
import { Fault } from '../../src/fault.ts'
import { countedBound } from '../../src/plan/input.ts'
import { createTokenCounter } from '../../src/tokens/counter.ts'
import { byteBound } from '../../src/tokens.ts'

const countedByOpenai = gpt4o.countChatCompletionTokens ?? assert.fail('the package counts whole requests')

function callOf(body: object): LlmCall {
  const bytes = Buffer.from(JSON.stringify(body))
  const facts = readBody(bytes, 'chat')
  assert.ok(!(facts instanceof Fault))
  return { kind: 'chat', body: bytes, facts } as LlmCall
}

const text = fc.oneof(
  fc.string({ unit: 'grapheme', maxLength: 200 }),
  fc.string({ unit: 'binary', maxLength: 60 }),
  fc.base64String({ maxLength: 200 }),
  fc.constantFrom(
    'The gates open slowly. '.repeat(30),
    '網關緩緩打開。'.repeat(20),
    '🙂👩‍👩‍👧‍👦'.repeat(10),
    '<|im_start|>',
  ),
)
const word = fc.stringMatching(/^[a-z]{1,12}$/)
const property = fc.record({
  type: fc.constantFrom('string' as const, 'number' as const, 'boolean' as const),
  description: text,
})
const tool = fc.record({
  name: word,
  description: text,
  parameters: fc.record({
    type: fc.constant('object' as const),
    properties: fc.dictionary(word, property, { maxKeys: 4 }),
  }),
})
const request = fc.record({
  messages: fc.array(
    fc.record({ role: fc.constantFrom('system' as const, 'user' as const, 'assistant' as const), content: text }),
    { minLength: 1, maxLength: 6 },
  ),
  tools: fc.array(tool, { maxLength: 3 }),
})

describe('the bound of a request', () => {
  const counter = createTokenCounter({ patienceMs: 60_000 })
  after(() => counter.close())

  it('is at least what OpenAI counts, by bytes and counted', async () => {
    await fc.assert(
      fc.asyncProperty(request, async ({ messages, tools }) => {
        const asTools = tools.map((one) => ({ type: 'function', function: one }))
        const call = callOf({ model: 'gpt-4o', messages, ...(tools.length === 0 ? {} : { tools: asTools }) })
        // A name of a special token is text to the vendor.
        const plain = messages.map((one) => ({ ...one, content: one.content.replaceAll('<|', '< |') }))
        const exact = countedByOpenai({
          messages: plain,
          ...(tools.length === 0
            ? {}
            : { functions: tools.map((one) => ({ ...one, description: one.description.replaceAll('<|', '< |') })) }),
        })
        const bytes = byteBound(call, 'gpt-4o', null)
        const counted = (await countedBound(counter, call, 'gpt-4o', null)) as number
        assert.ok(bytes >= exact, `${bytes} bytes for ${exact}`)
        // The space put into a special token's name is a token at most.
        const spaces = JSON.stringify({ messages, tools }).split('<|').length - 1
        assert.ok(counted + spaces >= exact, `${counted} counted for ${exact}`)
      }),
      { numRuns: 150 },
    )
  })

  it('is close where it is counted', async () => {
    const content = 'The gates open slowly, and quietly the rest of the household follows them home. '.repeat(60)
    const call = callOf({ model: 'gpt-4o', temperature: 0.5, messages: [{ role: 'user', content }] })
    const exact = countedByOpenai({ messages: [{ role: 'user', content }] })
    const counted = (await countedBound(counter, call, 'gpt-4o', null)) as number
    assert.ok(counted - exact < 40, `${counted} for ${exact}`)
    assert.ok(byteBound(call, 'gpt-4o', null) > 3 * exact)
  })

  it('counts every text a model may be shown, and no setting or data of a picture', () => {
    const seen = (body: object) => textsOf(Buffer.from(JSON.stringify({ model: 'm', ...body }))).texts.join('\n')
    const shown = seen({
      messages: [
        { role: 'system', content: 'said-1', name: 'said-2' },
        {
          role: 'user',
          content: [
            { type: 'text', text: 'said-3' },
            { type: 'image_url', image_url: { url: 'data:x' } },
          ],
        },
        { role: 'assistant', content: null, tool_calls: [{ id: 'said-4', function: { arguments: 'said-5' } }] },
        { role: 'tool', tool_call_id: 'said-6', content: [{ type: 'thinking', thinking: 'said-7' }] },
      ],
      tools: [{ function: { name: 'said-8' } }],
      response_format: { json_schema: { name: 'said-9' } },
      temperature: 0.123,
      user: 'unsaid',
    })
    for (let i = 1; i <= 9; i++) assert.ok(shown.includes(`said-${i}`), `said-${i} in ${shown}`)
    for (const word of ['0.123', 'unsaid', 'data:x', 'temperature']) assert.ok(!shown.includes(word), word)
    assert.equal(seen({ prompt: ['one', 'two'] }), 'one\ntwo')
    assert.equal(seen({ prompt: [1, 2, 3] }), '[1,2,3]')
    assert.equal(seen({ input: 'one' }), 'one')
  })
})
