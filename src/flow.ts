/**
 * The one way a request goes: admit, plan, hold, execute through translate, settle, record, answer. Every kind of call
 * takes it, and however a call ends (answer, fault, hang-up, a stage that breaks) it is settled and recorded once,
 * before the caller hears the end.
 * @module
 */
import { admit } from './admit/admit.ts'
import { type Admitted, type Attempt, type Call, type Ending, endingOf, nothing, type Plan } from './call.ts'
import type { EscrowHold } from './escrow/hold.ts'
import { execute } from './execute/execute.ts'
import { Fault, fault } from './fault.ts'
import type { Gateway } from './gateway.ts'
import { makePlan } from './plan/plan.ts'
import { sizeAttempt } from './plan/size.ts'
import { goesOn } from './plan/trigger.ts'
import { factsOf } from './record/facts.ts'
import { mark } from './record/mark.ts'
import { record, type Tried } from './record/record.ts'
import { settle } from './settle/settle.ts'
import { translate } from './translate/translate.ts'

export type Walk = typeof walk

/** What has happened to a call so far. */
interface Passage {
  admitted: Admitted | null
  readonly tried: Tried[]
  /** Taken and not yet settled. */
  open: { readonly attempt: Attempt; readonly hold: EscrowHold } | null
}

/** Walks one call to its end. Never rejects. */
export async function walk(gateway: Gateway, call: Call): Promise<void> {
  const passage: Passage = { admitted: null, tried: [], open: null }
  let ending: Ending
  try {
    ending = await passThrough(gateway, call, passage)
  } catch (error) {
    ending = crashed(gateway, call, passage, error)
  }
  passage.admitted?.rates?.end(passage.tried)
  try {
    await record(gateway, { call, admitted: passage.admitted, tried: passage.tried, ending })
  } catch (error) {
    gateway.log.error({ call: call.id, error: String(error) }, 'the ledger could not be written')
    ending = endingOf('fault', { fault: fault({ code: 'store_unavailable' }) })
  }
  answer(gateway, call, passage, ending)
}

async function passThrough(gateway: Gateway, call: Call, passage: Passage): Promise<Ending> {
  const admitted = await admit(gateway, call)
  if (admitted instanceof Fault) return endingOf('fault', { fault: admitted })
  passage.admitted = admitted
  if (admitted.refusal !== null) return endingOf('fault', { fault: admitted.refusal })
  const plan = makePlan(gateway, call, admitted)
  if (plan instanceof Fault) return endingOf('fault', { fault: plan })
  return attempts(gateway, call, passage, admitted, plan)
}

/** Tries targets in order until one answers, nothing may be tried any more, or the budget refuses. */
async function attempts(
  gateway: Gateway,
  call: Call,
  passage: Passage,
  admitted: Admitted,
  plan: Plan,
): Promise<Ending> {
  let ending: Ending | null = null
  for (const target of plan.targets) {
    const sized = sizeAttempt(gateway, call, admitted, target)
    const attempt = sized instanceof Promise ? await sized : sized
    if (attempt instanceof Fault) return ending ?? endingOf('fault', { fault: attempt })
    if (admitted.caller.role === 'admin') return execute(gateway, call, admitted, attempt, null)
    const barred = admitted.rates === null ? null : await admitted.rates.enter(target)
    if (barred !== null) {
      ending ??= endingOf('fault', { fault: barred })
      if (plan.on.includes('rate_limit')) continue
      break
    }
    const taken = gateway.escrow.hold(admitted.caller.account, attempt.hold)
    const hold = taken instanceof Promise ? await taken : taken
    if (hold instanceof Fault) return ending ?? endingOf('fault', { fault: hold })
    passage.open = { attempt, hold }
    const kept = mark(gateway, call, admitted, attempt, hold, passage.tried.length + 1)
    const lost = kept instanceof Promise ? await kept : kept
    if (lost !== null) {
      hold.settle(nothing)
      passage.open = null
      return ending ?? endingOf('fault', { fault: lost })
    }
    const lane = translate(gateway, call, admitted, attempt, hold, factsOf(gateway, passage, null))
    ending = await execute(gateway, call, admitted, attempt, lane)
    close(gateway, call, passage, ending)
    if (call.reply.started || call.reply.closed || !goesOn(plan, ending)) break
  }
  return ending as Ending
}

function close(gateway: Gateway, call: Call, passage: Passage, ending: Ending): void {
  if (passage.open === null) return
  const { attempt, hold } = passage.open
  passage.tried.push({ attempt, hold, ending, settlement: settle(gateway, call, attempt, hold, ending) })
  passage.open = null
}

/** A stage broke: the caller is told so, and an open hold is settled as if the attempt had ended there. */
function crashed(gateway: Gateway, call: Call, passage: Passage, error: unknown): Ending {
  gateway.log.error({ call: call.id, error: error instanceof Error ? error.stack : String(error) }, 'a stage failed')
  const ending = endingOf('fault', { fault: fault({ code: 'internal_error' }) })
  close(gateway, call, passage, ending)
  return ending
}

function answer(gateway: Gateway, call: Call, passage: Passage, ending: Ending): void {
  const { reply } = call
  if (reply.closed) return
  const facts = factsOf(gateway, passage, ending)
  if (ending.answer !== null) reply.answer(ending.answer, facts)
  else if (ending.fault !== null) reply.fault(ending.fault, facts, ending.tail)
  else reply.finish(ending.tail)
}
