/**
 * A lane over Streamable HTTP: one POST per message, answered by JSON or by an event stream. Headers are made anew for
 * this hop; nothing a caller sent to the gateway as a header gets here.
 * @module
 */
import type { IncomingHttpHeaders } from 'node:http'
import type { Dispatcher } from 'undici'
import { connectFault, neverSent } from '../../egress.ts'
import { encodeHeaderValue } from '../wire/headers.ts'
import { type Json, notificationBody, type RpcResponse, requestBody } from '../wire/jsonrpc.ts'
import { codecs, type Revision } from '../wire/revision.ts'
import { explainConnect } from './explain.ts'
import { readAnswer } from './http-answer.ts'
import { type Ask, type Lane, type LaneEvents, type LaneLog, Trouble, withProgressToken } from './lane.ts'

export interface HttpLaneOptions {
  readonly url: URL
  readonly dispatcher: Dispatcher
  /** The credential header of this hop, read for each request; null where there is none. @throws {Error} no secret */
  readonly auth: () => readonly [string, string] | null
  readonly log: LaneLog
  readonly events: LaneEvents
}

type Headers = Record<string, string>

/** Waits between attempts to reopen a stream, ms: doubled from the first to the last. */
const reopenMs = { first: 1000, last: 60_000 }
/** Resumptions of one answer's stream before it counts as lost. */
const maxResumes = 5

