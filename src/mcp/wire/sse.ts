/** Server-sent events: reading them from bytes as they come, and writing one. @module */
import { StringDecoder } from 'node:string_decoder'

export interface SseEvent {
  readonly event: string
  readonly data: string
  readonly id: string | null
}

/**
 * An incremental reader of an event stream. Lines may end in LF, CRLF or CR and be cut anywhere.
 *
 * @param cap most characters of one event; one more makes `push` throw
 * @param onEvent called for each event that has data
 * @param onRetry called with the reconnection time the server asks for, ms
 */
export function sseReader(
  cap: number,
  onEvent: (event: SseEvent) => void,
  onRetry: (ms: number) => void = () => {},
): { push(chunk: Buffer): void } {
  const decoder = new StringDecoder('utf8')
  // Pieces of the unfinished line: joined only when its end comes, so that a long line costs no more than its length.
  let rest: string[] = []
  let restSize = 0
  let data: string[] = []
  let size = 0
  let event = ''
  let id: string | null = null
  let skipLf = false

  function line(text: string): void {
    if (text === '') {
      if (data.length > 0) onEvent({ event: event === '' ? 'message' : event, data: data.join('\n'), id })
      data = []
      size = 0
      event = ''
      return
    }
    const colon = text.indexOf(':')
    if (colon === 0) return
    const field = colon === -1 ? text : text.slice(0, colon)
    const value = colon === -1 ? '' : text.slice(text[colon + 1] === ' ' ? colon + 2 : colon + 1)
    if (field === 'data') {
      size += value.length
      data.push(value)
    } else if (field === 'event') event = value
    else if (field === 'id' && !value.includes('\0')) id = value
    else if (field === 'retry' && /^[0-9]{1,7}$/.test(value)) onRetry(Number(value))
  }

  return {
    push(chunk) {
      let text = decoder.write(chunk)
      if (skipLf && text.startsWith('\n')) text = text.slice(1)
      if (text !== '') skipLf = text.endsWith('\r')
      const lines = text.split(/\r\n|\n|\r/)
      const last = lines.pop() as string
      if (lines.length > 0) {
        lines[0] = rest.join('') + lines[0]
        rest = []
        restSize = 0
      }
      rest.push(last)
      restSize += last.length
      if (restSize + size > cap) throw new RangeError('an event is larger than the cap')
      for (const one of lines) {
        line(one)
        if (size > cap) throw new RangeError('an event is larger than the cap')
      }
    },
  }
}

/** One message event. The data is JSON text, so it has no line breaks of its own. */
export function sseMessage(data: string): string {
  return `event: message\ndata: ${data}\n\n`
}

/** A comment that keeps the connection and the proxies between awake. */
export const sseKeepAlive = ': keep-alive\n\n'
