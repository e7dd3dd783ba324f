/**
 * What the scripted vendor says: deterministic text, usage that matches it, and OpenAI's shapes for chat, completions,
 * embeddings, models and errors, whole and as stream events.
 * @module
 */
import { isRecord } from './vendor-body.ts'
import type { Behaviour } from './vendor-faults.ts'

/** One token each. Some are not ASCII, so that a cut can fall inside a character. */
const words = ['Gates', ' open', ' slowly', ' —', ' naïve', ' 漢字', ' and', ' 🙂', ' follow', ' quietly', ' home', '.']
const created = 1_700_000_000

/** A JSON object under construction. */
type Json = Record<string, unknown>

/** What was asked, as far as the answer depends on it. */
export interface Asked {
  readonly kind: 'chat' | 'completion'
  readonly model: string
  readonly id: string
  readonly body: Json
  readonly raw: Buffer
  readonly behaviour: Behaviour
}

/** Tokens of the default answer, or of `long-N`, in order. */
export function tokens(count: number = words.length): string[] {
  return Array.from({ length: count }, (_, index) => word(index))
}

function word(index: number): string {
  return words[index % words.length] ?? ''
}

/** The text of a good answer of that many tokens. */
export function text(count: number = words.length): string {
  return tokens(count).join('')
}

/** How this vendor counts a prompt: the words in every string below messages, prompt or input; token ids count one. */
export function countTokens(value: unknown): number {
  if (typeof value === 'string') return value.split(/\s+/).filter((part) => part !== '').length
  if (typeof value === 'number') return 1
  if (Array.isArray(value)) return value.reduce((sum: number, item) => sum + countTokens(item), 0)
  if (isRecord(value)) return countTokens(value.content ?? value.text ?? '')
  return 0
}

interface Said {
  readonly pieces: readonly string[]
  readonly finish: 'stop' | 'length' | 'tool_calls'
}

function say({ body, raw, behaviour }: Asked): Said {
  if (behaviour.echo) return { pieces: raw.toString('utf8').match(/.{1,32}/gsu) ?? [], finish: 'stop' }
  if (behaviour.toolCall) return { pieces: ['{"city"', ':"Oslo"', '}'], finish: 'tool_calls' }
  const all = tokens(behaviour.tokens ?? undefined)
  const cap = body.max_completion_tokens ?? body.max_tokens
  if (behaviour.ignoresCap || typeof cap !== 'number' || cap >= all.length) return { pieces: all, finish: 'stop' }
  return { pieces: all.slice(0, cap), finish: 'length' }
}

function choiceCount({ body, behaviour }: Asked): number {
  return behaviour.choices ?? (typeof body.n === 'number' ? body.n : 1)
}

function prompt({ body }: Asked): number {
  return countTokens(body.messages ?? body.prompt ?? '')
}

function usage(asked: Asked, output: number): unknown {
  const { behaviour } = asked
  let [input, out] = behaviour.usageNumbers ?? [prompt(asked), output + behaviour.reasoning]
  if (behaviour.usage === 'zero') [input, out] = [0, 0]
  const write = behaviour.usage === 'string' ? String : (count: number) => count
  const [heard, spoken] = behaviour.audio
  const [written, long] = behaviour.written
  const creation = { ephemeral_5m_input_tokens: written - long, ephemeral_1h_input_tokens: long }
  return {
    prompt_tokens: write(input),
    completion_tokens: write(out),
    total_tokens: write(input + out),
    prompt_tokens_details: { cached_tokens: write(behaviour.cached), audio_tokens: write(heard) },
    completion_tokens_details: {
      reasoning_tokens: write(behaviour.reasoning),
      ...(spoken === 0 ? {} : { audio_tokens: write(spoken) }),
    },
    ...(written === 0 ? {} : { cache_creation_input_tokens: write(written), cache_creation: creation }),
    ...extra(behaviour, 'usage'),
  }
}

/** Fields no specification knows, where `unknown-fields` asks for them. */
function extra(behaviour: Behaviour, place: string): Json {
  return behaviour.vendorFields ? { [`x_vendor_${place}`]: { kept: true, big: 9_007_199_254_740_991 } } : {}
}

function envelope(asked: Asked, stream: boolean): Json {
  const chat = stream ? 'chat.completion.chunk' : 'chat.completion'
  return {
    id: asked.id,
    object: asked.kind === 'chat' ? chat : 'text_completion',
    created,
    model: asked.model,
    service_tier: 'default',
    system_fingerprint: 'fp_vendor',
    ...extra(asked.behaviour, 'reply'),
  }
}

function toolCall({ body }: Asked, pieces: readonly string[], first: boolean): Json {
  const offered: unknown = Array.isArray(body.tools) ? body.tools[0] : undefined
  const named = isRecord(offered) && isRecord(offered.function) ? offered.function.name : undefined
  const called = { name: typeof named === 'string' ? named : 'weather', arguments: pieces.join('') }
  return first
    ? { id: 'call_vendor_1', type: 'function', function: called }
    : { function: { arguments: pieces.join('') } }
}

/** The whole reply of a chat or completion. */
export function whole(asked: Asked): Json {
  const { pieces, finish } = say(asked)
  const huge = 'x'.repeat(asked.behaviour.hugeEvent)
  const content = pieces.join('') + huge
  const choices = Array.from({ length: choiceCount(asked) }, (_, index) => {
    const end = asked.behaviour.finish ? { finish_reason: finish } : {}
    const common = { index, logprobs: null, ...end, ...extra(asked.behaviour, 'choice') }
    if (asked.kind === 'completion') return { text: content, ...common }
    const said = finish === 'tool_calls' ? { content: null, tool_calls: [toolCall(asked, pieces, true)] } : { content }
    const message = { role: 'assistant', ...said, refusal: null, annotations: [], ...extra(asked.behaviour, 'message') }
    return { message, ...common }
  })
  const counted = asked.behaviour.usage === 'none' ? {} : { usage: usage(asked, pieces.length * choices.length) }
  return { ...envelope(asked, false), choices, ...counted }
}

