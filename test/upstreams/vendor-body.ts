/**
 * How the scripted vendor puts a body on the wire: paced, split, compressed, held, stalled or cut, always waiting for
 * a slow reader, and stopping when the reader is gone.
 * @module
 */
import type { ServerResponse } from 'node:http'
import { setImmediate as turn, setTimeout as wait } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import type { Behaviour } from './vendor-faults.ts'

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Where a body goes. `signal` fires when the caller is gone. */
export interface Sink {
  readonly response: ServerResponse
  readonly signal: AbortSignal
  readonly behaviour: Behaviour
  /** Told after bytes were handed to the system. */
  readonly onSent: (bytes: number) => void
  sent: number
}

/** A whole body with its length declared, unless the behaviour says otherwise. */
export async function sendWhole(sink: Sink, status: number, headers: readonly string[], body: Buffer): Promise<void> {
  const { response, behaviour } = sink
  const bytes = behaviour.gzip ? gzipSync(body) : body
  const list = [...headers, ...(behaviour.gzip ? ['content-encoding', 'gzip'] : [])]
  const chunked = behaviour.trailers || behaviour.cut === 'end' || behaviour.closeDelimited
  if (!chunked) list.push('content-length', String(bytes.length))
  begin(sink, status, list)
  if (behaviour.stallAfter !== null) return silence(sink)
  if (await put(sink, bytes)) await finish(response, behaviour)
}

/** A stream of pieces; each is a write of its own. @returns after the end of the body, or when the caller is gone */
export async function sendPieces(
  sink: Sink,
  headers: readonly string[],
  pieces: AsyncIterable<Buffer | 'silence'>,
): Promise<void> {
  const { response, behaviour } = sink
  begin(sink, 200, [...headers, ...(behaviour.gzip ? ['content-encoding', 'gzip'] : [])])
  if (behaviour.gzip) {
    const all: Buffer[] = []
    for await (const piece of pieces) if (piece !== 'silence') all.push(piece)
    if (await put(sink, gzipSync(Buffer.concat(all)))) await finish(response, behaviour)
    return
  }
  for await (const piece of pieces) {
    if (piece === 'silence') return silence(sink)
    if (!(await put(sink, piece))) return
  }
  await finish(response, behaviour)
}

function begin({ response, behaviour }: Sink, status: number, headers: readonly string[]): void {
  if (behaviour.closeDelimited) {
    response.useChunkedEncodingByDefault = false
    response.shouldKeepAlive = false
  }
  response.sendDate = true
  response.writeHead(status, [...headers, ...(behaviour.trailers ? ['trailer', 'x-vendor-trailer'] : [])])
  response.flushHeaders()
}

async function finish(response: ServerResponse, behaviour: Behaviour): Promise<void> {
  if (response.destroyed) return
  if (behaviour.trailers) response.addTrailers([['x-vendor-trailer', 'kept']])
  response.end()
}

/** Nothing more is sent until the caller leaves. */
async function silence({ signal }: Sink): Promise<void> {
  if (signal.aborted) return
  await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}

/** Writes, in the pieces and up to the byte the behaviour allows. @returns false when the body ended here */
async function put(sink: Sink, bytes: Buffer): Promise<boolean> {
  const { behaviour } = sink
  const left = behaviour.cut === null ? bytes.length : behaviour.cutAt - sink.sent
  const allowed = bytes.subarray(0, Math.max(0, left))
  const step = behaviour.splitAt > 0 ? behaviour.splitAt : Math.max(allowed.length, 1)
  for (let at = 0; at < allowed.length; at += step) {
    if (!(await write(sink, allowed.subarray(at, at + step)))) return false
    // A turn of the event loop in between makes each write a segment of its own.
    if (behaviour.splitAt > 0) await turn()
  }
  // With exactly cutAt bytes written there must be no more, not even the end of the body.
  if (behaviour.cut === null || sink.sent < behaviour.cutAt) return true
  await cut(sink, behaviour.cut)
  return false
}

async function cut({ response }: Sink, how: 'close' | 'reset' | 'end'): Promise<void> {
  if (how === 'end') {
    response.end()
  } else if (how === 'reset') {
    // A reset throws away what the reader has not taken yet; this gives it the chance to.
    await wait(20)
    response.socket?.resetAndDestroy()
  } else {
    response.destroy()
  }
}

/** @returns false when the caller is gone */
function write(sink: Sink, bytes: Buffer): Promise<boolean> {
  const { response, signal } = sink
  if (signal.aborted || response.destroyed) return Promise.resolve(false)
  return new Promise((resolve) => {
    const gone = () => resolve(false)
    signal.addEventListener('abort', gone, { once: true })
    // The callback comes when the system took the bytes, so a slow reader holds this back.
    response.write(bytes, (error) => {
      signal.removeEventListener('abort', gone)
      if (error === null || error === undefined) {
        sink.sent += bytes.length
        sink.onSent(bytes.length)
      }
      resolve(error === null || error === undefined)
    })
  })
}

/** Waits, but not longer than the caller does. @returns false when the caller is gone */
export async function pause(ms: number, signal: AbortSignal): Promise<boolean> {
  if (ms === 0) return !signal.aborted
  try {
    await wait(ms, undefined, { signal })
    return true
  } catch {
    return false
  }
}
