/**
 * Watching an OpenAI-shaped event stream pass by: whole events are handed on as bytes, and only those that can carry
 * an ending, an error or usage are parsed. Server-sent events as in the WHATWG HTML standard, section 9.2.
 * @module
 */
import type { Usage } from '../../call.ts'
import { readUsage } from './usage.ts'

/** Longest event: one that never ends must not fill the memory. */
export const maxEventBytes = 16 * 1024 * 1024

/** What the events so far have said. */
export interface StreamState {
  /** Data events seen, `[DONE]` not counted: a count of what was delivered when nobody reports usage. */
  events: number
  /** Answers that have ended (`finish_reason`), by index; null while none has. */
  finished: Set<number> | null
  usage: Usage | null
  /** Why the stream cannot be believed any more, in our words, or null. */
  error: string | null
  done: boolean
}

export function streamState(): StreamState {
  return { events: 0, finished: null, usage: null, error: null, done: false }
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
 * The common case in one look: events that only carry text.
 *
 * @returns how many data events these are, or null when one of them may carry an ending, an error or usage
 */
export function ordinaryEvents(bytes: Buffer): number | null {
  // As text of single bytes: searching it costs less than asking the buffer once per mark.
  const text = bytes.toString('latin1')
  if (text.includes('[DONE]') || text.includes('"error"')) return null
  if (hasValue(text, '"finish_reason"') || hasValue(text, '"usage"')) return null
  let events = 0
  for (let at = text.indexOf('data:'); at !== -1; at = text.indexOf('data:', at + 5)) {
    const before = text.charCodeAt(at - 1)
    if (at === 0 || before === 0x0a || before === 0x0d) events++
  }
  return events
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
  state.events++
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
  if (usage !== null) state.usage = usage
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
