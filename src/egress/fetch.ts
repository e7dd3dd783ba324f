/**
 * One whole exchange over checked connections: redirects judged hop by hop, decoded size and total time capped.
 * For documents and tool calls; model calls dispatch on the pools themselves.
 * @module
 */
import type { Readable } from 'node:stream'
import { createBrotliDecompress, createGunzip, createInflate } from 'node:zlib'
import type { Dispatcher } from 'undici'
import { Fault, fault } from '../fault.ts'
import { connectFault } from './faults.ts'

export interface EgressRequest {
  readonly url: string
  /** Default GET. */
  readonly method?: string
  /** Name, value, name, value... `host`, `connection` and framing headers are not accepted. */
  readonly headers?: readonly string[]
  readonly body?: Buffer | string
  /** Most bytes of the decoded body. */
  readonly maxBytes: number
  /** What a longer body is: an `upstream_error` (default), or cut at the cap with `cut: true` in the answer. */
  readonly overflow?: 'fault' | 'cut'
  /** The whole exchange, name resolution and redirects included, in ms. */
  readonly timeoutMs: number
  /** `CIDR:port` entries allowed beside those of the environment. */
  readonly allowPrivate?: readonly string[]
  /** 0 (default) to 3; with 0 a redirect is an ordinary answer. Only GET and HEAD follow. */
  readonly maxRedirects?: number
  readonly signal?: AbortSignal
  /** How faults name the other side; the URL's host when left out. */
  readonly upstream?: string
}

export interface EgressResponse {
  readonly status: number
  /** Lower-case names; repeated ones joined with `, `. `set-cookie` is dropped: nothing here keeps cookies. */
  readonly headers: Readonly<Record<string, string>>
  /** Decoded. */
  readonly body: Buffer
  /** The body went on past `maxBytes`. */
  readonly cut: boolean
  /** Where the answer came from, after redirects. */
  readonly url: string
}

/** Judges an address and gives the pool that connects to it. */
export type Open = (url: string) => { readonly url: URL; readonly dispatcher: Dispatcher } | Fault

const redirects = new Set([301, 302, 303, 307, 308])
// Across origins only these stay; a credential can travel in any other header.
const harmless = new Set(['accept', 'accept-encoding', 'accept-language', 'user-agent'])
const ours = new Set([
  'host',
  'connection',
  'transfer-encoding',
  'content-length',
  'upgrade',
  'expect',
  'te',
  'trailer',
])

/**
 * @returns the answer whatever its status, or why there is none (`upstream_error`, `upstream_timeout`,
 *   `upstream_truncated`, `invalid_request` for the URL). Faults carry nothing that was received
 * @throws {TypeError} a header of the request belongs to the connection
 */
export async function exchange(request: EgressRequest, open: Open): Promise<EgressResponse | Fault> {
  let headers = ownHeaders(request.headers ?? [])
  const guard = new AbortController()
  const timer = setTimeout(() => guard.abort('timeout'), request.timeoutMs)
  const cancel = () => guard.abort('cancelled')
  request.signal?.addEventListener('abort', cancel, { once: true })
  if (request.signal?.aborted) cancel()
  let received = false
  try {
    let url = request.url
    for (let left = Math.min(request.maxRedirects ?? 0, 3); ; left--) {
      const opened = open(url)
      if (opened instanceof Fault) return renamed(opened, request.upstream)
      received = false
      const answer = await send(request, opened.url, opened.dispatcher, headers, guard.signal)
      received = true
      const next = (request.maxRedirects ?? 0) > 0 ? redirectOf(request, opened.url, answer) : null
      if (next === null) return await read(request, opened.url, answer)
      // The body of a redirect is of no use; dropping the connection is cheaper than reading it.
      answer.body.on('error', () => {}).destroy()
      if (next instanceof Fault) return next
      if (left === 0) return failed(request, opened.url, 'too many redirects')
      if (next.origin !== opened.url.origin) headers = withoutCredentials(headers)
      url = next.href
    }
  } catch (error) {
    const upstream = request.upstream ?? nameOf(request.url)
    if (guard.signal.reason === 'timeout')
      return fault({ code: 'upstream_timeout', upstream, afterMs: request.timeoutMs })
    if (guard.signal.aborted)
      return fault({ code: 'upstream_error', upstream, status: null, why: 'the call was cancelled' })
    return received ? fault({ code: 'upstream_truncated', upstream }) : connectFault(error, upstream)
  } finally {
    clearTimeout(timer)
    request.signal?.removeEventListener('abort', cancel)
  }
}

