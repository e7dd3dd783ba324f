/**
 * Every way to fail, with its evidence. `status`, `retryAfter` and `explain` are exhaustive switches: a new fault does
 * not compile until it is placed. The edge renders a fault once, in the caller's dialect.
 * @module
 */

export type FaultBody =
  | { code: 'invalid_request'; where: string; why: string; status?: 400 | 405 | 413 | 415 | 421 | 431 }
  /** `ended`: while a call was at work the key, or an account above it, was revoked or expired. */
  | { code: 'invalid_key'; reason: 'missing' | 'malformed' | 'unknown' | 'expired' | 'revoked' | 'ended' }
  | { code: 'forbidden'; why: string }
  | { code: 'model_not_allowed'; model: string; rule: string }
  | { code: 'model_not_found'; model: string }
  | { code: 'tool_not_found'; tool: string }
  | { code: 'arguments_not_allowed'; tool: string; rule: string; reason: string }
  | { code: 'not_found'; what: string }
  | { code: 'connect_required'; server: string; url: string }
  | { code: 'budget_exhausted'; unit: string; account: string; max: number; resetsAt: number | null }
  | {
      code: 'budget_too_small'
      unit: string
      account: string
      remaining: number
      needed: number
      resetsAt: number | null
    }
  | { code: 'budget_contended'; unit: string; account: string; retryAfterMs: number }
  /** `scope`: of a limit of ours, what it counts per; absent where an upstream said so. */
  | { code: 'rate_limited'; by: string; scope?: string; retryAfterMs: number }
  /** `unsent`: the request certainly never left, so it cannot have cost or changed anything. */
  | { code: 'upstream_error'; upstream: string; status: number | null; why: string; unsent?: boolean }
  | { code: 'upstream_timeout'; upstream: string; afterMs: number }
  | { code: 'upstream_truncated'; upstream: string }
  | { code: 'overloaded'; retryAfterMs: number }
  | { code: 'draining' }
  | { code: 'store_unavailable' }
  | { code: 'internal_error' }

export type FaultCode = FaultBody['code']

/** A failure as a value. Not an Error: refusing is ordinary work and must not cost a stack trace. */
export class Fault {
  readonly body: FaultBody
  constructor(body: FaultBody) {
    this.body = body
  }
  get code(): FaultCode {
    return this.body.code
  }
}

export function fault(body: FaultBody): Fault {
  return new Fault(body)
}

/** HTTP status of a fault. */
export function status(f: FaultBody): number {
  switch (f.code) {
    case 'invalid_request':
      return f.status ?? 400
    case 'invalid_key':
      return 401
    case 'forbidden':
    case 'model_not_allowed':
    case 'arguments_not_allowed':
    case 'connect_required':
      return 403
    case 'model_not_found':
    case 'tool_not_found':
    case 'not_found':
      return 404
    case 'budget_exhausted':
    case 'budget_too_small':
    case 'budget_contended':
    case 'rate_limited':
      return 429
    case 'upstream_error':
    case 'upstream_truncated':
      return 502
    case 'upstream_timeout':
      return 504
    case 'overloaded':
    case 'draining':
    case 'store_unavailable':
      return 503
    case 'internal_error':
      return 500
  }
}

/** Whether an upstream may have acted on a call that ended so: where no record can tell, it counts as if it had. */
export function mayHaveActed(f: FaultBody): boolean {
  if (f.code === 'upstream_error') return f.unsent !== true
  return f.code !== 'tool_not_found' && f.code !== 'connect_required'
}

