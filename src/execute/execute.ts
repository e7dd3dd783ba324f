/** The only stage that talks to the outside: one executor per kind of call. @module */
import type { Admitted, Answer, Attempt, Call, CallKind, Ending, Lane } from '../call.ts'
import { endingOf } from '../call.ts'
import { Fault } from '../fault.ts'
import type { Gateway } from '../gateway.ts'
import { admin } from './admin.ts'
import { callModel } from './llm.ts'
import { listModels } from './models.ts'
import { session } from './session.ts'
import { callTool, listTools } from './tools.ts'

type CallOf<K extends CallKind> = Extract<Call, { readonly kind: K }>
type Local<K extends CallKind> = (
  gateway: Gateway,
  call: CallOf<K>,
  admitted: Admitted,
) => Answer | Fault | Promise<Answer | Fault>

/** Calls answered from what the gateway knows. */
const local: { readonly [K in Exclude<CallKind, 'chat' | 'completion' | 'embedding' | 'tool-call'>]: Local<K> } = {
  'model-list': listModels,
  unreadable: (_, call) => call.flaw,
  'mcp-protocol': (_, call, { caller }) => call.answer(caller),
  'tool-list': listTools,
  session,
  admin,
}

/** @returns how the attempt ended; never rejects for anything an upstream does */
export function execute(
  gateway: Gateway,
  call: Call,
  admitted: Admitted,
  attempt: Attempt,
  lane: Lane | null,
): Promise<Ending> {
  switch (call.kind) {
    case 'chat':
    case 'completion':
    case 'embedding':
      return callModel(gateway, call, admitted, attempt, lane as Lane)
    case 'tool-call':
      return callTool(gateway, call, admitted)
    default:
      return answerLocally(gateway, call, admitted)
  }
}

async function answerLocally(gateway: Gateway, call: CallOf<keyof typeof local>, admitted: Admitted): Promise<Ending> {
  const run = local[call.kind] as Local<typeof call.kind>
  const answer = await run(gateway, call as never, admitted)
  return answer instanceof Fault ? endingOf('fault', { fault: answer }) : endingOf('answered', { answer })
}
