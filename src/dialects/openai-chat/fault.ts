/** Faults in OpenAI's shape: a body for HTTP errors, an event for broken streams. @module */
import { explain, type FaultBody, status } from '../../fault.ts'

/** The JSON body. `type` follows OpenAI's own names so that SDKs choose the right exception. */
export function faultBody(fault: FaultBody, requestId: string): Buffer {
  return Buffer.from(JSON.stringify({ error: errorObject(fault, requestId) }))
}

/** A terminal error event; nothing follows it, so the stream never looks complete. */
export function faultEvent(fault: FaultBody, requestId: string): Buffer {
  return Buffer.from(`data: ${JSON.stringify({ error: errorObject(fault, requestId) })}\n\n`)
}

function errorObject(fault: FaultBody, requestId: string): Record<string, unknown> {
  const evidence: Record<string, unknown> = {}
  if (fault.code === 'budget_exhausted' || fault.code === 'budget_too_small') {
    evidence.limit = fault.unit
    evidence.account = fault.account
    evidence.resets_at = fault.resetsAt === null ? null : new Date(fault.resetsAt).toISOString()
  }
  return {
    message: explain(fault),
    type: typeOf(status(fault)),
    param: fault.code === 'invalid_request' ? fault.where : null,
    code: fault.code,
    request_id: requestId,
    ...evidence,
  }
}

function typeOf(http: number): string {
  if (http === 401) return 'authentication_error'
  if (http === 403) return 'permission_error'
  if (http === 429) return 'rate_limit_error'
  return http < 500 ? 'invalid_request_error' : 'api_error'
}
