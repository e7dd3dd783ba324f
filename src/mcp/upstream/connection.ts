/**
 * A connection to one upstream server of either era: which era it speaks, its tools, and calls. Nothing here throws;
 * what goes wrong is a Trouble.
 * @module
 */
import { deeperThan, maxDefinitionDepth } from '../ingest.ts'
import { type HeaderParam, headerParams, paramHeaders } from '../wire/headers.ts'
import { isObject, type Json, rpcCodes } from '../wire/jsonrpc.ts'
import { metaKeys, software } from '../wire/meta.ts'
import { codecOf, type Era, modernRevisions, newestLegacy, newestModern, type Revision } from '../wire/revision.ts'
import { type Lane, type LaneEvents, Trouble } from './lane.ts'

export interface CallOptions {
  readonly signal: AbortSignal
  readonly timeoutMs: number
  readonly onProgress: ((params: Json) => void) | null
}

export interface McpConnection {
  readonly era: Era
  readonly revision: Revision
  /** Every page of the server's tools, as it gave them; capped. */
  listTools(): Promise<readonly Json[] | Trouble>
  /** @returns the CallToolResult as the server gave it */
  call(name: string, args: Json, meta: Json, options: CallOptions): Promise<Json | Trouble>
  close(): Promise<void>
}

export interface ConnectOptions {
  /** Opens the lane; asked again when a server does not survive the question which era it speaks. */
  readonly open: (events: LaneEvents) => Lane
  readonly era: 'auto' | Era
  /** A server that is silent for this long is asked the older way as well (stdio). Ms. */
  readonly probeMs: number
  readonly connectMs: number
  readonly onToolsChanged: () => void
  /** The connection cannot be used any more. */
  readonly onLost: (why: string) => void
}

const maxPages = 100
const maxListed = 5000

/** Negotiates the era and hands over a connection that is ready for calls. */
export async function connect(options: ConnectOptions): Promise<McpConnection | Trouble> {
  const { era } = options
  if (era !== 'legacy') {
    const link = opened(options)
    const found = await probe(link, options)
    if (found instanceof Trouble) {
      await link.drop()
      return found
    }
    if (found.era === 'modern') return modernConnection(link, found.revision, found.capabilities, options)
    if (found.initialized !== null) return legacyConnection(link, found.initialized, options)
    // Some servers end themselves on a request before the handshake; the next process is asked the older way.
    if (link.lost() !== null) return connect({ ...options, era: 'legacy' })
    const initialized = await initialize(link.lane, options.connectMs)
    if (initialized instanceof Trouble && link.lost() !== null) return connect({ ...options, era: 'legacy' })
    return settled(link, initialized, options)
  }
  const link = opened(options)
  return settled(link, await initialize(link.lane, options.connectMs), options)
}

interface Link {
  readonly lane: Lane
  lost(): string | null
  /** From now on events reach their listener. */
  attach(listener: { tools(): void; lost(why: string): void }): void
  drop(): Promise<void>
}

function opened(options: ConnectOptions): Link {
  let gone: string | null = null
  let listener: { tools(): void; lost(why: string): void } | null = null
  const lane = options.open({
    onNotification(method) {
      if (method === 'notifications/tools/list_changed') listener?.tools()
    },
    onLost(why) {
      gone = why
      listener?.lost(why)
    },
  })
  return {
    lane,
    lost: () => gone,
    attach(next) {
      listener = next
      if (gone !== null) next.lost(gone)
    },
    async drop() {
      listener = null
      await lane.close()
    },
  }
}

type Found =
  | { readonly era: 'modern'; readonly revision: Revision; readonly capabilities: Json }
  | { readonly era: 'legacy'; readonly initialized: Initialized | null }

interface Initialized {
  readonly revision: Revision
  readonly capabilities: Json
}

/** Asks for the era. A server that says nothing is also greeted the older way; what answers first decides. */
async function probe(link: Link, options: ConnectOptions): Promise<Found | Trouble> {
  const { lane } = link
  lane.speak(newestModern)
  const answer = lane.request({
    method: 'server/discover',
    params: { _meta: modernMeta({}, newestModern) },
    timeoutMs: options.connectMs,
  })
  const first = await Promise.race([answer, after(options.probeMs)])
  if (first !== null) return judged(link, first, options)
  if (options.era === 'modern') return judged(link, await answer, options)
  // Over HTTP each request stands alone and a slow server is only slow; speaking differently would garble the first.
  const greeted = initialize(lane, options.connectMs, false).then((value) => ({ greeted: value }))
  const winner = await Promise.race([answer.then((value) => ({ answer: value })), greeted])
  if ('greeted' in winner && !(winner.greeted instanceof Trouble)) {
    return { era: 'legacy', initialized: winner.greeted }
  }
  const verdict = await judged(link, await answer, options)
  if (verdict instanceof Trouble || verdict.era === 'modern') return verdict
  const late = (await greeted).greeted
  return late instanceof Trouble ? late : { era: 'legacy', initialized: late }
}

