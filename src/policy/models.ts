/** Which models an account may use: every `models` list of its chain has to agree. @module */
import type { Account } from '../call.ts'
import { firstMatch } from './glob.ts'

/**
 * Whether every list from the leaf to the root has a glob for one of the names. No list anywhere allows every model,
 * an empty one allows none.
 *
 * @param names what the caller wrote and what it means (`provider/model`); a list may use either
 * @returns rule: `models-list:<account id>` of the list that refused or, allowed, of the nearest; `models-open` without
 */
export function modelAllowed(account: Account, names: readonly string[]): { allowed: boolean; rule: string } {
  let nearest: Account | null = null
  for (let at: Account | null = account; at !== null; at = at.parent) {
    const list = at.models
    if (list === null) continue
    if (!names.some((name) => firstMatch(list, name) !== -1)) return { allowed: false, rule: `models-list:${at.id}` }
    nearest ??= at
  }
  return { allowed: true, rule: nearest === null ? 'models-open' : `models-list:${nearest.id}` }
}
