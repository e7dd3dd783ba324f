/** Reading what an OpenAI-shaped answer says it used. @module */
import type { Usage } from '../../call.ts'
import { stringEnd } from '../../json.ts'

const usageKey = Buffer.from('"usage"')

/**
 * Usage from a whole reply, by its last `"usage"` key, without parsing the rest. Some vendors break it down again in
 * inner objects; where the last one is not a member of the reply itself, the reply is parsed and the outermost counts.
 *
 * @returns null when the reply has none or it is not believable
 */
export function usageOfReply(body: Buffer): Usage | null {
  const at = body.lastIndexOf(usageKey)
  if (at === -1) return null
  const start = objectAfter(body, at + usageKey.length)
  const end = start === -1 ? -1 : objectEnd(body, start)
  if (end === -1 || !endsOutermost(body, end)) return outermost(body)
  return readUsage(parsed(body, start, end))
}

/** Whether what follows closes the reply alone: then the object that ended was a member of the reply itself. */
function endsOutermost(body: Buffer, from: number): boolean {
  let depth = 1
  let i = from
  while (i < body.length) {
    const byte = body[i]
    if (byte === 0x22) {
      i = stringEnd(body, i)
      continue
    }
    if (byte === 0x7b || byte === 0x5b) depth++
    else if (byte === 0x7d || byte === 0x5d) depth--
    i++
  }
  return depth === 0
}

function outermost(body: Buffer): Usage | null {
  const reply = parsed(body, 0, body.length)
  return typeof reply === 'object' && reply !== null ? readUsage((reply as { usage?: unknown }).usage) : null
}

function parsed(body: Buffer, start: number, end: number): unknown {
  try {
    return JSON.parse(body.toString('utf8', start, end)) as unknown
  } catch {
    return null
  }
}

type Json = Readonly<Record<string, unknown>>

/**
 * A usage object in numbers. An explicit 0 stays 0; anything that is no count makes the whole object unbelievable.
 * `prompt_tokens` already includes cached tokens in this dialect.
 */
export function readUsage(value: unknown): Usage | null {
  if (typeof value !== 'object' || value === null) return null
  const usage = value as Json
  const prompt = recordOf(usage.prompt_tokens_details)
  const completion = recordOf(usage.completion_tokens_details)
  const told = {
    total: usage.total_tokens,
    prompt: usage.prompt_tokens,
    completion: usage.completion_tokens,
    reasoning: completion.reasoning_tokens ?? usage.reasoning_tokens,
    audioInput: prompt.audio_tokens,
    audioOutput: completion.audio_tokens,
    ...cacheCounts(usage, prompt),
  }
  for (const given of Object.values(told)) if (given !== undefined && given !== null && !isCount(given)) return null
  return usageFrom(told as { readonly [K in keyof typeof told]: number | null | undefined })
}

type Told = Readonly<
  Record<
    | 'total'
    | 'prompt'
    | 'completion'
    | 'reasoning'
    | 'audioInput'
    | 'audioOutput'
    | keyof ReturnType<typeof cacheCounts>,
    number | null | undefined
  >
>

/**
 * Where vendors say what passed a cache: as a detail of the prompt (OpenAI, OpenRouter, LiteLLM), beside it (DeepSeek),
 * or under Anthropic's names.
 */
function cacheCounts(usage: Json, prompt: Json) {
  const split = recordOf(usage.cache_creation ?? prompt.cache_creation ?? prompt.cache_creation_token_details)
  return {
    read: prompt.cached_tokens ?? usage.prompt_cache_hit_tokens,
    written: prompt.cache_write_tokens ?? prompt.cache_creation_tokens,
    readBeside: usage.cache_read_input_tokens,
    writtenBeside: usage.cache_creation_input_tokens,
    short: split.ephemeral_5m_input_tokens,
    long: split.ephemeral_1h_input_tokens,
  }
}

function usageFrom(told: Told): Usage | null {
  // Embeddings have no output, so that some vendors name the total alone.
  const embeds = (told.prompt ?? null) === null && (told.completion ?? null) === null
  const prompt = (embeds ? told.total : told.prompt) ?? null
  const total = told.total ?? null
  const completion = told.completion ?? (total === null ? null : 0)
  if (prompt === null || completion === null) return null
  // Anthropic's names may come with Anthropic's meaning: then what passed the cache is no part of the prompt.
  const beside = (told.readBeside ?? 0) + (told.writtenBeside ?? 0)
  const input = beside > prompt ? prompt + beside : prompt
  const cacheWriteLong = Math.min(input, told.long ?? 0)
  const written = told.written ?? told.writtenBeside ?? 0
  // Thinking that a vendor leaves out of its output count is in the total all the same, and on its bill.
  const said = Math.max(completion, (total ?? 0) - input)
  const reasoning = told.reasoning ?? 0
  const output = reasoning > said ? said + reasoning : said
  return {
    input,
    output,
    cacheRead: Math.min(input, told.read ?? told.readBeside ?? 0),
    cacheWrite: Math.min(input, Math.max(written, (told.short ?? 0) + cacheWriteLong)),
    cacheWriteLong,
    reasoning,
    audioInput: Math.min(input, told.audioInput ?? 0),
    audioOutput: Math.min(output, told.audioOutput ?? 0),
    source: 'provider',
  }
}

function recordOf(value: unknown): Json {
  return typeof value === 'object' && value !== null ? (value as Json) : {}
}

/** A believable token count: beyond 10^9 it is a fault of the vendor, not a bill. */
function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 1e9
}

/** Start of the object behind `: `, or -1 when the value is something else (`null`). */
function objectAfter(body: Buffer, at: number): number {
  let i = at
  while (body[i] === 0x20 || body[i] === 0x0a || body[i] === 0x0d || body[i] === 0x09) i++
  if (body[i] !== 0x3a) return -1
  i++
  while (body[i] === 0x20 || body[i] === 0x0a || body[i] === 0x0d || body[i] === 0x09) i++
  return body[i] === 0x7b ? i : -1
}

function objectEnd(body: Buffer, start: number): number {
  let depth = 0
  let i = start
  while (i < body.length) {
    const byte = body[i]
    if (byte === 0x22) {
      i = stringEnd(body, i)
      continue
    }
    if (byte === 0x7b) depth++
    else if (byte === 0x7d && --depth === 0) return i + 1
    i++
  }
  return -1
}
