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

/**
 * A usage object in numbers. An explicit 0 stays 0; anything that is no count makes the whole object unbelievable.
 * `prompt_tokens` already includes cached tokens in this dialect.
 */
export function readUsage(value: unknown): Usage | null {
  if (typeof value !== 'object' || value === null) return null
  const usage = value as Record<string, unknown>
  const total = count(usage.total_tokens)
  // Embeddings have no output, so that some vendors name the total alone.
  const embeds = usage.prompt_tokens === undefined && usage.completion_tokens === undefined
  const input = embeds ? total : count(usage.prompt_tokens)
  const named = usage.completion_tokens === undefined && total !== null ? 0 : count(usage.completion_tokens)
  // Thinking that a vendor leaves out of its output count is in the total all the same, and on its bill.
  const output = named === null || input === null ? null : Math.max(named, (total ?? 0) - input)
  if (input === null || output === null) return null
  const prompt = (usage.prompt_tokens_details ?? {}) as Record<string, unknown>
  const completion = (usage.completion_tokens_details ?? {}) as Record<string, unknown>
  return {
    input,
    output,
    cacheRead: Math.min(input, count(prompt.cached_tokens) ?? 0),
    cacheWrite: 0,
    reasoning: Math.min(output, count(completion.reasoning_tokens) ?? 0),
    source: 'provider',
  }
}

/** A believable token count: beyond 10^9 it is a fault of the vendor, not a bill. */
function count(value: unknown): number | null {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 1e9 ? value : null
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
