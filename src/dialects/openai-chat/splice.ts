/**
 * Writing the upstream body from the caller's bytes: only the model, the output cap and the usage option change,
 * everything else is the caller's to the byte.
 * @module
 */
import type { LlmFacts, OutputCap, Span } from '../../call.ts'

/** What the gateway wants different. */
export interface Changes {
  readonly model: string
  /** Output cap to set or lower to, or null to leave it as it is. */
  readonly cap: number | null
  /** Name for a cap the caller did not give. */
  readonly capName: 'max_tokens' | 'max_completion_tokens'
  /** Ask for the usage event of a stream. */
  readonly usage: boolean
}

interface Cut extends Span {
  readonly text: string
}

/** @returns the caller's own buffer when nothing changes */
export function spliceBody(body: Buffer, facts: LlmFacts, changes: Changes): Buffer {
  const cuts: Cut[] = []
  let inserted = ''
  if (changes.model !== facts.model) cuts.push({ ...facts.modelSpan, text: JSON.stringify(changes.model) })
  if (changes.cap !== null) {
    // A member that says null is written over: behind an inserted one of the same name, it would be the one obeyed.
    const unset = facts.unsetCaps.find(({ key }) => key === changes.capName)
    if (unset !== undefined) cuts.push({ ...unset, text: String(changes.cap) })
    else if (facts.cap === null) inserted += `${JSON.stringify(changes.capName)}:${changes.cap},`
    for (let cap: OutputCap | null = facts.cap; cap !== null; cap = cap.also) {
      if (cap.value > changes.cap) cuts.push({ ...cap.span, text: String(changes.cap) })
    }
  }
  if (changes.usage && !facts.wantsUsage) {
    const options = JSON.stringify({ ...facts.streamOptions, include_usage: true })
    if (facts.streamOptionsSpan === null) inserted += `"stream_options":${options},`
    else cuts.push({ ...facts.streamOptionsSpan, text: options })
  }
  // The body names a model, so a member always follows what is inserted at its start.
  if (inserted !== '') cuts.push({ start: facts.bodyStart, end: facts.bodyStart, text: inserted })
  return cuts.length === 0 ? body : apply(body, cuts)
}

function apply(body: Buffer, cuts: Cut[]): Buffer {
  cuts.sort((a, b) => a.start - b.start)
  const parts: Buffer[] = []
  let at = 0
  for (const cut of cuts) {
    parts.push(body.subarray(at, cut.start), Buffer.from(cut.text))
    at = cut.end
  }
  parts.push(body.subarray(at))
  return Buffer.concat(parts)
}
