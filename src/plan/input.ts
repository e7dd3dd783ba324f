/** How many tokens a request can be at most: by its length at once, or counted. @module */
import type { LlmCall } from '../call.ts'
import { textsOf } from '../dialects/openai-chat/parts.ts'
import { familyOf, longestCounted, mediaOf, overheadOf, type TokenCounter } from '../tokens.ts'

/** @returns a closer bound, or null when it could not be had */
export async function countedBound(
  counter: TokenCounter,
  call: LlmCall,
  model: string,
  context: number | null,
): Promise<number | null> {
  // Not even parsed again.
  if (call.facts.textBytes > longestCounted) return null
  const family = familyOf(model)
  const { texts, messages } = textsOf(call.body)
  const counted = await counter.count(family, texts)
  if (counted === null) return null
  const around = call.kind === 'chat' ? overheadOf(family, messages, call.facts.tools) : 0
  return counted + around + mediaOf(call.facts, family, context)
}
