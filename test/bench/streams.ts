/**
 * Streaming callers of the benchmark, on plain sockets: they count the chunks of their stream, check that it is their
 * own and that it ends as it must, and note when its first byte came.
 * @module
 */
import { connect, type Socket } from 'node:net'

export interface StreamTarget {
  readonly port: number
  /** `name: value` lines. */
  readonly headers: readonly string[]
}

export interface OpenStream {
  /** Resolves with the milliseconds from the request to the first event. */
  readonly first: Promise<number>
  /** Resolves with the number of events once the stream ended with its terminator. */
  readonly ended: Promise<number>
  close(): void
}

let serial = 0
/** A stream without an event after this long will never have one. */
const patienceMs = 15_000

/** Opens one stream. Its promises reject when the status is not 200, the stream is another's or it ends too early. */
export function openStream(target: StreamTarget, model: string): OpenStream {
  const marker = String(++serial).padStart(8, '0')
  const body = JSON.stringify({
    model,
    messages: [{ role: 'user', content: `marker-${marker}` }],
    stream: true,
    stream_options: { include_usage: true },
    max_tokens: 256,
    user: `end-${marker}`,
  })
  const head = ['host: 127.0.0.1', 'content-type: application/json', 'connection: close', ...target.headers]
  const first = Promise.withResolvers<number>()
  const ended = Promise.withResolvers<number>()
  // Whoever looks at only one of the two must not be punished for the other.
  first.promise.catch(() => {})
  ended.promise.catch(() => {})

  const startedAt = performance.now()
  const socket: Socket = connect({ host: '127.0.0.1', port: target.port, noDelay: true })
  socket.write(
    `POST /v1/chat/completions HTTP/1.1\r\n${head.join('\r\n')}\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  )
  let state: 'head' | 'first' | 'rest' = 'head'
  let tail = ''
  let events = 0

  const refuse = (why: string) => {
    const error = new Error(`stream of ${model}: ${why}`)
    first.reject(error)
    ended.reject(error)
    socket.destroy()
  }
  socket.on('data', (data) => {
    // The end of the last piece is kept, for what is cut between two.
    const text = tail + data.toString('latin1')
    if (state === 'head') {
      if (text.length >= 12 && !text.startsWith('HTTP/1.1 200')) return refuse(text.slice(0, 300))
      if (text.includes('data: ')) state = 'first'
    }
    if (state === 'first' && text.includes('\n\n')) {
      if (!text.includes(`marker-${marker}`)) return refuse('it answers another request')
      state = 'rest'
      first.resolve(performance.now() - startedAt)
    }
    if (state !== 'rest') {
      tail = text
      return
    }
    const last = text.lastIndexOf('\n\n')
    const whole = last === -1 ? '' : text.slice(0, last + 2)
    tail = text.slice(whole.length)
    for (let at = whole.indexOf('data: {'); at !== -1; at = whole.indexOf('data: {', at + 7)) events += 1
    if (whole.includes('data: [DONE]\n\n')) {
      ended.resolve(events)
      socket.destroy()
    }
  })
  const late = setTimeout(() => refuse(`no event within ${patienceMs / 1000} s; received: ${tail}`), patienceMs)
  first.promise.then(
    () => clearTimeout(late),
    () => clearTimeout(late),
  )
  socket.on('error', (error) => refuse(error.message))
  socket.on('close', () => refuse('it ended without its terminator'))
  return { first: first.promise, ended: ended.promise, close: () => void socket.destroy() }
}

/** Opens many, a few at a time, so that the opening itself does not queue. @returns when each had its first event */
export async function openMany(target: StreamTarget, model: string, count: number): Promise<OpenStream[]> {
  const atOnce = 25
  const streams: OpenStream[] = []
  while (streams.length < count) {
    const batch = Array.from({ length: Math.min(atOnce, count - streams.length) }, () => openStream(target, model))
    await Promise.all(batch.map((stream) => stream.first)).catch((error) => {
      throw new Error(`after ${streams.length} open streams: ${error}`)
    })
    streams.push(...batch)
  }
  return streams
}
