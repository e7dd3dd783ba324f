/**
 * The text of a key: `sk-gate-<id>_<secret><checksum>`. The checksum lets a mistyped or made-up key be refused without
 * asking the store; it protects nothing.
 * @module
 */
import { createHmac, hash } from 'node:crypto'

const prefix = 'sk-gate-'
const alphabet = '0123456789abcdefghjkmnpqrstvwxyz'
const shape = /^sk-gate-([a-z]_?[0-9a-z]{8,40})_([0-9a-hjkmnp-tv-z]{32})([0-9a-f]{6})$/

/** @param random cryptographic random bytes */
export function newId(kind: string, random: (bytes: number) => Buffer): string {
  return `${kind}${text(random(16))}`
}

/** @returns the token, to be shown once, and its digest */
export function newToken(
  id: string,
  random: (bytes: number) => Buffer,
): { readonly token: string; readonly digest: string } {
  const body = `${prefix}${id}_${text(random(32))}`
  const token = `${body}${checksum(body)}`
  return { token, digest: digestOf(token) }
}

/** Whether the text has the form of a key. */
export function hasShape(token: string): boolean {
  return shape.test(token)
}

/** Whether the text could be a key at all, its checksum included. */
export function isToken(token: string): boolean {
  return hasShape(token) && checksum(token.slice(0, -6)) === token.slice(-6)
}

/** What the gateway handles instead of the token. */
export function digestOf(token: string): string {
  return hash('sha256', token, 'hex')
}

/** What is stored: useless without the pepper, and never accepted as a credential itself. */
export function storedDigest(digest: string, pepper: Buffer): string {
  return createHmac('sha256', pepper).update(digest).digest('hex')
}

function checksum(body: string): string {
  return hash('sha256', `checksum:${body}`, 'hex').slice(0, 6)
}

/** Five bits a byte: uniform, since 256 is a multiple of 32. */
function text(bytes: Buffer): string {
  let out = ''
  for (const byte of bytes) out += alphabet[byte & 31]
  return out
}
