/** From what upstream says to what the caller hears. Same dialect on both sides: bytes pass through. @module */
import type { Attempt, Call, Lane, ReplyFacts } from '../call.ts'
import type { Gateway } from '../gateway.ts'
import { laneOf } from './lane.ts'

/** @returns the lane of a model call; null for calls whose answer is a value that the door renders itself */
export function translate(gateway: Gateway, call: Call, attempt: Attempt, facts: ReplyFacts): Lane | null {
  if (call.kind !== 'chat' && call.kind !== 'completion' && call.kind !== 'embedding') return null
  return laneOf(gateway.clock, call, attempt, facts)
}
