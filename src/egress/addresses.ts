/**
 * Which addresses may be connected: the public internet, and private places only where an administrator named the
 * exact network and port. Decided on numeric addresses, never on names.
 * @module
 */
import { BlockList, isIP } from 'node:net'
import { type Fault, fault } from '../fault.ts'

/** One private place an administrator allows: a network and one port. */
export interface Allowance {
  readonly address: string
  readonly prefix: number
  readonly family: 'ipv4' | 'ipv6'
  readonly port: number
}

/** Allowed networks by port. */
export type Allowed = ReadonlyMap<number, BlockList>

/** Said for every refusal alike, so that it does not tell an open port from a closed or a filtered one. */
export const refusal =
  'its address is not allowed; private addresses need an entry CIDR:port in allow_private or GATEHOUSE_ALLOW_PRIVATE'

// Everything in the IANA special-purpose registry that is not globally reachable, multicast and class E.
const reserved4: readonly (readonly [string, number])[] = [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
]

// Only 2000::/3 is handed out as global unicast. Inside it: protocol assignments with Teredo, documentation, and 6to4
// (deprecated, and able to carry any IPv4 address).
const reserved6: readonly (readonly [string, number])[] = [
  ['::', 3],
  ['4000::', 2],
  ['8000::', 1],
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
]

// Where clouds hand credentials to whoever asks; no allowance opens these.
const metadata4 = [
  '169.254.169.254',
  '169.254.170.2',
  '169.254.170.23',
  '100.100.100.200',
  '168.63.129.16',
  '192.0.0.192',
]
const metadata6 = ['fd00:ec2::254', 'fd00:ec2::23', 'fd20:ce::254']

// IPv6 forms that carry an IPv4 address one to one, so the IPv4 rules decide: mapped, and NAT64 (RFC 6052).
const carriers = ['::ffff:', '64:ff9b::']

const lists = {
  reserved4: subnets('ipv4', reserved4),
  reserved6: subnets('ipv6', reserved6),
  carrier: subnets('ipv6', [
    ['::ffff:0:0', 96],
    ['64:ff9b::', 96],
  ]),
  carried: subnets('ipv6', carry(reserved4)),
  metadata4: subnets(
    'ipv4',
    metadata4.map((address) => [address, 32] as const),
  ),
  metadata6: subnets('ipv6', [
    ...metadata6.map((address) => [address, 128] as const),
    ...carry(metadata4.map((address) => [address, 32] as const)),
  ]),
}

function subnets(family: 'ipv4' | 'ipv6', ranges: readonly (readonly [string, number])[]): BlockList {
  const list = new BlockList()
  for (const [network, prefix] of ranges) list.addSubnet(network, prefix, family)
  return list
}

function carry(ranges: readonly (readonly [string, number])[]): (readonly [string, number])[] {
  return carriers.flatMap((carrier) =>
    ranges.map(([network, prefix]) => [`${carrier}${network}`, 96 + prefix] as const),
  )
}

/**
 * @param address numeric; anything else (a name, a zone id) is refused
 * @returns whether this address and port may be connected
 */
export function mayConnect(address: string, port: number, allowed: Allowed): boolean {
  const family = isIP(address)
  if (family === 0 || address.includes('%')) return false
  const name = family === 4 ? 'ipv4' : 'ipv6'
  if ((family === 4 ? lists.metadata4 : lists.metadata6).check(address, name)) return false
  return !isReserved(address, family) || allowed.get(port)?.check(address, name) === true
}

function isReserved(address: string, family: number): boolean {
  if (family === 4) return lists.reserved4.check(address, 'ipv4')
  if (lists.carrier.check(address, 'ipv6')) return lists.carried.check(address, 'ipv6')
  return lists.reserved6.check(address, 'ipv6')
}

/**
 * Reads `CIDR:port`, as in `127.0.0.1/32:8080` or `[::1]/128:11434` (`[::1/128]:11434` is read too).
 *
 * @returns the entry, or a string saying what is wrong with it
 */
export function parseAllowance(text: string): Allowance | string {
  const match =
    /^(?:\[([0-9A-Fa-f:.]+)\]\/(\d{1,3})|\[([0-9A-Fa-f:.]+)\/(\d{1,3})\]|([0-9.]+)\/(\d{1,3})):(\d{1,5})$/.exec(
      text.trim(),
    )
  if (match === null) return `"${text}" is not CIDR:port, as in 127.0.0.1/32:8080 or [::1]/128:11434`
  const address = match[1] ?? match[3] ?? match[5] ?? ''
  const family = match[5] === undefined ? 'ipv6' : 'ipv4'
  const [prefix, port] = [Number(match[2] ?? match[4] ?? match[6]), Number(match[7])]
  if (isIP(address) !== (family === 'ipv4' ? 4 : 6)) return `"${text}": "${address}" is not an address`
  if (prefix > (family === 'ipv4' ? 32 : 128)) return `"${text}": /${prefix} is longer than the address`
  if (port < 1 || port > 65535) return `"${text}": ${port} is not a port`
  return { address, prefix, family, port }
}

/** @throws {Error} an entry is malformed: configuration validates them with `parseAllowance` before */
export function compileAllowances(entries: readonly string[]): Allowed {
  const allowed = new Map<number, BlockList>()
  for (const entry of entries) {
    const parsed = parseAllowance(entry)
    if (typeof parsed === 'string') throw new Error(`allow_private: ${parsed}`)
    const list = allowed.get(parsed.port) ?? new BlockList()
    list.addSubnet(parsed.address, parsed.prefix, parsed.family)
    allowed.set(parsed.port, list)
  }
  return allowed
}

/** The port a URL connects to. */
export function portOf(url: URL): number {
  return url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : Number(url.port)
}

/** The host as `isIP` reads it: IPv6 without brackets. */
export function hostOf(url: URL): string {
  return url.hostname.startsWith('[') ? url.hostname.slice(1, -1) : url.hostname
}

/**
 * Reads a URL as an upstream address: http or https, no credentials in it, host normalised by the same parser that
 * later connects. A literal address is judged at once; a name is judged by every address it resolves to, on connecting.
 *
 * @param allow `CIDR:port` entries that apply, those of the environment included
 */
export function checkUrl(url: string, allow: readonly string[]): URL | Fault {
  return judgeUrl(url, compileAllowances(allow))
}

export function judgeUrl(text: string, allowed: Allowed): URL | Fault {
  if (!URL.canParse(text)) return invalid('is not a URL')
  const url = new URL(text)
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return invalid('must be http or https')
  if (url.username !== '' || url.password !== '') return invalid('must not carry a user name or password')
  if (url.hostname.endsWith('.')) url.hostname = url.hostname.replace(/\.+$/, '')
  if (url.hostname === '') return invalid('has no host')
  const host = hostOf(url)
  if (isIP(host) !== 0 && !mayConnect(host, portOf(url), allowed)) {
    return fault({ code: 'upstream_error', upstream: url.host, status: null, why: refusal, unsent: true })
  }
  return url
}

function invalid(why: string): Fault {
  return fault({ code: 'invalid_request', where: 'url', why })
}
