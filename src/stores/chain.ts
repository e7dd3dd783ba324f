/**
 * The hash chain of a writer: each line's hash covers its own text and the hash before, so that an edit, a gap, an
 * insertion or another order shows. Imports nothing of ours, because the SQLite thread uses it too.
 * @module
 */
import { hash } from 'node:crypto'

/** Before the first line of a writer. */
export const chainStart = ''

/** The numbers and names of a line that its text is made of. */
export interface Chained {
  readonly id: string
  readonly account: string
  readonly at: number | string
  readonly booked: number | string
  readonly usd: number | string
  readonly tokens: number | string
  readonly requests: number | string
  readonly tool_calls: number | string
  readonly body: string
}

/**
 * What a line is chained by. Notes are not in it, since they may be erased, but their digest is.
 *
 * @param notesDigest SHA-256 of the notes, hex; empty when there are none
 * @returns fields between tabs, the body last; JSON text has neither tabs nor line feeds in it
 */
export function chainText(line: Chained, notesDigest: string): string {
  const { id, account, at, booked, usd, tokens, requests, tool_calls, body } = line
  return `${id}\t${account}\t${at}\t${booked}\t${usd}\t${tokens}\t${requests}\t${tool_calls}\t${notesDigest}\t${body}`
}

/** @param before hash of the line before in the same chain @param seq place in the chain, from 1 @returns hex */
export function chainHash(before: string, seq: number, text: string): string {
  return hash('sha256', `${before}\n${seq}\n${text}`)
}

/** @returns SHA-256 of the notes in hex; empty for none */
export function digestOf(notes: string | null): string {
  return notes === null ? '' : hash('sha256', notes)
}

/** What an audit row is chained by. As with notes, the detail may be erased and its digest stays. */
export interface AuditChained {
  readonly id: string
  readonly at: number | string
  readonly actor: string
  readonly action: string
  readonly subject: string | null
  readonly allowed: number | string
}

export function auditText(row: AuditChained, detailDigest: string): string {
  const { id, at, actor, action, subject, allowed } = row
  return JSON.stringify([id, String(at), actor, action, subject, String(allowed), detailDigest])
}
