/**
 * Watching an OpenAI-shaped event stream pass by: whole events are handed on as bytes, and only those that can carry
 * an ending, an error or usage are parsed. Server-sent events as in the WHATWG HTML standard, section 9.2.
 * @module
 */
import type { Usage } from '../../call.ts'
import { tally } from './text.ts'
import { readUsage } from './usage.ts'

/** Longest event: one that never ends must not fill the memory. */
export const maxEventBytes = 16 * 1024 * 1024

/** What the events so far have said. */
export interface StreamState {
  /** Data events seen, `[DONE]` not counted. */
  events: number
  /** Bytes of text in them, whatever it is for: content, arguments of tools, reasoning. */
  text: number
  /** Pieces of text that were not empty: none of them is less than one token. */
  pieces: number
  /** Answers that have ended (`finish_reason`), by index; null while none has. */
  finished: Set<number> | null
  usage: Usage | null
  /** Output tokens counted by us when the provider last said what it counted. */
  countedThen: number
  /** Why the stream cannot be believed any more, in our words, or null. */
  error: string | null
  done: boolean
}

export function streamState(): StreamState {
  return { events: 0, text: 0, pieces: 0, finished: null, usage: null, countedThen: 0, error: null, done: false }
}

/** A token is about four bytes of text; the same measure as for input nobody counted. */
export const bytesPerToken = 4
/** More bytes than this a token has only in odd places (long runs of blanks): a whole answer does not average it. */
const mostBytesPerToken = 16

/**
 * Output tokens seen so far: never less than what is plausibly billed. An event is at least one token, and vendors that
 * put many into one event are counted by the text.
 */
export function outputSeen(state: StreamState): number {
  return Math.max(state.events, Math.ceil(state.text / bytesPerToken))
}

/** Output tokens these are for certain: what shows that a vendor goes on beyond its cap, without blaming one that does not. */
export function outputCertain(state: StreamState): number {
  return Math.max(state.pieces, Math.floor(state.text / mostBytesPerToken))
}

/**
 * What was used by a stream that did not come to its end: what the provider said last and what was counted since then.
 *
 * @returns null when the provider said nothing
 */
export function usageSoFar(state: StreamState): Usage | null {
  const { usage } = state
  const since = outputSeen(state) - state.countedThen
  return usage === null || since === 0 ? usage : { ...usage, output: usage.output + since, source: 'estimated' }
}

/**
 * End of the last whole event in a buffer: events are separated by an empty line, whatever the line ends are.
 *
 * @returns index behind the separator, or 0 when no event is whole
 */
export function lastEventEnd(bytes: Buffer): number {
  for (let i = bytes.length - 1; i > 0; i--) {
    const byte = bytes[i]
    if (byte !== 0x0a && byte !== 0x0d) continue
    const before = bytes[i - 1]
    // A carriage return at the very end can be half of the line end; the other half belongs to this event too.
    if (before === 0x0a && byte === 0x0d && i === bytes.length - 1) continue
    if (before === 0x0a) return i + 1
    if (before === 0x0d && (byte === 0x0d || (i > 1 && (bytes[i - 2] === 0x0a || bytes[i - 2] === 0x0d)))) return i + 1
  }
  return 0
}

/**
 * The common case in one look: events that only carry text, which are counted.
 *
 * @returns false, and counts nothing, when one of them may carry an ending, an error or usage
 */
export function ordinaryEvents(bytes: Buffer, state: StreamState): boolean {
  // As text of single bytes: searching it costs less than asking the buffer once per mark.
  const text = bytes.toString('latin1')
  if (text.includes('[DONE]') || text.includes('"error"')) return false
  if (hasValue(text, '"finish_reason"') || hasValue(text, '"usage"')) return false
  let events = 0
  for (let at = text.indexOf('data:'); at !== -1; at = text.indexOf('data:', at + 5)) {
    const before = text.charCodeAt(at - 1)
    if (at === 0 || before === 0x0a || before === 0x0d) events++
  }
  tally(text, events, state)
  return true
}

/** Whether the key occurs with a value other than null. A quote inside a JSON string is escaped, so this cannot be text. */
function hasValue(text: string, key: string): boolean {
  for (let at = text.indexOf(key); at !== -1; at = text.indexOf(key, at)) {
    at += key.length
    while (text.charCodeAt(at) === 0x20 || text.charCodeAt(at) === 0x3a) at++
    if (text.charCodeAt(at) !== 0x6e) return true
  }
  return false
}

/** One event: its bytes, separator included, and what its data lines said. */
export interface StreamEvent {
  readonly bytes: Buffer
  readonly done: boolean
  /** Only a usage report: no choices. The extra event a caller gets when it asked for usage. */
  readonly usageOnly: boolean
}

/** Splits whole events; the state is that of the events taken so far, not of those still to come. */
export function* readEvents(bytes: Buffer, state: StreamState): Generator<StreamEvent> {
  let start = 0
  while (start < bytes.length) {
    const end = eventEnd(bytes, start)
    yield readEvent(bytes.subarray(start, end), state)
    start = end
  }
}

function eventEnd(bytes: Buffer, from: number): number {
  for (let i = from; i < bytes.length; i++) {
    const byte = bytes[i]
    if (byte !== 0x0a && byte !== 0x0d) continue
    // A line ends here; an empty line behind it ends the event.
    const next = byte === 0x0d && bytes[i + 1] === 0x0a ? i + 2 : i + 1
    if (bytes[next] === 0x0a) return next + 1
    if (bytes[next] === 0x0d) return bytes[next + 1] === 0x0a ? next + 2 : next + 1
    i = next - 1
  }
  return bytes.length
}

function readEvent(bytes: Buffer, state: StreamState): StreamEvent {
  const data = dataOf(bytes)
  if (data === null) return { bytes, done: false, usageOnly: false }
  if (data === '[DONE]') {
    state.done = true
    return { bytes, done: true, usageOnly: false }
  }
  tally(bytes.toString('latin1'), 1, state)
  let value: unknown
  try {
    value = JSON.parse(data)
  } catch {
    // A malformed event among good ones is passed on; the caller's SDK decides.
    return { bytes, done: false, usageOnly: false }
  }
  return { bytes, done: false, usageOnly: note(value, state) }
}

/** @returns whether the event is nothing but a usage report */
function note(value: unknown, state: StreamState): boolean {
  if (typeof value !== 'object' || value === null) return false
  const event = value as { choices?: unknown; usage?: unknown; error?: unknown }
  // What the vendor wrote there stays here: it may quote a credential.
  if (event.error !== undefined && event.error !== null) state.error = 'it reported an error inside the stream'
  const choices = Array.isArray(event.choices) ? event.choices : []
  for (const choice of choices as { index?: unknown; finish_reason?: unknown }[]) {
    if (typeof choice?.finish_reason !== 'string') continue
    state.finished ??= new Set()
    state.finished.add(typeof choice.index === 'number' ? choice.index : 0)
  }
  // Counts are cumulative: a later report replaces an earlier one.
  const usage = readUsage(event.usage)
  if (usage !== null) {
    state.usage = usage
    state.countedThen = outputSeen(state)
  }
  return choices.length === 0 && event.usage !== undefined && event.usage !== null
}

/** The data lines of an event, joined; null when it has none (comments, pings). */
function dataOf(bytes: Buffer): string | null {
  let data: string | null = null
  for (const line of bytes.toString('utf8', 0, bytes.length).split(/\r\n|\n|\r/)) {
    if (!line.startsWith('data:')) continue
    const text = line.slice(line[5] === ' ' ? 6 : 5)
    data = data === null ? text : `${data}\n${text}`
  }
  return data
}
