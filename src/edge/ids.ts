/** Request ids and trace context. @module */

const alphabet = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'

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
  let counter = random(4).readUInt32BE()
  const process32 = encode(random(5).readUIntBE(0, 5), 8)
  const process16 = random(8).toString('hex')
  return {
    request(now) {
      if (now !== stampOf) {
        stampOf = now
        stamp = encode(now, 10)
      }
      counter = (counter + 1) % 2 ** 40
      return `req_${stamp}${process32}${encode(counter, 8)}`
    },
    trace(inbound) {
      counter = (counter + 1) % 2 ** 40
      const span = counter.toString(16).padStart(16, '0')
      if (inbound !== undefined && /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/.test(inbound)) {
        return `00-${inbound.slice(3, 35)}-${span}-${inbound.slice(-2)}`
      }
      return `00-${process16}${span}-${span}-01`
    },
  }
}

function encode(value: number, length: number): string {
  let out = ''
  let left = value
  for (let i = 0; i < length; i++) {
    out = alphabet.charAt(left % 32) + out
    left = Math.floor(left / 32)
  }
  return out
}
