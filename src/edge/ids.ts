/** Request ids and trace context. @module */

const base32 = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'
const base16 = '0123456789abcdef'

export interface Ids {
  /** `req_` and 26 characters, sortable by time, unique over processes. */
  request(now: number): string
  /** A W3C traceparent: the caller's trace when it sent a valid one, with a span of ours. */
  trace(inbound: string | undefined): string
}

/**
 * Drawn once per process and counted from there: 40 random bits and a counter cost less than fresh randomness per call.
 * Neither is a secret.
 */
export function createIds(random: (bytes: number) => Buffer): Ids {
  let stampOf = -1
  let stamp = ''
  const process32 = encode(random(5).readUIntBE(0, 5), 8, base32)
  const process16 = random(8).toString('hex')
  const serial = countFrom(random(4).readUInt32BE(), 8, base32)
  const span = countFrom(random(4).readUInt32BE(), 16, base16)
  return {
    request(now) {
      if (now !== stampOf) {
        stampOf = now
        stamp = encode(now, 10, base32)
      }
      return `req_${stamp}${process32}${serial()}`
    },
    trace(inbound) {
      const own = span()
      if (inbound !== undefined && /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/.test(inbound)) {
        return `00-${inbound.slice(3, 35)}-${own}-${inbound.slice(-2)}`
      }
      return `00-${process16}${own}-${own}-01`
    },
  }
}

/** Counts in text of one width: the last four digits from a table of pairs, those before only when the four run over. */
function countFrom(start: number, width: number, alphabet: string): () => string {
  const pairs = Array.from({ length: alphabet.length ** 2 }, (_, i) => encode(i, 2, alphabet))
  const round = pairs.length ** 2
  let low = start % round
  let high = Math.floor(start / round)
  let front = encode(high, width - 4, alphabet)
  return () => {
    if (++low === round) {
      low = 0
      front = encode(++high, width - 4, alphabet)
    }
    return `${front}${pairs[Math.floor(low / pairs.length)]}${pairs[low % pairs.length]}`
  }
}

/** The last `length` digits of a number. */
function encode(value: number, length: number, alphabet: string): string {
  let out = ''
  let left = value
  for (let i = 0; i < length; i++) {
    out = alphabet.charAt(left % alphabet.length) + out
    left = Math.floor(left / alphabet.length)
  }
  return out
}
