/** From a call to the targets worth trying, in order. Pure: reads the configuration, does no I/O. @module */
import type { Call, LlmCall, Plan } from '../call.ts'
import { resolveModel } from '../config/resolve.ts'
import { type Fault, fault } from '../fault.ts'
import type { Gateway } from '../gateway.ts'
import { strategies } from '../strategies/strategies.ts'

const local: Plan = { targets: [null], on: [] }

export function makePlan(gateway: Gateway, call: Call): Plan | Fault {
  return call.kind === 'chat' || call.kind === 'completion' || call.kind === 'embedding'
    ? modelPlan(gateway, call)
    : local
}

function modelPlan(gateway: Gateway, call: LlmCall): Plan | Fault {
  const { config } = gateway
  const { model } = call.facts
  const resolved = resolveModel(config, model)
  if (resolved === null) return fault({ code: 'model_not_found', model })
  const { to, strategy, on } =
    'route' in resolved ? resolved.route : { to: resolved.targets, strategy: 'fallback' as const, on: [] }
  const usable = to.filter((target) => isUsable(config.providers.get(target.provider)))
  if (usable.length === 0) {
    const why = 'no provider behind it has a key; set the provider key in the environment'
    return fault({ code: 'upstream_error', upstream: model, status: null, why })
  }
  const ordered = strategies[strategy](usable, { random: () => gateway.random(4).readUInt32LE() / 2 ** 32 })
  const most = Math.min(call.maxAttempts ?? config.limits.maxAttempts, config.limits.maxAttempts)
  return { targets: ordered.slice(0, most), on }
}

function isUsable(provider: { lit: boolean; speaks: readonly string[] } | undefined): boolean {
  return provider?.lit === true && provider.speaks.includes('openai-chat')
}
