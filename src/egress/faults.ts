/** What a failed connection is called. Nothing a socket or a resolver said is repeated. @module */
import { type Fault, fault } from '../fault.ts'
import { refusal } from './addresses.ts'

/** Raised inside a pool when an address is not allowed; reaches whoever dispatched as the request's error. */
export class AddressRefused extends Error {
  readonly code = 'EGRESS_REFUSED'
  constructor() {
    super(refusal)
    this.name = 'AddressRefused'
  }
}

/** Raised inside a pool when a name has no answer in time. */
export class NameUnresolved extends Error {
  readonly code = 'EGRESS_DNS'
  constructor() {
    super('the name could not be resolved')
    this.name = 'NameUnresolved'
  }
}

/**
 * The fault for an error that a pool's dispatch gave.
 *
 * @param upstream how the fault names the other side: a provider or server id, or a host
 */
export function connectFault(error: unknown, upstream: string): Fault {
  return fault({ code: 'upstream_error', upstream, status: null, why: reason(codeOf(error)), unsent: neverSent(error) })
}

/** Whether the request certainly never left: the connection was refused, not made, or not trusted. */
export function neverSent(error: unknown): boolean {
  const code = codeOf(error)
  // ERR_SSL and EPROTO can also strike in the middle of an exchange.
  return unsent.has(code) || (isTls(code) && !/^(ERR_SSL|EPROTO)/.test(code))
}

const unsent = new Set([
  'EGRESS_REFUSED',
  'EGRESS_DNS',
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EADDRNOTAVAIL',
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_INVALID_ARG',
])

function reason(code: string): string {
  if (code === 'EGRESS_REFUSED') return refusal
  if (code === 'EGRESS_DNS') return 'its name could not be resolved'
  if (code === 'ECONNREFUSED') return 'nothing accepts connections at its address; start it, or correct the address'
  if (code === 'UND_ERR_CONNECT_TIMEOUT' || code === 'ETIMEDOUT') return 'the connection could not be made in time'
  if (code === 'EHOSTUNREACH' || code === 'ENETUNREACH' || code === 'EADDRNOTAVAIL')
    return 'its address cannot be reached'
  if (isTls(code)) return 'its TLS certificate is not trusted or does not match'
  if (code.startsWith('HPE_') || code === 'UND_ERR_HEADERS_OVERFLOW') return 'its answer is not valid HTTP'
  if (code === 'UND_ERR_INVALID_ARG') return 'the request cannot be written as HTTP'
  return 'the connection broke before an answer came'
}

function isTls(code: string): boolean {
  return /^(ERR_TLS|ERR_SSL|CERT_|SELF_SIGNED|DEPTH_ZERO|UNABLE_TO|HOSTNAME_MISMATCH|INVALID_CA|EPROTO)/.test(code)
}

function codeOf(error: unknown): string {
  if (typeof error !== 'object' || error === null) return ''
  const { code, cause } = error as { code?: unknown; cause?: unknown }
  // One of the two errors above can arrive wrapped by the connector.
  if (error instanceof AggregateError && typeof code !== 'string') return codeOf(error.errors[0])
  if (typeof code === 'string') return code
  return cause === undefined ? '' : codeOf(cause)
}
