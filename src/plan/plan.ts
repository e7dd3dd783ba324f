/** From a call to the targets worth trying, in order. Pure: reads the configuration, does no I/O. @module */
import type { Admitted, Call, LlmCall, ModelTarget, Plan } from '../call.ts'
import type { Config, Route } from '../config/config.ts'
import { resolveModel } from '../config/resolve.ts'
import { type Fault, fault } from '../fault.ts'
import type { Gateway } from '../gateway.ts'
import { strategies } from '../strategies/strategies.ts'

const local: Plan = { targets: [null], on: [] }

export function makePlan(gateway: Gateway, call: Call, admitted: Admitted): Plan | Fault {
  return call.kind === 'chat' || call.kind === 'completion' || call.kind === 'embedding'
    ? modelPlan(gateway, call, admitted)
    : local
}

function modelPlan(gateway: Gateway, call: LlmCall, admitted: Admitted): Plan | Fault {
  const { config } = gateway
  const { model } = call.facts
  const resolved = resolveModel(config, model)
  if (resolved === null) return fault({ code: 'model_not_found', model })
  const { strategy, on } = 'route' in resolved ? resolved.route : { strategy: 'fallback' as const, on: [] }
  const cheaper = 'route' in resolved ? cheaperTargets(gateway, resolved.route, admitted) : []
  const usable =
    cheaper.length > 0 ? cheaper : usableOf(config, 'route' in resolved ? resolved.route.to : resolved.targets)
  if (usable.length === 0) {
    const why = 'no provider behind it has a key; set the provider key in the environment'
    return fault({ code: 'upstream_error', upstream: model, status: null, why })
  }
  const ordered = strategies[strategy](usable, { random: () => gateway.random(4).readUInt32LE() / 2 ** 32 })
  const most = Math.min(call.maxAttempts ?? config.limits.maxAttempts, config.limits.maxAttempts)
  return { targets: ordered.slice(0, most), on }
}

/** What a route has for callers whose budget runs low; nothing while it does not, or where none of it can be called. */
function cheaperTargets(gateway: Gateway, { whenBudget }: Route, { caller }: Admitted): readonly ModelTarget[] {
  if (whenBudget === null || caller.role === 'admin') return []
  if (gateway.escrow.shareLeft(caller.account) >= whenBudget.below) return []
  return usableOf(gateway.config, whenBudget.to)
}

function usableOf(config: Config, targets: readonly ModelTarget[]): readonly ModelTarget[] {
  return targets.filter((target) => isUsable(config.providers.get(target.provider)))
}

function isUsable(provider: { lit: boolean; speaks: readonly string[] } | undefined): boolean {
  return provider?.lit === true && provider.speaks.includes('openai-chat')
}
