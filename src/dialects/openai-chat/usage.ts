/** Reading what an OpenAI-shaped answer says it used. @module */
import type { Usage } from '../../call.ts'
import { stringEnd } from '../../json.ts'

const usageKey = Buffer.from('"usage"')

/**
 * Usage from a whole reply, by its last `"usage"` key, without parsing the rest.
 *
 * @returns null when the reply has none or it is not believable
 */
export function usageOfReply(body: Buffer): Usage | null {
  let at = body.lastIndexOf(usageKey)
  while (at !== -1) {
    const start = objectAfter(body, at + usageKey.length)
    if (start !== -1) {
      const end = objectEnd(body, start)
      if (end !== -1) {
        try {
          const usage = readUsage(JSON.parse(body.toString('utf8', start, end)))
          if (usage !== null) return usage
        } catch {
          return null
        }
      }
    }
    at = at === 0 ? -1 : body.lastIndexOf(usageKey, at - 1)
  }
  return null
}

/**
 * A usage object in numbers. An explicit 0 stays 0; anything that is no count makes the whole object unbelievable.
 * `prompt_tokens` already includes cached tokens in this dialect.
 */
export function readUsage(value: unknown): Usage | null {
  if (typeof value !== 'object' || value === null) return null
  const usage = value as Record<string, unknown>
  const input = count(usage.prompt_tokens)
  const total = count(usage.total_tokens)
  const output =
    usage.completion_tokens === undefined && input !== null && total !== null
      ? total - input
      : count(usage.completion_tokens)
  if (input === null || output === null || output < 0) return null
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
