/** The gateway's own rate limits as response headers, by the names and in the form OpenAI's clients know. @module */
import type { RateLeft, RateStanding } from '../call.ts'

/** @returns header name, value, name, value... of what is limited */
export function rateHeaders({ requests, tokens }: RateStanding): readonly string[] {
  return [...headersOf('requests', requests), ...headersOf('tokens', tokens)]
}

function headersOf(unit: string, left: RateLeft | null): readonly string[] {
  if (left === null) return []
  return [
    ...[`x-ratelimit-limit-${unit}`, String(left.limit)],
    ...[`x-ratelimit-remaining-${unit}`, String(left.remaining)],
    ...[`x-ratelimit-reset-${unit}`, durationText(left.resetMs)],
  ]
}

/** `120ms`, `1s`, `1.5s`, `6m0s`, `1h0m30s`: a duration as OpenAI writes it. @param ms rounded up to whole ones */
export function durationText(ms: number): string {
  const whole = Math.ceil(ms)
  if (whole < 1000) return `${whole}ms`
  const hours = Math.floor(whole / 3_600_000)
  const minutes = Math.floor((whole % 3_600_000) / 60_000)
  const seconds = (whole % 60_000) / 1000
  if (hours > 0) return `${hours}h${minutes}m${seconds}s`
  return minutes > 0 ? `${minutes}m${seconds}s` : `${seconds}s`
}
