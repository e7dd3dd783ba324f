/** The models a key may use. @module */
import type { Admitted, Answer, ModelListCall } from '../call.ts'
import { listModels as named } from '../config/resolve.ts'
import { type Fault, fault } from '../fault.ts'
import type { Gateway } from '../gateway.ts'
import { modelAllowed } from '../policy/models.ts'

/** OpenAI's list shape. `owned_by` is the provider, or `gatehouse` for a route. */
export function listModels(gateway: Gateway, call: ModelListCall, { caller }: Admitted): Answer | Fault {
  if (caller.role !== 'holder') return fault({ code: 'not_found', what: 'The list' })
  const data = named(gateway.config)
    .filter(({ names }) => modelAllowed(caller.account, names).allowed)
    .map(({ id, owner }) => ({ id, object: 'model', created: 0, owned_by: owner }))
  if (call.model === null) return { kind: 'value', status: 200, value: { object: 'list', data } }
  const row = data.find(({ id }) => id === call.model)
  return row === undefined
    ? fault({ code: 'model_not_found', model: call.model })
    : { kind: 'value', status: 200, value: row }
}
