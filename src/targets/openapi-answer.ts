/** From an HTTP answer to a tool result: what a model can use of it, and nothing of our credential. @module */
import { STATUS_CODES } from 'node:http'
import type { EgressResponse } from '../egress.ts'
import { isJsonType } from './openapi-operations.ts'
import { asRecord, type Json } from './openapi-schema.ts'

/** Most bytes of an answer that are passed on. */
export const maxAnswerBytes = 1024 * 1024
const maxFaultChars = 2_048
const maxDepth = 64

export interface AnswerOptions {
  /** Texts that must not be shown: the credential's secret. */
  readonly secrets: readonly string[]
  /** Whether the tool declared an output schema and this value fits; null when it declared none. */
  readonly fits: ((value: Json) => boolean) | null
  /** Wall clock, ms, for `retry-after` given as a date. */
  readonly now: number
}

/** @returns a CallToolResult; any status but 2xx is an `isError` one */
export function toolResult(answer: EgressResponse, options: AnswerOptions): Json {
  const type = answer.headers['content-type'] ?? ''
  const text = readText(answer, type, options.secrets)
  if (answer.status < 200 || answer.status > 299) return failure(answer, text ?? '', options.now)
  if (text === null) return noted(`[binary answer: ${type || 'unknown type'}, ${answer.body.length} bytes]`, options)
  if (answer.cut) {
    return noted(text, options, `[cut: the answer is longer than ${maxAnswerBytes} bytes; ask for less]`)
  }
  if (text === '') return noted(`HTTP ${answer.status} ${STATUS_CODES[answer.status] ?? ''}: no content`, options)
  const value = isJsonType(type) ? asRecord(parse(text)) : null
  if (value === null || options.fits?.(value) === false) return noted(text, options)
  return { content: [{ type: 'text', text }], structuredContent: value }
}

/**
 * A result without structured content. Where the tool declared an output schema, clients must drop a result that lacks
 * it, so it is marked as an error that says what really happened.
 */
function noted(text: string, options: AnswerOptions, note?: string): Json {
  const content = [text, ...(note === undefined ? [] : [note])].map((one) => ({ type: 'text', text: one }))
  if (options.fits === null) return { content }
  const why = 'The call succeeded, but its answer is not what the API description declares. It follows as it came.'
  return { content: [{ type: 'text', text: why }, ...content], isError: true }
}

function failure(answer: EgressResponse, text: string, now: number): Json {
  const reason = STATUS_CODES[answer.status]
  const lines = [`HTTP ${answer.status}${reason === undefined ? '' : ` ${reason}`}`]
  if (answer.status >= 300 && answer.status < 400)
    lines.push('The service answered with a redirect, which is not followed.')
  if (answer.status === 429 || answer.status === 503) lines.push(retryHint(answer.headers['retry-after'], now))
  if (text !== '') lines.push(text.length > maxFaultChars ? `${text.slice(0, maxFaultChars)} [cut]` : text)
  return { content: [{ type: 'text', text: lines.join('\n') }], isError: true }
}

function retryHint(value: string | undefined, now: number): string {
  if (value === undefined) return 'Try again later.'
  const seconds = /^\d{1,9}$/.test(value) ? Number(value) : Math.ceil((Date.parse(value) - now) / 1000)
  return Number.isFinite(seconds) ? `Try again after ${Math.max(seconds, 1)} seconds.` : 'Try again later.'
}

/** The body as text without secrets, or null when it is none. */
function readText(answer: EgressResponse, type: string, secrets: readonly string[]): string | null {
  const textual =
    isJsonType(type) ||
    /^(text\/|application\/(xml|javascript|yaml|x-yaml|x-ndjson|x-www-form-urlencoded)|[^;]*\+(xml|yaml))/i.test(type)
  if (!textual && type !== '') return null
  const latin1 = /charset="?(iso-8859-1|latin1|windows-1252)/i.test(type)
  const text = new TextDecoder(latin1 ? 'latin1' : 'utf-8').decode(answer.body)
  // Without a declared type, bytes that are no text are not shown as one.
  if (type === '' && text.includes('\ufffd')) return null
  return redact(text, secrets)
}

function redact(text: string, secrets: readonly string[]): string {
  let clean = text
  for (const secret of secrets) {
    // A very short secret would blank out ordinary words, and is none.
    if (secret.length < 6) continue
    clean = clean.replaceAll(secret, '[redacted]').replaceAll(JSON.stringify(secret).slice(1, -1), '[redacted]')
  }
  return clean
}

/** Parses JSON that is not nested past what can be written again without exhausting the stack. */
function parse(text: string): unknown {
  let depth = 0
  let quoted = false
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i)
    if (quoted) {
      if (c === 0x5c) i += 1
      else if (c === 0x22) quoted = false
    } else if (c === 0x22) quoted = true
    else if (c === 0x5b || c === 0x7b) {
      depth += 1
      if (depth > maxDepth) return undefined
    } else if (c === 0x5d || c === 0x7d) depth -= 1
  }
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