async function judged({ lane, lost }: Link, answer: Json | Trouble, options: ConnectOptions): Promise<Found | Trouble> {
  if (!(answer instanceof Trouble)) {
    const versions = Array.isArray(answer.supportedVersions) ? answer.supportedVersions : []
    const revision = modernRevisions.find((one) => versions.includes(one))
    if (revision === undefined) return older(lane, options, 'it speaks no protocol version known here')
    return { era: 'modern', revision, capabilities: isObject(answer.capabilities) ? answer.capabilities : {} }
  }
  const { body } = answer
  const error = body.kind === 'error' || body.kind === 'status' ? body.error : null
  if (error?.code === rpcCodes.headerMismatch || error?.code === rpcCodes.missingCapability)
    return { era: 'modern', revision: newestModern, capabilities: {} }
  // A pinned era is believed: some servers of the current revision do without discovery.
  if (options.era === 'modern' && (error !== null || (body.kind === 'status' && body.status === 404)))
    return { era: 'modern', revision: newestModern, capabilities: {} }
  const ended = lost()
  if (ended !== null) return older(lane, options, ended)
  if (body.kind === 'error' || body.kind === 'invalid') return older(lane, options, 'it does not speak 2026-07-28')
  if (body.kind === 'status' && body.status >= 400 && body.status < 500 && body.status !== 401 && body.status !== 403)
    return older(lane, options, 'it does not speak 2026-07-28')
  return answer
}

function older(lane: Lane, options: ConnectOptions, why: string): Found | Trouble {
  if (options.era === 'modern') return new Trouble({ kind: 'invalid', why })
  lane.speak(null)
  return { era: 'legacy', initialized: null }
}

async function initialize(lane: Lane, timeoutMs: number, reset = true): Promise<Initialized | Trouble> {
  if (reset) lane.speak(null)
  const answer = await lane.request({
    method: 'initialize',
    params: { protocolVersion: newestLegacy, capabilities: {}, clientInfo: software },
    timeoutMs,
  })
  if (answer instanceof Trouble) return answer
  const codec = codecOf(answer.protocolVersion)
  if (codec?.era !== 'legacy') return new Trouble({ kind: 'invalid', why: 'it speaks no protocol version known here' })
  lane.speak(codec.revision)
  await lane.notify('notifications/initialized', {})
  return { revision: codec.revision, capabilities: isObject(answer.capabilities) ? answer.capabilities : {} }
}

async function settled(
  link: Link,
  initialized: Initialized | Trouble,
  options: ConnectOptions,
): Promise<McpConnection | Trouble> {
  if (!(initialized instanceof Trouble)) return legacyConnection(link, initialized, options)
  await link.drop()
  return initialized
}

function legacyConnection(link: Link, initialized: Initialized, options: ConnectOptions): McpConnection {
  const { lane } = link
  let renewal: Promise<Initialized | Trouble> | null = null
  link.attach({ tools: options.onToolsChanged, lost: options.onLost })
  if (isObject(initialized.capabilities.tools) && initialized.capabilities.tools.listChanged === true) lane.watch()

  /** A 404 says the session is gone and nothing was done; a new one may take the request. */
  async function inSession(ask: () => Promise<Json | Trouble>): Promise<Json | Trouble> {
    const answer = await ask()
    if (!(answer instanceof Trouble) || answer.body.kind !== 'status' || answer.body.status !== 404) return answer
    renewal ??= initialize(lane, options.connectMs).finally(() => {
      renewal = null
    })
    const renewed = await renewal
    if (renewed instanceof Trouble) {
      options.onLost('its session ended and no new one could be opened')
      return renewed
    }
    lane.watch()
    return ask()
  }

  return {
    era: 'legacy',
    revision: initialized.revision,
    listTools: () =>
      pages((params) => inSession(() => lane.request({ method: 'tools/list', params, timeoutMs: options.connectMs }))),
    call: (name, args, meta, { signal, timeoutMs, onProgress }) =>
      inSession(() =>
        lane.request({
          method: 'tools/call',
          params: { name, arguments: args, ...(Object.keys(meta).length === 0 ? {} : { _meta: meta }) },
          timeoutMs,
          signal,
          onProgress: onProgress ?? undefined,
        }),
      ),
    close: link.drop,
  }
}

