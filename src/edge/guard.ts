/**
 * Before any route: what every request must satisfy on every door. Read from `rawHeaders`, because Node keeps only the
 * first of some repeated headers and joins others, and what is checked must be what was sent.
 * @module
 */
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { Credential } from '../call.ts'
import { Fault, fault } from '../fault.ts'
import { digestOf, hasShape, isToken } from '../identity/token.ts'

/** Header fields accepted in one request (threats: header floods are refused, never cut). */
export const maxHeaders = 128

/** Sent twice they could be read in two ways by two readers. */
const once = [
  'host',
  'origin',
  'authorization',
  'x-api-key',
  'x-goog-api-key',
  'content-type',
  'content-length',
  'content-encoding',
  'transfer-encoding',
  'idempotency-key',
  'mcp-protocol-version',
  'mcp-method',
  'mcp-name',
  'mcp-session-id',
] as const
/** Their places in what was seen: an array of values costs a request less than an object it names the keys of. */
const places: ReadonlyMap<string, number> = new Map(once.map((name, place) => [name, place]))
const place = (name: (typeof once)[number]) => places.get(name) as number
const host = place('host')
const origin = place('origin')
const authorization = place('authorization')
const apiKey = place('x-api-key')
const googleKey = place('x-goog-api-key')

/** The value of each header of `once` by its place; undefined where it was not sent. */
type Seen = readonly (string | undefined)[]

export interface GuardOptions {
  /** Host names (lower case, without port) this gateway answers to, beside loopback names. */
  readonly hosts: ReadonlySet<string>
  /** Origins browsers may come from. */
  readonly origins: ReadonlySet<string>
}

/** What a request that passed has shown. */
export interface Passed {
  readonly credential: Credential | null
  readonly path: string
  readonly search: string
}

export function guard(incoming: IncomingMessage, options: GuardOptions): Passed | Fault {
  const raw = incoming.rawHeaders
  if (raw.length > maxHeaders * 2) return refuse('headers', `more than ${maxHeaders} fields`, 431)
  const seen = new Array<string | undefined>(once.length).fill(undefined)
  for (let i = 0; i < raw.length; i += 2) {
    const name = (raw[i] as string).toLowerCase()
    const at = places.get(name)
    if (at === undefined) continue
    if (seen[at] !== undefined) return refuse(name, 'was sent more than once')
    seen[at] = raw[i + 1] as string
  }
  return checkHost(seen[host], options) ?? checkOrigin(seen[origin], options) ?? checkTarget(incoming, seen)
}

function checkTarget(incoming: IncomingMessage, seen: Seen): Passed | Fault {
  let target = incoming.url ?? ''
  if (!target.startsWith('/')) {
    // Absolute form: the authority must be the one that was just checked.
    const authority = /^http:\/\/([^/?#@]+)(\/.*)$/i.exec(target)
    if (authority === null || authority[1] !== seen[host]) return refuse('target', 'is not a path on this host')
    target = authority[2] as string
    incoming.url = target
  }
  const mark = target.indexOf('?')
  const path = mark === -1 ? target : target.slice(0, mark)
  if (!isCanonical(path)) return refuse('path', 'is not in its canonical form')
  if (target.includes('sk-gate-')) return refuse('target', 'a key does not belong into a URL; send it as a header')
  const credential = shownBy(incoming.socket, seen)
  return credential instanceof Fault
    ? credential
    : { credential, path, search: mark === -1 ? '' : target.slice(mark + 1) }
}

const odd = /\/\/|\/\.{1,2}(\/|$)|%2e|%2f|%5c|%00|[\\;#]|[^\x21-\x7e]/i
const oddInName = /\/\/|(\/|%2f)(\.|%2e){1,2}(\/|%2f|$)|%5c|%00|[\\;#]|[^\x21-\x7e]/i

/** One spelling per path, so that what is authorised is what is routed. Model names may carry an encoded slash. */
function isCanonical(path: string): boolean {
  return !(path.startsWith('/v1/models/') ? oddInName : odd).test(path)
}

function checkHost(given: string | undefined, options: GuardOptions): Fault | null {
  if (given === undefined || !/^([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?$/i.test(given))
    return refuse('host', 'is missing or malformed')
  const port = /:([0-9]+)$/.exec(given)?.[1]
  if (port !== undefined && Number(port) > 65_535) return refuse('host', 'is malformed')
  const name = given.replace(/:[0-9]+$/, '').toLowerCase()
  if (loopback.has(name) || options.hosts.has(name)) return null
  return fault({
    code: 'forbidden',
    why: 'This gateway does not answer to that host name. Set GATEHOUSE_PUBLIC_URL to the one you use.',
  })
}

const loopback = new Set(['localhost', '127.0.0.1', '[::1]'])

function checkOrigin(given: string | undefined, options: GuardOptions): Fault | null {
  if (given === undefined || options.origins.has(given)) return null
  return fault({ code: 'forbidden', why: 'Requests from that origin are not accepted.' })
}

const malformed = fault({ code: 'invalid_key', reason: 'malformed' })

/** What the last request of a connection showed, word for word, and what that was found to be. */
interface Shown {
  readonly bearer: string | undefined
  readonly apiKey: string | undefined
  readonly googleKey: string | undefined
  readonly credential: Credential | null | Fault
}

/** A kept connection repeats its headers, so a token is digested once for all of them. */
const shown = new WeakMap<Socket, Shown>()
const nothingShown: Shown = { bearer: undefined, apiKey: undefined, googleKey: undefined, credential: null }

function shownBy(socket: Socket, seen: Seen): Credential | null | Fault {
  const last = shown.get(socket) ?? nothingShown
  if (last.bearer === seen[authorization] && last.apiKey === seen[apiKey] && last.googleKey === seen[googleKey])
    return last.credential
  const credential = credentialOf(seen)
  shown.set(socket, { bearer: seen[authorization], apiKey: seen[apiKey], googleKey: seen[googleKey], credential })
  return credential
}

/** The one credential of a request. The token is digested here and goes no further. */
function credentialOf(seen: Seen): Credential | null | Fault {
  let token: string | undefined
  const bearer = seen[authorization]
  if (bearer !== undefined) {
    token = /^bearer ([\x21-\x7e]+)$/i.exec(bearer)?.[1]
    if (token === undefined) return malformed
  }
  for (const header of [apiKey, googleKey]) {
    const given = seen[header]
    if (given === undefined) continue
    if (!/^[\x21-\x7e]+$/.test(given)) return malformed
    if (token !== undefined && token !== given)
      return refuse(once[header] as string, 'disagrees with the other credential of this request')
    token = given
  }
  if (token === undefined) return null
  if (token.length > 512) return malformed
  if (token.startsWith('sk-gate-') && !hasShape(token)) return malformed
  const own = token
  return { digest: digestOf(own), isKey: () => isToken(own) }
}

function refuse(where: string, why: string, status: 400 | 431 = 400): Fault {
  return fault({ code: 'invalid_request', where, why, status })
}
