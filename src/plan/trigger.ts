/** Which endings let the next target be tried. Pure. @module */
import type { Ending, Plan, Trigger } from '../call.ts'

/** Whether the plan's triggers cover this ending. The caller's own mistakes never do. */
export function goesOn(plan: Plan, ending: Ending): boolean {
  const trigger = triggerOf(ending)
  return trigger !== null && plan.on.includes(trigger)
}

function triggerOf({ outcome, fault }: Ending): Trigger | null {
  if (outcome !== 'fault' || fault === null) return null
  switch (fault.body.code) {
    case 'rate_limited':
      return 'rate_limit'
    case 'upstream_timeout':
      return 'timeout'
    case 'upstream_error': {
      const { status } = fault.body
      if (status === 408) return 'timeout'
      // Below 400 is what cannot be used: a stream that failed before its first event, a redirect, an empty answer.
      return status === null || status >= 500 || status < 400 ? 'error' : null
    }
    default:
      return null
  }
}
