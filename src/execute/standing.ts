/** Whether a call may still be made: what was admitted may have been revoked while it waited for its turn. @module */
import type { Admitted } from '../call.ts'
import { Fault, fault } from '../fault.ts'
import type { Gateway } from '../gateway.ts'
import { standing } from '../identity/directory.ts'

/** @returns why the call is over before it began, or null */
export function ended(gateway: Gateway, { caller }: Admitted): Fault | null {
  if (caller.role === 'admin') return null
  const now = standing(caller.account, gateway.clock.now())
  return now instanceof Fault ? fault({ code: 'invalid_key', reason: 'ended' }) : null
}
