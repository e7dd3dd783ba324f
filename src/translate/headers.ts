/** Which of an upstream's response headers reach the caller: an allow-list, under names that say whose they are. @module */

const passed = new Map([
  ['content-type', 'content-type'],
  ['x-request-id', 'x-gatehouse-upstream-request-id'],
  ['openai-processing-ms', 'openai-processing-ms'],
  ['openai-version', 'openai-version'],
])
const limitPrefix = 'x-ratelimit-'

/** @returns name, value, name, value... with control characters and anything not on the list left out */
export function passHeaders(headers: Readonly<Record<string, string | string[] | undefined>>): string[] {
  const out: string[] = []
  for (const name in headers) {
    const renamed =
      passed.get(name) ??
      (name.startsWith(limitPrefix) ? `x-gatehouse-upstream-ratelimit-${name.slice(limitPrefix.length)}` : undefined)
    if (renamed === undefined) continue
    const value = headers[name]
    // Anything beyond Latin-1 could not be written again.
    if (typeof value === 'string' && /^[\x20-\x7e\xa0-\xff]*$/.test(value)) out.push(renamed, value)
  }
  return out
}

/** Retry-After in ms: seconds or a date, bounded to a minute so that a vendor cannot park callers. */
export function retryAfterMs(value: string | string[] | undefined, now: number): number {
  if (typeof value !== 'string') return 1000
  const seconds = Number(value)
  const ms = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(value) - now
  return Number.isFinite(ms) ? Math.min(Math.max(ms, 1000), 60_000) : 1000
}