function send(
  request: EgressRequest,
  url: URL,
  dispatcher: Dispatcher,
  headers: string[],
  signal: AbortSignal,
): Promise<Dispatcher.ResponseData> {
  return dispatcher.request({
    origin: url.origin,
    path: url.pathname + url.search,
    method: (request.method ?? 'GET') as Dispatcher.HttpMethod,
    headers,
    body: request.body ?? null,
    signal,
  })
}

function ownHeaders(given: readonly string[]): string[] {
  const headers = [...given]
  const names = new Set<string>()
  for (let i = 0; i < given.length; i += 2) names.add((given[i] as string).toLowerCase())
  for (const name of names) if (ours.has(name)) throw new TypeError(`the header "${name}" belongs to the connection`)
  if (!names.has('accept-encoding')) headers.push('accept-encoding', 'identity')
  if (!names.has('user-agent')) headers.push('user-agent', 'gatehouse')
  return headers
}

function withoutCredentials(headers: readonly string[]): string[] {
  const kept: string[] = []
  for (let i = 0; i < headers.length; i += 2) {
    if (harmless.has((headers[i] as string).toLowerCase())) kept.push(headers[i] as string, headers[i + 1] as string)
  }
  return kept
}

/** Where to go next, null when this is the answer, or why the redirect is refused. */
function redirectOf(request: EgressRequest, from: URL, answer: Dispatcher.ResponseData): URL | Fault | null {
  const location = answer.headers.location
  const method = request.method ?? 'GET'
  if (!redirects.has(answer.statusCode) || typeof location !== 'string') return null
  // A body is never sent a second time to a place its sender did not name.
  if (method !== 'GET' && method !== 'HEAD') return null
  if (!URL.canParse(location, from.href)) return failed(request, from, 'the redirect has no valid address')
  const next = new URL(location, from)
  if (from.protocol === 'https:' && next.protocol !== 'https:')
    return failed(request, from, 'the redirect leaves https')
  return next
}

async function read(
  request: EgressRequest,
  url: URL,
  answer: Dispatcher.ResponseData,
): Promise<EgressResponse | Fault> {
  const headers = flatten(answer.headers)
  const bodyless = request.method === 'HEAD' || answer.statusCode === 204 || answer.statusCode === 304
  const decoded = bodyless ? answer.body : decode(answer.body, headers['content-encoding'])
  if (decoded === null) {
    answer.body.on('error', () => {}).destroy()
    return failed(request, url, 'its content encoding is not supported', answer.statusCode)
  }
  const { body, cut } = await collect(decoded, request.maxBytes)
  // Destroying the decoder does not stop its source.
  if (cut) answer.body.on('error', () => {}).destroy()
  if (cut && request.overflow !== 'cut') {
    return failed(request, url, `its answer is longer than ${request.maxBytes} bytes`, answer.statusCode)
  }
  return { status: answer.statusCode, headers, body, cut, url: url.href }
}

function decode(body: Readable, encoding: string | undefined): Readable | null {
  const name = (encoding ?? 'identity').trim().toLowerCase()
  if (name === 'identity' || name === '') return body
  // One layer only: each further one multiplies what a small body can unfold to.
  const decoder =
    name === 'gzip' || name === 'x-gzip'
      ? createGunzip()
      : name === 'br'
        ? createBrotliDecompress()
        : name === 'deflate'
          ? createInflate()
          : null
  if (decoder === null) return null
  body.on('error', (error) => decoder.destroy(error))
  return body.pipe(decoder)
}

async function collect(stream: Readable, maxBytes: number): Promise<{ body: Buffer; cut: boolean }> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > maxBytes) {
      chunks.push(chunk.subarray(0, chunk.length - (size - maxBytes)))
      return { body: Buffer.concat(chunks), cut: true }
    }
    chunks.push(chunk)
  }
  return { body: Buffer.concat(chunks, size), cut: false }
}

function flatten(headers: Dispatcher.ResponseData['headers']): Record<string, string> {
  const flat: Record<string, string> = Object.create(null)
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || name === 'set-cookie') continue
    flat[name] = typeof value === 'string' ? value : value.join(', ')
  }
  return flat
}

function failed(request: EgressRequest, url: URL, why: string, status: number | null = null): Fault {
  return fault({ code: 'upstream_error', upstream: request.upstream ?? url.host, status, why })
}

function renamed(given: Fault, upstream: string | undefined): Fault {
  return upstream !== undefined && given.body.code === 'upstream_error' ? fault({ ...given.body, upstream }) : given
}

function nameOf(url: string): string {
  return URL.canParse(url) ? new URL(url).host : 'upstream'
}
