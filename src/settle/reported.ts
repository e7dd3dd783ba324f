/** What a tool server says a call cost. Pure. @module */

/** Key in a result's `_meta`; a number or a decimal string, in USD. */
export const reportedCostKey = 'dev.gatehouse/cost-usd'

/** Above any bound a row can set, so that it is lowered to that bound. */
const beyond = 1_000_000_000
const decimal = /^(-?)(\d{1,15})(?:\.(\d{1,30}))?$/

/** @returns micro-dollars, rounded up; undefined where the result says nothing; null where it says no amount */
export function readReportedCost(result: unknown): number | null | undefined {
  const meta = (result as { readonly _meta?: unknown } | null)?._meta
  const said = (meta as Readonly<Record<string, unknown>> | null | undefined)?.[reportedCostKey]
  if (said === undefined) return undefined
  if (typeof said === 'string') return micros(said)
  if (typeof said !== 'number' || !Number.isFinite(said)) return null
  if (Math.abs(said) >= beyond) return Math.sign(said) * beyond * 1_000_000
  // Twelve decimals are more than micro-dollars need and fewer than where binary fractions show.
  return micros(said.toFixed(12))
}

function micros(text: string): number | null {
  const parts = decimal.exec(text)
  if (parts === null) return null
  const [, sign, whole = '', fraction = ''] = parts
  if (sign === '-') return 0
  const rest = fraction.slice(6).replace(/0+$/, '') === '' ? 0 : 1
  const exact = BigInt(whole) * 1_000_000n + BigInt(fraction.slice(0, 6).padEnd(6, '0')) + BigInt(rest)
  return Number(exact)
}
