/** Reads the HTTP answer to one message: a JSON document, or an event stream up to the response. @module */
import type { IncomingHttpHeaders } from 'node:http'
import type { Readable } from 'node:stream'
import { type Json, type RpcErrorBody, type RpcResponse, readMessage } from '../wire/jsonrpc.ts'
import { sseReader } from '../wire/sse.ts'
import { answerTo, type LaneEvents, type LaneLog, maxMessage, readProgress, Trouble } from './lane.ts'

/** The stream ended before the response did; it may be resumed after `retryMs` where an event id is known. */
export interface Cut {
  readonly kind: 'cut'
  readonly lastEventId: string | null
  readonly retryMs: number
}

export interface AnswerContext {
  /** The request's id, or null for a stream that belongs to none. */
  readonly id: number | null
  readonly onProgress: ((params: Json) => void) | undefined
  readonly events: LaneEvents
  /** Sends the answer to a request of the server. */
  readonly reply: (body: Json) => void
  readonly log: LaneLog
  readonly signal: AbortSignal
}

/** Error bodies are read up to this size, bytes. */
const maxErrorBody = 65_536
/** How long the rest of a stream may follow its response before the connection is dropped, ms. */
const lingerMs = 1000
const defaultRetryMs = 1000
const maxRetryMs = 30_000

export async function readAnswer(
  status: number,
  headers: IncomingHttpHeaders,
  body: Readable,
  context: AnswerContext,
): Promise<RpcResponse | Cut | Trouble> {
  const type = String(headers['content-type'] ?? '')
    .split(';')[0]
    ?.trim()
    .toLowerCase()
  const encoded = headers['content-encoding'] !== undefined && headers['content-encoding'] !== 'identity'
  if (encoded) {
    body.destroy()
    return new Trouble({ kind: 'invalid', why: 'its answer is compressed although it was not asked for' })
  }
  if (status >= 200 && status < 300 && type === 'text/event-stream') return readStream(body, context)
  const ok = status >= 200 && status < 300
  const bytes = await collect(body, ok ? maxMessage : maxErrorBody)
  if (bytes instanceof Trouble) return ok ? bytes : new Trouble({ kind: 'status', status, error: null })
  const message = type === 'application/json' ? parsed(bytes) : null
  if (!ok) {
    const error: RpcErrorBody | null = message?.kind === 'response' ? message.error : null
    return new Trouble({ kind: 'status', status, error })
  }
  if (message?.kind !== 'response')
    return new Trouble({ kind: 'invalid', why: 'its answer is not a JSON-RPC response' })
  if (message.id !== context.id && !(message.id === null && message.error !== null))
    return new Trouble({ kind: 'invalid', why: 'it answered another request than the one it was sent' })
  return message
}

function parsed(bytes: Buffer) {
  try {
    const message = readMessage(JSON.parse(bytes.toString('utf8')))
    return typeof message === 'string' ? null : message
  } catch {
    return null
  }
}

function collect(body: Readable, cap: number): Promise<Buffer | Trouble> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = []
    let size = 0
    body.on('data', (chunk: Buffer) => {
      size += chunk.length
      if (size > cap) {
        resolve(new Trouble({ kind: 'invalid', why: `its answer is larger than ${cap} bytes` }))
        body.destroy()
        return
      }
      chunks.push(chunk)
    })
    body.on('end', () => resolve(Buffer.concat(chunks, size)))
    const broken = () => resolve(new Trouble({ kind: 'lost', why: 'its answer broke off', sent: true }))
    body.on('error', broken)
    body.on('close', broken)
  })
}

function readStream(body: Readable, context: AnswerContext): Promise<RpcResponse | Cut | Trouble> {
  return new Promise((resolve) => {
    let lastEventId: string | null = null
    let retryMs = defaultRetryMs
    let answered = false

    const finish = (answer: RpcResponse | Cut | Trouble) => {
      if (answered) return
      answered = true
      resolve(answer)
      // Reading to the end keeps the connection; a stream that stays open costs it.
      setTimeout(() => body.destroy(), lingerMs).unref()
    }
    const reader = sseReader(
      maxMessage,
      (event) => {
        if (event.id !== null && event.id !== '') lastEventId = event.id
        if (answered || event.data === '') return
        const message = parsed(Buffer.from(event.data))
        if (message === null) context.log.debug({}, 'an upstream event is not a JSON-RPC message; it is dropped')
        else if (message.kind === 'response') {
          if (message.id === context.id && context.id !== null) finish(message)
        } else if (message.kind === 'notification') deliver(message.method, message.params, context)
        else {
          const answer = answerTo(message)
          if (answer !== null) context.reply(answer)
        }
      },
      (ms) => {
        retryMs = Math.min(ms, maxRetryMs)
      },
    )
    body.on('data', (chunk: Buffer) => {
      try {
        reader.push(chunk)
      } catch {
        finish(new Trouble({ kind: 'invalid', why: `its answer is larger than ${maxMessage} bytes` }))
        body.destroy()
      }
    })
    const ended = () => {
      if (context.signal.aborted) finish(new Trouble({ kind: 'aborted' }))
      else finish({ kind: 'cut', lastEventId, retryMs })
    }
    body.on('end', ended)
    body.on('error', ended)
    body.on('close', ended)
  })
}

function deliver(method: string, params: Json, context: AnswerContext): void {
  if (method !== 'notifications/progress') {
    context.events.onNotification(method, params)
    return
  }
  const { token, rest } = readProgress(params)
  if (token === context.id) context.onProgress?.(rest)
}