function modernConnection(link: Link, revision: Revision, capabilities: Json, options: ConnectOptions): McpConnection {
  const { lane } = link
  const ended = new AbortController()
  let params: ReadonlyMap<string, readonly HeaderParam[]> = new Map()
  lane.speak(revision)
  link.attach({ tools: options.onToolsChanged, lost: options.onLost })
  if (isObject(capabilities.tools) && capabilities.tools.listChanged === true) void subscribe()

  async function listTools(): Promise<readonly Json[] | Trouble> {
    const listed = await pages((page) =>
      lane.request({
        method: 'tools/list',
        params: { ...page, _meta: modernMeta({}, revision) },
        timeoutMs: options.connectMs,
      }),
    )
    if (!(listed instanceof Trouble)) params = annotated(listed)
    return listed
  }

  function attempt(name: string, args: Json, meta: Json, { signal, timeoutMs, onProgress }: CallOptions) {
    return lane.request({
      method: 'tools/call',
      params: { name, arguments: args, _meta: modernMeta(meta, revision) },
      timeoutMs,
      signal,
      onProgress: onProgress ?? undefined,
      headers: paramHeaders(params.get(name) ?? [], args),
    })
  }

  /** One long request per connection; it is asked again when it ends, more slowly each time it ends at once. */
  async function subscribe(): Promise<void> {
    for (let wait = 1000; !ended.signal.aborted && link.lost() === null; wait = Math.min(wait * 2, 60_000)) {
      await lane.request({
        method: 'subscriptions/listen',
        params: { notifications: { toolsListChanged: true }, _meta: modernMeta({}, revision) },
        timeoutMs: 0,
        signal: ended.signal,
      })
      if (ended.signal.aborted || link.lost() !== null) return
      await after(wait, ended.signal)
    }
  }

  return {
    era: 'modern',
    revision,
    listTools,
    async call(name, args, meta, call) {
      const answer = await attempt(name, args, meta, call)
      const refused = answer instanceof Trouble && answer.body.kind === 'status' ? answer.body.error : null
      let outcome = answer
      if (refused?.code === rpcCodes.headerMismatch) {
        // The schema changed which arguments travel as headers. Nothing was run; read it again and ask once more.
        const listed = await listTools()
        if (listed instanceof Trouble) return listed
        options.onToolsChanged()
        outcome = await attempt(name, args, meta, call)
      }
      return outcome instanceof Trouble ? outcome : complete(outcome)
    },
    async close() {
      ended.abort()
      await link.drop()
    },
  }
}

/** Only a complete result is one; the rest needs capabilities that were not declared. */
function complete(result: Json): Json | Trouble {
  const { resultType } = result
  if (resultType === undefined || resultType === 'complete') return result
  const why =
    resultType === 'input_required'
      ? 'it asked for input from the user, which this gateway did not offer'
      : 'its result is of a kind that was not agreed on'
  return new Trouble({ kind: 'invalid', why })
}

async function pages(page: (params: Json) => Promise<Json | Trouble>): Promise<readonly Json[] | Trouble> {
  const all: Json[] = []
  let cursor: unknown
  for (let read = 0; read < maxPages; read++) {
    const answer = await page(cursor === undefined ? {} : { cursor })
    if (answer instanceof Trouble) return answer
    if (!Array.isArray(answer.tools)) return new Trouble({ kind: 'invalid', why: 'its tool list has no tools' })
    all.push(...answer.tools.filter(isObject))
    if (typeof answer.nextCursor !== 'string') return all
    if (all.length > maxListed || answer.nextCursor === cursor) break
    cursor = answer.nextCursor
  }
  return new Trouble({ kind: 'invalid', why: 'its tool list does not end' })
}

/** Tools with invalid annotations are left out of the catalogue, so they need no headers. */
function annotated(tools: readonly Json[]): ReadonlyMap<string, readonly HeaderParam[]> {
  const found = new Map<string, readonly HeaderParam[]>()
  for (const tool of tools) {
    if (typeof tool.name !== 'string' || deeperThan(tool.inputSchema, maxDefinitionDepth)) continue
    const params = headerParams(tool.inputSchema)
    if (typeof params !== 'string' && params.length > 0) found.set(tool.name, params)
  }
  return found
}

function modernMeta(meta: Json, revision: Revision): Json {
  return {
    ...meta,
    [metaKeys.protocolVersion]: revision,
    [metaKeys.clientCapabilities]: {},
    [metaKeys.clientInfo]: software,
  }
}

function after(ms: number, signal?: AbortSignal): Promise<null> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer)
      resolve(null)
    }
    const timer = setTimeout(done, ms)
    timer.unref()
    signal?.addEventListener('abort', done, { once: true })
  })
}
