/**
 * Strict JSON: what is judged is what is sent. Lenient parsers let two readers of one document see two things
 * (duplicate keys, rounded numbers); here such a document is refused.
 * @module
 */
import { isUtf8 } from 'node:buffer'
import { type Fault, fault } from './fault.ts'

/** Deepest nesting and most keys accepted in a document that policy judges. */
export const maxDepth = 64
export const maxKeys = 10_000

const quote = 0x22
const backslash = 0x5c

/**
 * Parses a JSON document that policy will judge and that will be serialised again.
 *
 * Refused beside bad syntax and bad UTF-8: duplicate keys at any depth (also when one is escaped), nesting past
 * `maxDepth`, more than `maxKeys` keys, numbers that do not survive a double (2^53+1, 1e400), `__proto__` as a key,
 * lone surrogates, a byte order mark.
 *
 * @param where names the document in the fault
 */
export function parseStrict(bytes: Buffer, where: string): { readonly value: unknown } | Fault {
  const refuse = (why: string) => fault({ code: 'invalid_request', where, why })
  if (!isUtf8(bytes)) return refuse('is not valid UTF-8')
  let value: unknown
  try {
    value = JSON.parse(bytes.toString())
  } catch {
    return refuse('is not valid JSON')
  }
  const found = lint(bytes)
  return found === null ? { value } : refuse(found)
}

/** One pass over a document that is known to be syntactically valid JSON. @returns what is wrong, or null */
function lint(bytes: Buffer): string | null {
  // One set of keys per open object, null per open array.
  const open: (Set<string> | null)[] = []
  let keys = 0
  let i = 0
  while (i < bytes.length) {
    const byte = bytes[i] as number
    if (byte === quote) {
      const end = stringEnd(bytes, i)
      const text = stringAt(bytes, i, end)
      if (!text.isWellFormed()) return 'contains a lone surrogate'
      i = end
      if (nextByte(bytes, end) === 0x3a /* : */) {
        const seen = open.at(-1)
        if (++keys > maxKeys) return `has more than ${maxKeys} keys`
        if (text === '__proto__') return 'has a key "__proto__"'
        if (seen?.has(text)) return `has the key ${JSON.stringify(text)} twice in one object`
        seen?.add(text)
      }
    } else if (byte === 0x7b || byte === 0x5b) {
      open.push(byte === 0x7b ? new Set() : null)
      if (open.length > maxDepth) return `is nested deeper than ${maxDepth}`
      i++
    } else if (byte === 0x7d || byte === 0x5d) {
      open.pop()
      i++
    } else if (byte === 0x2d || (byte >= 0x30 && byte <= 0x39)) {
      const end = scalarEnd(bytes, i)
      const text = bytes.toString('latin1', i, end)
      if (!survives(text))
        return `has the number ${text.slice(0, 40)}, which does not survive parsing; send it as a string`
      i = end
    } else {
      i++
    }
  }
  return null
}

/** Whether a number's text keeps its value as a double; fractions are as exact as their serialised double. */
function survives(text: string): boolean {
  const value = Number(text)
  if (!Number.isFinite(value)) return false
  return !/^-?\d+$/.test(text) || Number.isSafeInteger(value)
}

/** How far a string is read by hand: most are shorter, and end before a native search would have begun. */
const byHand = 24

/** @param at index of the opening quote @returns index just behind the closing quote, or the length when there is none */
export function stringEnd(bytes: Buffer, at: number): number {
  let i = at + 1
  for (const far = Math.min(i + byHand, bytes.length); i < far; i++) {
    const byte = bytes[i]
    if (byte === quote) return i + 1
    // What follows is escaped, so it ends nothing.
    if (byte === backslash) i++
  }
  for (;;) {
    const end = bytes.indexOf(quote, i)
    if (end === -1) return bytes.length
    let slashes = 0
    for (let k = end - 1; k >= i && bytes[k] === backslash; k--) slashes++
    if (slashes % 2 === 0) return end + 1
    i = end + 1
  }
}

/** The value of a string literal in [start, end), quotes included. */
export function stringAt(bytes: Buffer, start: number, end: number): string {
  const raw = bytes.toString('utf8', start + 1, end - 1)
  return raw.includes('\\') ? (JSON.parse(`"${raw}"`) as string) : raw
}

/** Behind a number or literal that starts at `at`. */
export function scalarEnd(bytes: Buffer, at: number): number {
  let i = at
  for (; i < bytes.length; i++) {
    const byte = bytes[i] as number
    if (byte === 0x2c || byte === 0x7d || byte === 0x5d || byte <= 0x20) break
  }
  return i
}

/** First index from `at` on that is no JSON white space. */
export function skipSpace(bytes: Buffer, at: number): number {
  let i = at
  while (i < bytes.length) {
    const byte = bytes[i]
    if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) break
    i++
  }
  return i
}

function nextByte(bytes: Buffer, at: number): number | undefined {
  return bytes[skipSpace(bytes, at)]
}
