/** A fault as an MCP client is told: as a tool result a model can react to, as a JSON-RPC error, or as a status. @module */
import { explain, type Fault, retryAfter, status } from '../fault.ts'
import { errorBody, type Json, type RpcId, resultBody, rpcCodes } from '../mcp/wire/jsonrpc.ts'
import { ownPrefix } from '../mcp/wire/meta.ts'
import type { Codec } from '../mcp/wire/revision.ts'

export interface Told {
  readonly status: number
  /** Name, value, name, value... */
  readonly headers: readonly string[]
  readonly body: Json
}

export const codeKey = `${ownPrefix}code`

/**
 * @param id of the request, or null where there was none to read
 * @param codec set for `tools/call`: what the model can react to becomes a result with `isError`
 */
export function tell(fault: Fault, id: RpcId | null, codec: Codec | null): Told {
  const { body } = fault
  const wait = retryAfter(body)
  const headers = wait === null ? [] : ['retry-after', String(wait)]
  const error = (http: number, code: number): Told => ({
    status: http,
    headers,
    body: errorBody(id, { code, message: explain(body), data: { code: body.code } }),
  })
  switch (body.code) {
    case 'invalid_key':
      headers.push('www-authenticate', 'Bearer realm="gatehouse"')
      return error(401, rpcCodes.invalidRequest)
    case 'tool_not_found':
      return {
        status: 200,
        headers,
        body: errorBody(id, { code: rpcCodes.invalidParams, message: `Unknown tool: ${body.tool}` }),
      }
    case 'invalid_request':
      // What a caller still sends after a refusal is not read.
      if (body.status === 413) headers.push('connection', 'close')
      return error(codec === null ? status(body) : 200, rpcCodes.invalidParams)
    case 'forbidden':
    case 'not_found':
      return error(status(body), rpcCodes.invalidRequest)
    case 'overloaded':
    case 'draining':
    case 'store_unavailable':
    case 'internal_error':
      return error(status(body), rpcCodes.internalError)
    case 'model_not_allowed':
    case 'model_not_found':
    case 'arguments_not_allowed':
    case 'connect_required':
    case 'budget_exhausted':
    case 'budget_too_small':
    case 'budget_contended':
    case 'rate_limited':
    case 'upstream_error':
    case 'upstream_timeout':
    case 'upstream_truncated': {
      if (codec === null || id === null) return error(status(body), rpcCodes.internalError)
      const result = { content: [{ type: 'text', text: explain(body) }], isError: true }
      const meta = { [codeKey]: body.code, ...(wait === null ? {} : { [`${ownPrefix}retryAfter`]: wait }) }
      return { status: 200, headers: [], body: resultBody(id, codec.toolResult(result, null, meta)) }
    }
  }
}
