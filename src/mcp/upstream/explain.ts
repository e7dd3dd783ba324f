/** Trouble with an upstream in words: safe to show, nothing secret, nothing that moves a terminal. @module */
import { type Fault, fault } from '../../fault.ts'
import { type RpcErrorBody, rpcCodes } from '../wire/jsonrpc.ts'
import type { Trouble } from './lane.ts'

/** Most characters of an upstream's own words that are passed on. */
export const maxWords = 500

/** An upstream's text without control characters (line ends become spaces), capped. */
export function quoted(text: string): string {
  const plain = text
    .replace(/\s+/g, ' ')
    // Control, bidirectional and zero-width characters can hide or forge what a person reads.
    .replace(/[\p{Cc}\p{Cf}\p{Cs}]/gu, '')
    .trim()
  return plain.length <= maxWords ? plain : `${plain.slice(0, maxWords - 1)}…`
}

/** The sentence of a connection fault without the name in front. */
export function explainConnect(connect: Fault): string {
  return connect.body.code === 'upstream_error' ? connect.body.why : 'it cannot be reached'
}

/** Why, in one sentence, for a state or a fault. */
export function why(trouble: Trouble): string {
  const { body } = trouble
  switch (body.kind) {
    case 'timeout':
      return `it did not answer within ${body.afterMs} ms`
    case 'aborted':
      return 'the call was cancelled'
    case 'lost':
    case 'invalid':
      return body.why
    case 'status':
      if (body.status === 401 || body.status === 403) return 'it does not accept our credential'
      return body.error === null ? 'it answered with an HTTP error' : serverWords(body.error)
    case 'error':
      return serverWords(body.error)
  }
}

/** The fault a caller is told. @param upstream the server's id */
export function toFault(trouble: Trouble, upstream: string): Fault {
  const { body } = trouble
  if (body.kind === 'timeout') return fault({ code: 'upstream_timeout', upstream, afterMs: body.afterMs })
  const status = body.kind === 'status' ? body.status : null
  const unsent = body.kind === 'lost' && !body.sent
  return fault({ code: 'upstream_error', upstream, status, why: why(trouble), unsent })
}

function serverWords(error: RpcErrorBody): string {
  // These describe the hop between us and the server and would mislead the caller about its own request.
  if (
    error.code === rpcCodes.headerMismatch ||
    error.code === rpcCodes.missingCapability ||
    error.code === rpcCodes.unsupportedVersion
  )
    return `it refused the gateway's request (${error.code})`
  const words = quoted(error.message)
  return words === '' ? `it answered with error ${error.code}` : `${words} (${error.code})`
}
