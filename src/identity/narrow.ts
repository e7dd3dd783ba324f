/** Narrower always: whether what a child asks for lies inside what its parent has. Pure. @module */
import type { Account } from '../call.ts'

/**
 * The first pattern of a child's list that no pattern of some list above it covers.
 *
 * @param list the child's patterns; `*` stands for any run of characters
 * @returns the pattern and the account whose list refuses it, or null when everything is inside
 */
export function widening(
  parent: Account,
  list: readonly string[],
  kind: 'models' | 'tools',
): { readonly pattern: string; readonly account: string } | null {
  for (let level: Account | null = parent; level !== null; level = level.parent) {
    const above = level[kind]
    if (above === null) continue
    const pattern = list.find((child) => !above.some((wide) => covers(wide, child)))
    if (pattern !== undefined) return { pattern, account: level.id }
  }
  return null
}

/** Whether every name the narrow pattern matches is matched by the wide one; a `*` is covered by a `*` only. */
export function covers(wide: string, narrow: string): boolean {
  const pieces = wide.split('*')
  if (pieces.length === 1) return wide === narrow
  const first = pieces[0] as string
  const last = pieces.at(-1) as string
  if (narrow.length < first.length + last.length || !narrow.startsWith(first) || !narrow.endsWith(last)) return false
  let at = first.length
  const end = narrow.length - last.length
  for (const piece of pieces.slice(1, -1)) {
    const found = narrow.indexOf(piece, at)
    if (found === -1 || found + piece.length > end) return false
    at = found + piece.length
  }
  return true
}

/** The list that is in force for an account: the nearest one, since each is inside those above it. */
export function effective(account: Account, kind: 'models' | 'tools'): readonly string[] | null {
  for (let level: Account | null = account; level !== null; level = level.parent)
    if (level[kind] !== null) return level[kind]
  return null
}

/** Earliest expiry on the path, ms since the epoch, or null. */
export function expiry(account: Account): number | null {
  let earliest: number | null = null
  for (let level: Account | null = account; level !== null; level = level.parent) {
    if (level.expiresAt !== null && (earliest === null || level.expiresAt < earliest)) earliest = level.expiresAt
  }
  return earliest
}

/** Whether `inner` is `outer` or below it. */
export function isWithin(inner: Account, outer: Account): boolean {
  for (let level: Account | null = inner; level !== null; level = level.parent) if (level.id === outer.id) return true
  return false
}

export function depthOf(account: Account): number {
  let depth = 0
  for (let level: Account | null = account; level !== null; level = level.parent) depth++
  return depth
}
