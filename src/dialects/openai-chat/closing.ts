/**
 * How a stream ends that the gateway stops because its budget or its cap is used up.
 *
 * What the official SDKs make of it decides the form. An error event raises in them, and nothing behind it is read; a
 * stream that only stops raises nothing and looks whole. So every open answer first gets `finish_reason: "length"`,
 * which is what a provider says at a cap and makes the text before it usable; then comes the usage where it was asked
 * for; then the error event, which no loop over the stream can overlook. `[DONE]` is never sent.
 * @module
 */
import type { LlmCall, Usage } from '../../call.ts'
import type { StreamState } from './stream.ts'

/** Members of a chunk that belong to it and not to its stream. */
const ownMembers = ['choices', 'usage', 'obfuscation', 'error']

/**
 * The events that end what is open, without the error event.
 *
 * @param first an event of the stream, whose id, model and further members the closing ones share
 * @param usage what is told where the caller asked for it
 */
export function closingEvents(call: LlmCall, state: StreamState, first: Buffer | null, usage: Usage): Buffer {
  const shared = sharedMembers(first) ?? fallback(call)
  const events: object[] = []
  for (let index = 0; index < call.facts.choices; index++) {
    if (state.finished?.has(index)) continue
    const said = call.kind === 'chat' ? { delta: {} } : { text: '' }
    events.push({ ...shared, choices: [{ index, ...said, logprobs: null, finish_reason: 'length' }] })
  }
  if (call.facts.wantsUsage) events.push({ ...shared, choices: [], usage: usageOut(usage) })
  return Buffer.from(events.map((event) => `data: ${JSON.stringify(event)}\n\n`).join(''))
}

function sharedMembers(first: Buffer | null): object | null {
  const data = /^data: ?(\{.*)$/m.exec(first?.toString() ?? '')?.[1]
  if (data === undefined) return null
  try {
    const members = Object.entries(JSON.parse(data) as object)
    return Object.fromEntries(members.filter(([name]) => !ownMembers.includes(name)))
  } catch {
    return null
  }
}

function fallback(call: LlmCall): object {
  const object = call.kind === 'chat' ? 'chat.completion.chunk' : 'text_completion'
  return { id: call.id, object, created: Math.floor(call.at / 1000), model: call.facts.model }
}

function usageOut(usage: Usage): object {
  return {
    prompt_tokens: usage.input,
    completion_tokens: usage.output,
    total_tokens: usage.input + usage.output,
    prompt_tokens_details: { cached_tokens: usage.cacheRead },
    completion_tokens_details: { reasoning_tokens: usage.reasoning },
  }
}
