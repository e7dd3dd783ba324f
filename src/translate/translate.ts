/** From what upstream says to what the caller hears. Same dialect on both sides: bytes pass through. @module */
import type { Admitted, Attempt, Call, Hold, Lane, ReplyFacts } from '../call.ts'
import type { Gateway } from '../gateway.ts'
import { laneOf } from './lane.ts'
import { meterOf } from './meter.ts'

/**
 * @param hold of the attempt; that of a stream grows while it runs
 * @returns the lane of a model call; null for calls whose answer is a value that the door renders itself
 */
export function translate(
  gateway: Gateway,
  call: Call,
  admitted: Admitted,
  attempt: Attempt,
  hold: Hold,
  facts: ReplyFacts,
): Lane | null {
  if (call.kind !== 'chat' && call.kind !== 'completion' && call.kind !== 'embedding') return null
  const { caller } = admitted
  const meter = caller.role === 'holder' ? meterOf({ gateway, call, account: caller.account, attempt, hold }) : null
  return laneOf(gateway.clock, call, attempt, facts, meter)
}