/** One step of a stream: the data of an event, and whether it carries a token of the answer. */
export interface Step {
  readonly data: string
  readonly kind: 'start' | 'token' | 'finish' | 'usage' | 'error' | 'done'
}

/** The events of a streamed chat or completion, lazily: `endless` has no last one. */
export function* steps(asked: Asked): Generator<Step> {
  const { behaviour, body } = asked
  const { pieces, finish } = say(asked)
  const count = choiceCount(asked)
  const options = body.stream_options
  const asksUsage = isRecord(options) && options.include_usage === true
  const last = asksUsage && behaviour.usage !== 'none' && behaviour.usageWhere === 'last'
  let sent = 0

  const event = (choices: unknown, kind: Step['kind'], counted?: unknown): Step => {
    const every = behaviour.usageWhere === 'every' ? usage(asked, sent) : undefined
    const value = counted ?? every ?? (last ? null : undefined)
    return { data: JSON.stringify({ ...envelope(asked, true), choices, usage: value }), kind }
  }
  const choice = (index: number, delta: Json, reason: string | null): Json => {
    const common = { index, logprobs: null, finish_reason: reason, ...extra(behaviour, 'choice') }
    return asked.kind === 'chat'
      ? { delta: { ...delta, ...extra(behaviour, 'delta') }, ...common }
      : { text: delta.content ?? '', ...common }
  }

  if (behaviour.errorAfter === 0) return yield failed()
  if (asked.kind === 'chat') {
    const role = { role: 'assistant', content: finish === 'tool_calls' ? null : '', refusal: null }
    for (let index = 0; index < count; index++) yield event([choice(index, role, null)], 'start')
  }
  if (behaviour.hugeEvent > 0) yield event([choice(0, { content: 'x'.repeat(behaviour.hugeEvent) }, null)], 'token')
  for (let position = 0; behaviour.endless || position < pieces.length; position++) {
    if (behaviour.errorAfter !== null && position >= behaviour.errorAfter) return yield failed()
    if (behaviour.badJson && position === 2)
      yield { data: '{"id":"chatcmpl-broken","choices":[{"index":0,"del', kind: 'token' }
    const piece = pieces[position] ?? word(position)
    for (let index = 0; index < count; index++) {
      sent += 1
      const delta =
        finish === 'tool_calls'
          ? { tool_calls: [{ index: 0, ...toolCall(asked, [piece], position === 0) }] }
          : { content: piece }
      yield event([choice(index, delta, null)], 'token')
    }
  }
  if (behaviour.errorAfter !== null) return yield failed()
  const atFinish = behaviour.usageWhere === 'finish' && behaviour.usage !== 'none' ? usage(asked, sent) : undefined
  if (behaviour.finish) {
    for (let index = 0; index < count; index++) yield event([choice(index, {}, finish)], 'finish', atFinish)
  }
  for (let time = 0; last && time < behaviour.usageTimes; time++) yield event([], 'usage', usage(asked, sent))
  if (behaviour.done) yield { data: '[DONE]', kind: 'done' }
}

function failed(): Step {
  return { data: JSON.stringify(failure(500, null)), kind: 'error' }
}

/** Numbers that depend on the text alone. */
function vector(of: unknown, dimensions: number): number[] {
  let state = 17
  for (const byte of Buffer.from(JSON.stringify(of))) state = (state * 31 + byte) % 65_521
  // Quarters of small integers are exact as float32, so the base64 and the float form carry the same numbers.
  return Array.from({ length: dimensions }, (_, index) => ((state + index * 37) % 64) / 64 - 0.5)
}

export function embeddings(body: Json, model: string, behaviour: Behaviour): Json {
  const { input } = body
  const tokenIds = Array.isArray(input) && typeof input[0] === 'number'
  const inputs: unknown[] = Array.isArray(input) && !tokenIds ? input : [input]
  const dimensions = typeof body.dimensions === 'number' ? body.dimensions : 8
  const data = inputs.map((item, index) => {
    const numbers = vector(item, dimensions)
    const base64 = body.encoding_format === 'base64'
    const embedding = base64 ? Buffer.from(Float32Array.from(numbers).buffer).toString('base64') : numbers
    return { object: 'embedding', index, embedding, ...extra(behaviour, 'embedding') }
  })
  const counted = behaviour.usageNumbers?.[0] ?? (behaviour.usage === 'zero' ? 0 : countTokens(input))
  const total = behaviour.usage === 'none' ? {} : { usage: { prompt_tokens: counted, total_tokens: counted } }
  return { object: 'list', data, model, ...total, ...extra(behaviour, 'reply') }
}

export function models(ids: readonly string[]): Json {
  return { object: 'list', data: ids.map((id) => ({ id, object: 'model', created, owned_by: 'vendor' })) }
}

/** Marks the text of every error, so that a test can see whether it was passed on. */
export const errorMarker = 'said by the scripted vendor'

export function failure(status: number, code: string | null): Json {
  const [type, usual] = kinds[status] ?? (status >= 500 ? ['server_error', null] : ['invalid_request_error', null])
  return { error: { message: `Failure ${status}, ${errorMarker}`, type, param: null, code: code ?? usual } }
}

const kinds: Readonly<Record<number, readonly [type: string, code: string | null]>> = {
  401: ['invalid_request_error', 'invalid_api_key'],
  404: ['invalid_request_error', 'model_not_found'],
  429: ['requests', 'rate_limit_exceeded'],
}
