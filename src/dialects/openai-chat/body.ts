/**
 * Reading an OpenAI-shaped request body without rebuilding it: the facts policy and budget need, and the byte spans
 * where the gateway may splice. Both readings (ours and the provider's) must be the same, so top-level duplicates are
 * refused.
 * @module
 */
import { isUtf8 } from 'node:buffer'
import type { LlmCall, LlmFacts, NamedSpan } from '../../call.ts'
import { type Fault, fault } from '../../fault.ts'
import { scalarEnd, skipSpace, stringAt, stringEnd } from '../../json.ts'
import { countedFacts } from './parts.ts'

/** Nesting accepted in a model request; tool schemas nest deeper than policy documents do. */
const maxDepth = 128
const maxMembers = 200
const maxModelName = 256
/**
 * Members that decide what a call is and costs. Some providers read names without regard to case, so another spelling
 * would say one thing to them and nothing to us.
 */
const judged = new Set(['model', 'stream', 'stream_options', 'max_tokens', 'max_completion_tokens', 'n', 'best_of'])

type Member = NamedSpan

/**
 * @param kind decides which member caps the output
 * @returns the facts, or an invalid_request fault that names the member
 */
export function readBody(body: Buffer, kind: LlmCall['kind']): LlmFacts | Fault {
  if (!isUtf8(body)) return refuse('body', 'is not valid UTF-8')
  let parsed: unknown
  try {
    parsed = JSON.parse(body.toString('utf8', 0, body.length))
  } catch (error) {
    return refuse('body', `is not valid JSON: ${(error as Error).message.slice(0, 120)}`)
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed))
    return refuse('body', 'must be a JSON object')
  const spans = members(body)
  if (typeof spans === 'string') return refuse('body', spans)
  return facts(parsed as Record<string, unknown>, spans, kind, body)
}

function facts(value: Record<string, unknown>, spans: Member[], kind: LlmCall['kind'], body: Buffer): LlmFacts | Fault {
  const { model, stream } = value
  const modelSpan = spans.find((m) => m.key === 'model')
  if (typeof model !== 'string' || model === '' || model.length > maxModelName || modelSpan === undefined)
    return refuse('model', 'must name a model')
  if (stream !== undefined && stream !== null && typeof stream !== 'boolean')
    return refuse('stream', 'must be a boolean')
  const choices = multiplier(value)
  if (choices === null) return refuse('n', 'must be an integer from 1 to 128')
  const misspelt = spans.find(({ key }) => {
    const lower = key.toLowerCase()
    return lower !== key && judged.has(lower)
  })
  if (misspelt !== undefined)
    return refuse('body', `has the key ${JSON.stringify(misspelt.key)}; write it in lower case`)
  const cap = kind === 'embedding' ? null : outputCap(value, spans)
  if (cap === 'bad') return refuse('max_tokens', 'must be a positive integer')
  const options = value.stream_options as Record<string, unknown> | null | undefined
  if (options !== undefined && options !== null && typeof options !== 'object')
    return refuse('stream_options', 'must be an object')
  return {
    model,
    modelSpan,
    stream: stream === true && kind !== 'embedding',
    wantsUsage: options?.include_usage === true,
    streamOptionsSpan: spans.find((m) => m.key === 'stream_options') ?? null,
    streamOptions: options ?? null,
    cap,
    unsetCaps: cap === null ? capNames.flatMap((name) => spans.find(({ key }) => key === name) ?? []) : [],
    choices: choices * (kind === 'completion' ? prompts(value) : 1),
    ...countedFacts(value, body.length),
    bytes: body.length,
    bodyStart: body.indexOf(0x7b) + 1,
  }
}

/** Whichever of `n` and `best_of` is larger: every one of those answers is generated and billed. */
function multiplier(value: Record<string, unknown>): number | null {
  let most = 1
  for (const name of ['n', 'best_of']) {
    const given = value[name]
    if (given === undefined || given === null) continue
    if (typeof given !== 'number' || !Number.isInteger(given) || given < 1 || given > 128) return null
    most = Math.max(most, given)
  }
  return most
}

/** Legacy completions answer every prompt of a list; a list of numbers is one prompt in tokens. */
function prompts({ prompt }: Record<string, unknown>): number {
  return Array.isArray(prompt) && typeof prompt[0] !== 'number' ? Math.max(1, prompt.length) : 1
}

const capNames = ['max_tokens', 'max_completion_tokens'] as const

/** `max_completion_tokens` where both are given: it is the newer name and the one providers then obey. */
function outputCap(value: Record<string, unknown>, spans: Member[]): LlmFacts['cap'] | 'bad' {
  let found: LlmFacts['cap'] = null
  for (const name of capNames) {
    const given = value[name]
    if (given === undefined || given === null) continue
    if (typeof given !== 'number' || !Number.isSafeInteger(given) || given < 1) return 'bad'
    const span = spans.find((m) => m.key === name) as Member
    // Two caps: the larger is what may be spent, whichever of them the provider reads.
    found = { name, value: given, span, also: found }
  }
  return found
}

/** Top-level members with the span of their value. The syntax is known to be valid. @returns what is wrong, as text */
function members(bytes: Buffer): Member[] | string {
  const found: Member[] = []
  let i = skipSpace(bytes, bytes.indexOf(0x7b) + 1)
  while (bytes[i] === 0x22) {
    const keyEnd = stringEnd(bytes, i)
    const key = stringAt(bytes, i, keyEnd)
    const start = skipSpace(bytes, skipSpace(bytes, keyEnd) + 1)
    const end = valueEnd(bytes, start)
    if (end === -1) return `is nested deeper than ${maxDepth}`
    for (const other of found) if (other.key === key) return `has the key ${JSON.stringify(key)} twice`
    if (found.push({ key, start, end }) > maxMembers) return `has more than ${maxMembers} members`
    i = skipSpace(bytes, end)
    if (bytes[i] !== 0x2c) break
    i = skipSpace(bytes, i + 1)
  }
  return found
}

function valueEnd(bytes: Buffer, at: number): number {
  const first = bytes[at]
  if (first === 0x22) return stringEnd(bytes, at)
  if (first !== 0x7b && first !== 0x5b) return scalarEnd(bytes, at)
  let depth = 0
  let i = at
  for (;;) {
    const byte = bytes[i]
    if (byte === 0x22) {
      i = stringEnd(bytes, i)
      continue
    }
    if (byte === 0x7b || byte === 0x5b) {
      if (++depth > maxDepth) return -1
    } else if (byte === 0x7d || byte === 0x5d) {
      if (--depth === 0) return i + 1
    }
    i++
  }
}

function refuse(where: string, why: string): Fault {
  return fault({ code: 'invalid_request', where, why })
}