/** Seconds to wait before the same call can succeed, or null when waiting does not help. */
export function retryAfter(f: FaultBody): number | null {
  switch (f.code) {
    case 'budget_contended':
    case 'rate_limited':
    case 'overloaded':
      return Math.max(1, Math.ceil(f.retryAfterMs / 1000))
    case 'draining':
    case 'store_unavailable':
      return 1
    case 'invalid_request':
    case 'invalid_key':
    case 'forbidden':
    case 'model_not_allowed':
    case 'arguments_not_allowed':
    case 'connect_required':
    case 'model_not_found':
    case 'tool_not_found':
    case 'not_found':
    case 'budget_exhausted':
    case 'budget_too_small':
    case 'upstream_error':
    case 'upstream_timeout':
    case 'upstream_truncated':
    case 'internal_error':
      return null
  }
}

/** The message for the caller: what happened and what to do. Carries no secret and nothing an upstream wrote. */
export function explain(f: FaultBody): string {
  switch (f.code) {
    case 'invalid_request':
      return `${f.where}: ${f.why}`
    case 'invalid_key':
      if (f.reason === 'ended') return 'The key stopped being valid while this call was at work. Send a valid one.'
      return 'The key is missing or not valid. Send a Gatehouse key as "Authorization: Bearer sk-gate-...".'
    case 'forbidden':
      return f.why
    case 'model_not_allowed':
      return `This key may not use the model "${f.model}" (rule ${f.rule}). Ask for it in the key's models list.`
    case 'arguments_not_allowed':
      return `The tool "${f.tool}" may not be called with these arguments (rule ${f.rule}): ${f.reason}`
    case 'connect_required':
      return `"${f.server}" needs a connection of yours first. Open ${f.url} and try again.`
    case 'model_not_found':
      return `No route, model or provider/model is named "${f.model}". GET /v1/models lists what this key may use.`
    case 'tool_not_found':
      return `Unknown tool: ${f.tool}`
    case 'not_found':
      return `${f.what} does not exist.`
    case 'budget_exhausted':
      return `The limit of ${quantity(f.unit, f.max)} on account ${f.account} is used up${resets(f.resetsAt)}.`
    case 'budget_too_small':
      return (
        `This request may need ${quantity(f.unit, f.needed)}, but ${quantity(f.unit, f.remaining)} remain on account ` +
        `${f.account}${resets(f.resetsAt)}. Make the request smaller or ask for a higher limit.`
      )
    case 'budget_contended':
      return `The rest of the ${f.unit} limit on account ${f.account} is held by calls in flight. Try again shortly.`
    case 'rate_limited':
      return `Too many requests (${f.by}). Try again in ${retryAfter(f)} s.`
    case 'upstream_error':
      return `${f.upstream} failed${f.status === null ? '' : ` with status ${f.status}`}: ${f.why}`
    case 'upstream_timeout':
      return `${f.upstream} did not answer within ${f.afterMs} ms.`
    case 'upstream_truncated':
      return `${f.upstream} ended its answer before it was complete. What was received is incomplete.`
    case 'overloaded':
      return 'The gateway is at its limit of concurrent requests. Try again shortly.'
    case 'draining':
      return 'The gateway is shutting down. Try again; another instance will answer.'
    case 'store_unavailable':
      return 'The ledger cannot be written, so no budgeted call is admitted. Try again shortly.'
    case 'internal_error':
      return 'The gateway failed. The request id in x-gatehouse-request-id finds the cause in its log.'
  }
}

/** An amount with its unit: `$0.42`, `1800 tokens`. */
function quantity(unit: string, value: number): string {
  return unit === 'usd' ? amount(unit, value) : `${value} ${unit.replace('_', ' ')}`
}

/** An amount as people write it: dollars with up to six digits, the rest as they are. */
export function amount(unit: string, value: number): string {
  if (unit !== 'usd') return String(value)
  const rest = value % 1_000_000
  const whole = (value - rest) / 1_000_000
  if (rest === 0) return `$${whole}`
  let digits = String(1_000_000 + rest).slice(1)
  while (digits.endsWith('0')) digits = digits.slice(0, -1)
  return `$${whole}.${digits}`
}

function resets(at: number | null): string {
  return at === null ? '' : `; it resets at ${new Date(at).toISOString()}`
}
