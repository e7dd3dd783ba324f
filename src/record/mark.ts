/** Marking an attempt that is about to leave. @module */
import type { Admitted, Attempt, Call } from '../call.ts'
import type { EscrowHold } from '../escrow/hold.ts'
import { type Fault, fault } from '../fault.ts'
import type { Gateway } from '../gateway.ts'
import { lineHead, lineId } from './record.ts'

/**
 * What leaves the gateway is marked first, so that it counts even if this process dies before it is recorded.
 *
 * @returns why the attempt must not leave, or null; a promise only where the store has to be asked
 */
export function mark(
  gateway: Gateway,
  call: Call,
  admitted: Admitted,
  { target }: Attempt,
  hold: EscrowHold,
  number: number,
): Fault | null | Promise<Fault | null> {
  if (target === null && call.kind !== 'tool-call') return null
  const failed = (error: unknown) => {
    gateway.log.error({ call: call.id, error: String(error) }, 'a dispatch could not be marked')
    return fault({ code: 'store_unavailable' })
  }
  try {
    const kept = hold.dispatch({
      id: lineId(call, number),
      at: call.at,
      head: lineHead(call, admitted, target, number),
    })
    return kept instanceof Promise ? kept.then(() => null, failed) : null
  } catch (error) {
    return failed(error)
  }
}
