/**
 * The one decision point: who asks, and whether that caller may make this call. Every surface is decided here and
 * nowhere else; a list is the same question asked without arguments.
 * @module
 */
import type { Admitted, Call, Caller, CallKind, LlmCall, Tool, ToolCall } from '../call.ts'
import { resolveModel } from '../config/resolve.ts'
import { Fault, type FaultBody, fault } from '../fault.ts'
import type { Gateway } from '../gateway.ts'
import { decide } from '../policy/decide.ts'
import { modelAllowed } from '../policy/models.ts'
import { modelWithinRates, toolWithinRates } from './rates.ts'

/** @returns what was decided, or a fault where nobody is known; a promise only when the key is not in memory yet */
export function admit(gateway: Gateway, call: Call): Admitted | Fault | Promise<Admitted | Fault> {
  if (gateway.draining) return fault({ code: 'draining' })
  const caller = gateway.directory.identify(call.credential)
  return caller instanceof Promise ? caller.then((found) => judge(gateway, call, found)) : judge(gateway, call, caller)
}

function judge(gateway: Gateway, call: Call, caller: Caller | Fault): Admitted | Fault | Promise<Admitted> {
  if (caller instanceof Fault) return caller
  if (call.kind === 'unreadable') return { caller, tool: null, rule: null, refusal: call.flaw, rates: null }
  if (call.kind === 'admin') {
    return caller.role === 'admin'
      ? allow(caller)
      : refuse(caller, { code: 'forbidden', why: 'This needs the admin key.' })
  }
  if (caller.role === 'admin') {
    return refuse(caller, {
      code: 'forbidden',
      why: 'The admin key makes no calls. Create a key with it and use that one.',
    })
  }
  // Money fails closed: what could not be written to the ledger is not begun.
  if (metered.has(call.kind) && !gateway.store.healthy()) return fault({ code: 'store_unavailable' })
  if (call.kind === 'tool-call') return judgeTool(gateway, call, caller)
  if (call.kind === 'chat' || call.kind === 'completion' || call.kind === 'embedding')
    return judgeModel(gateway, call, caller)
  return allow(caller)
}

const metered: ReadonlySet<CallKind> = new Set(['chat', 'completion', 'embedding', 'tool-call', 'session'])
type Holder = Extract<Caller, { readonly role: 'holder' }>

function judgeModel(gateway: Gateway, call: LlmCall, caller: Holder): Admitted | Promise<Admitted> {
  const { model } = call.facts
  const resolved = resolveModel(gateway.config, model)
  const verdict = modelAllowed(
    caller.account,
    resolved === null || 'route' in resolved ? [model] : [model, resolved.canonical],
  )
  // An unknown model that the key could never use is refused like a known one: names are not to be guessed.
  if (!verdict.allowed) return refuse(caller, { code: 'model_not_allowed', model, rule: verdict.rule }, verdict.rule)
  if (resolved === null) return refuse(caller, { code: 'model_not_found', model })
  return modelWithinRates(gateway, call, caller, resolved, allow(caller, null, verdict.rule))
}

function judgeTool(gateway: Gateway, call: ToolCall, caller: Holder): Admitted | Promise<Admitted> {
  const tool = gateway.catalogue.find(call.server, call.name)
  if (tool === null) return refuse(caller, { code: 'tool_not_found', tool: call.name })
  const { policy } = gateway.config
  const decision = decide(policy, { account: caller.account, tool, args: call.args })
  if (decision.wouldDeny !== null) {
    const { id: rule } = decision.wouldDeny
    gateway.log.info(
      { call: call.id, account: caller.account.id, tool: tool.outward, rule },
      'a rule on trial would deny this',
    )
  }
  if (decision.allowed) {
    const mismatch = call.verify?.(tool) ?? null
    return mismatch === null
      ? toolWithinRates(gateway, call, caller, allow(caller, tool, decision.rule))
      : refuse(caller, mismatch.body, decision.rule)
  }
  // A tool that no arguments could open looks like one that does not exist.
  if (!decide(policy, { account: caller.account, tool, args: null }).allowed) {
    return refuse(caller, { code: 'tool_not_found', tool: call.name }, decision.rule)
  }
  const reason = decision.reason ?? 'the conditions of the rule are not met'
  return refuse(caller, { code: 'arguments_not_allowed', tool: call.name, rule: decision.rule, reason }, decision.rule)
}

function allow(caller: Caller, tool: Tool | null = null, rule: string | null = null): Admitted {
  return { caller, tool, rule, refusal: null, rates: null }
}

function refuse(caller: Caller, why: FaultBody, rule: string | null = null): Admitted {
  return { caller, tool: null, rule, refusal: fault(why), rates: null }
}
