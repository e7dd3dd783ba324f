/** Globs over whole names: `*` is any run of characters, everything else is itself, byte for byte. @module */

/**
 * Whether a pattern matches a name, anchored at both ends and case-sensitive.
 *
 * An empty pattern matches nothing, so a stray `""` in a list never grants. Never backtracks: names come
 * from servers and patterns from keys, so neither may be made to cost.
 */
export function matches(pattern: string, name: string): boolean {
  if (pattern === '') return false
  const first = pattern.indexOf('*')
  if (first === -1) return pattern === name
  if (!name.startsWith(pattern.slice(0, first))) return false
  const last = pattern.lastIndexOf('*')
  const tail = pattern.slice(last + 1)
  const end = name.length - tail.length
  let at = first
  if (end < at || !name.endsWith(tail)) return false
  if (first === last) return true
  // Between the first and the last star, taking each piece at its earliest place leaves the most room for the rest.
  for (const piece of pattern.slice(first + 1, last).split('*')) {
    const found = name.indexOf(piece, at)
    if (found === -1 || found + piece.length > end) return false
    at = found + piece.length
  }
  return true
}

/** The index of the first pattern that matches, or -1. */
export function firstMatch(patterns: readonly string[], name: string): number {
  for (let i = 0; i < patterns.length; i++) if (matches(patterns[i] as string, name)) return i
  return -1
}