export function httpLane(options: HttpLaneOptions): Lane {
  const { url, dispatcher, log, events } = options
  const life = new AbortController()
  let revision: Revision | null = null
  let session: string | null = null
  let lastId = 0

  function dressed(method: string | null, params: Json, extra: Ask['headers']): Headers {
    const headers: Headers = {}
    if (method !== null) headers['content-type'] = 'application/json'
    headers.accept = method === null ? 'text/event-stream' : 'application/json, text/event-stream'
    const credential = options.auth()
    if (credential !== null) headers[credential[0]] = credential[1]
    if (revision === null) return headers
    headers['mcp-protocol-version'] = revision
    const codec = codecs[revision]
    if (codec.era === 'legacy') {
      if (session !== null) headers['mcp-session-id'] = session
      return headers
    }
    if (method === null) return headers
    headers['mcp-method'] = method
    const named = params[codec.named.get(method) ?? '']
    if (typeof named === 'string') headers['mcp-name'] = encodeHeaderValue(named)
    for (const [name, value] of extra ?? []) headers[name] = value
    return headers
  }

  async function send(
    verb: 'POST' | 'GET' | 'DELETE',
    headers: Headers,
    body: Json | null,
    signal: AbortSignal,
  ): Promise<Dispatcher.ResponseData | Trouble> {
    try {
      return await dispatcher.request({
        origin: url.origin,
        path: `${url.pathname}${url.search}`,
        method: verb,
        headers,
        body: body === null ? null : JSON.stringify(body),
        signal,
      })
    } catch (error) {
      if (signal.aborted) return new Trouble({ kind: 'aborted' })
      const why = explainConnect(connectFault(error, url.host))
      return new Trouble({ kind: 'lost', why, sent: !neverSent(error) })
    }
  }

  /** Sends what expects no answer. Failures are of no consequence: the message was a courtesy. */
  async function tell(body: Json, method: string): Promise<void> {
    let headers: Headers
    try {
      headers = dressed(method, {}, undefined)
    } catch {
      return
    }
    const response = await send('POST', headers, body, AbortSignal.any([life.signal, AbortSignal.timeout(10_000)]))
    if (!(response instanceof Trouble)) await response.body.dump({ limit: 65_536 }).catch(() => {})
  }

  function reply(body: Json): void {
    void tell(body, '')
  }

  async function exchange(ask: Ask, id: number, signal: AbortSignal): Promise<RpcResponse | Trouble> {
    const params = ask.onProgress === undefined ? ask.params : withProgressToken(ask.params, id)
    let headers: Headers
    try {
      headers = dressed(ask.method, params, ask.headers)
    } catch {
      return new Trouble({ kind: 'lost', why: 'its credential is not configured', sent: false })
    }
    const sessionSent = headers['mcp-session-id']
    const response = await send('POST', headers, requestBody(id, ask.method, params), signal)
    if (response instanceof Trouble) return response
    if (ask.method === 'initialize') session = sessionId(response.headers)
    const context = { id, onProgress: ask.onProgress, events, reply, log, signal }
    let answer = await readAnswer(response.statusCode, response.headers, response.body, context)
    for (let resumes = 0; !(answer instanceof Trouble) && answer.kind === 'cut'; resumes++) {
      // Older servers may hang up in the middle and expect us back with the id of the last event.
      if (answer.lastEventId === null || session === null || resumes === maxResumes)
        return new Trouble({ kind: 'lost', why: 'its answer broke off', sent: true })
      await pause(answer.retryMs, signal)
      const again = { ...dressed(null, {}, undefined), 'last-event-id': answer.lastEventId }
      const resumed = await send('GET', again, null, signal)
      if (resumed instanceof Trouble) return resumed
      answer = await readAnswer(resumed.statusCode, resumed.headers, resumed.body, context)
    }
    // A session ends on the server's side by 404; which session it was matters when calls overlap.
    if (
      answer instanceof Trouble &&
      answer.body.kind === 'status' &&
      answer.body.status === 404 &&
      sessionSent === session
    )
      session = null
    return answer as RpcResponse | Trouble
  }

  return {
    speak(next) {
      revision = next
      if (next === null) session = null
    },

    async request(ask) {
      const id = ++lastId
      const deadline = ask.timeoutMs > 0 ? AbortSignal.timeout(ask.timeoutMs) : null
      const signals = [life.signal, ...(ask.signal ? [ask.signal] : []), ...(deadline ? [deadline] : [])]
      const response = await exchange(ask, id, AbortSignal.any(signals))
      const broken = response instanceof Trouble && (response.body.kind === 'aborted' || response.body.kind === 'lost')
      if (broken && (deadline?.aborted || ask.signal?.aborted)) {
        // Hanging up is no cancellation for older servers: they must be told.
        if (session !== null && ask.method !== 'initialize')
          void tell(notificationBody('notifications/cancelled', { requestId: id }), 'notifications/cancelled')
        if (ask.signal?.aborted) return new Trouble({ kind: 'aborted' })
        return new Trouble({ kind: 'timeout', afterMs: ask.timeoutMs })
      }
      if (response instanceof Trouble) return response
      if (response.error !== null) return new Trouble({ kind: 'error', error: response.error })
      return response.result as Json
    },

    notify: (method, params) => tell(notificationBody(method, params), method),

    watch() {
      if (revision !== null && codecs[revision].era === 'legacy') void watchStream()
    },

    async close() {
      if (life.signal.aborted) return
      const ended = session
      if (ended !== null) {
        try {
          const headers = dressed(null, {}, undefined)
          const response = await send('DELETE', headers, null, AbortSignal.timeout(2000))
          if (!(response instanceof Trouble)) await response.body.dump({ limit: 65_536 }).catch(() => {})
        } catch {
          // The credential is gone; the session ends by its own expiry.
        }
      }
      life.abort()
    },
  }

  /** The stream of unasked messages that older servers may offer; 405 says they do not. */
  async function watchStream(): Promise<void> {
    const watched = session
    for (
      let wait = reopenMs.first;
      !life.signal.aborted && session === watched;
      wait = Math.min(wait * 2, reopenMs.last)
    ) {
      const response = await send('GET', dressed(null, {}, undefined), null, life.signal)
      if (!(response instanceof Trouble)) {
        if (response.statusCode !== 200) {
          await response.body.dump({ limit: 65_536 }).catch(() => {})
          return
        }
        wait = reopenMs.first
        const context = { id: null, onProgress: undefined, events, reply, log, signal: life.signal }
        await readAnswer(response.statusCode, response.headers, response.body, context)
      }
      await pause(wait, life.signal)
    }
  }
}

function sessionId(headers: IncomingHttpHeaders): string | null {
  const value = headers['mcp-session-id']
  return typeof value === 'string' && /^[\x21-\x7e]{1,1024}$/.test(value) ? value : null
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve()
    const done = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    timer.unref()
    signal.addEventListener('abort', done)
  })
}
