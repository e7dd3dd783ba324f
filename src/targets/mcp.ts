/**
 * A tool server that speaks MCP, as a target: connected when first needed, its catalogue kept warm, reconnected with
 * growing pauses when it is gone. Its failures are its own state; nothing here throws.
 * @module
 */
import { homedir } from 'node:os'
import { delimiter, dirname, isAbsolute, resolve } from 'node:path'
import type { Invocation, ServerState, Target, Tool, ToolOutcome } from '../call.ts'
import { authHeader } from '../credentials/schemes.ts'
import { type Fault, fault } from '../fault.ts'
import { ingest } from '../mcp/ingest.ts'
import { connect, type McpConnection } from '../mcp/upstream/connection.ts'
import { toFault, why } from '../mcp/upstream/explain.ts'
import { httpLane } from '../mcp/upstream/http.ts'
import { type Lane, type LaneEvents, Trouble } from '../mcp/upstream/lane.ts'
import { stdioLane } from '../mcp/upstream/stdio.ts'
import type { TargetDeps } from './deps.ts'
import type { McpRow } from './mcp-row.ts'

/** Pauses between attempts to connect, ms: doubled from the first to the last, each with up to half of chance added. */
const backoffMs = { first: 500, last: 60_000 }
/** Failures in a row after which a server counts as down and not merely as unstable. */
const failuresUntilDown = 3
/** Time for connecting and for listing, ms. A package runner may have to unpack first. */
const connectMs = 60_000
/** Silence after which a child is also greeted the older way, ms. */
const probeMs = 3000
/** Changes announced together are read together, ms. */
const settleMs = 100

/** @param id the server's id in the registry */
export function mcpTarget(id: string, row: McpRow, deps: TargetDeps): Target {
  const { clock, log } = deps
  let connection: McpConnection | null = null
  let dialing: Lane | null = null
  const underWay = new WeakMap<McpConnection, number>()
  /** What a child turned out to speak; its command is fixed, so it need not be asked at each start. */
  let settledEra: 'modern' | 'legacy' | null = null
  let connecting: Promise<McpConnection | Trouble> | null = null
  let reading: Promise<void> | null = null
  let readAgain = false
  let closed = false
  let failures = 0
  /** Monotonic ms before which no attempt is made. */
  let notBefore = 0
  let timer: NodeJS.Timeout | null = null
  let status: ServerState['status'] = row.disabled ? 'disabled' : 'starting'
  let lastFailure: string | null = null
  let era: ServerState['era'] = null
  let tools: readonly Tool[] = []
  const usable = () => !closed && !row.disabled

  function failed(trouble: Trouble): void {
    const body = trouble.body
    failures++
    lastFailure = why(trouble)
    const unauthorized = body.kind === 'status' && (body.status === 401 || body.status === 403)
    status = unauthorized ? 'needs_auth' : failures >= failuresUntilDown || tools.length === 0 ? 'error' : 'unstable'
    const pause = Math.min(backoffMs.first * 2 ** (failures - 1), backoffMs.last)
    const wait = Math.round(pause * (1 + deps.random(1).readUInt8() / 512))
    notBefore = clock.mono() + wait
    log.warn({ server: id, failures, why: lastFailure, retryInMs: wait }, 'tool server failed')
    schedule(wait)
  }

  function schedule(wait: number): void {
    if (timer !== null) clearTimeout(timer)
    timer = null
    if (!usable()) return
    timer = setTimeout(() => {
      timer = null
      void read()
    }, wait)
    timer.unref()
  }

  function open(events: LaneEvents): Lane {
    if (closed) throw new Error('it is no longer registered')
    if (row.command !== undefined) {
      dialing = stdioLane({ command: row.command, cwd: folder(), env: environment(), log, events })
    } else {
      const url = new URL(row.url as string)
      dialing = httpLane({
        url,
        dispatcher: deps.egress.pool(url.origin, row.allow_private),
        auth: () => authHeader(row.auth, deps.secret),
        log,
        events,
      })
    }
    return dialing
  }

  const folder = () => (row.cwd === undefined ? deps.home : isAbsolute(row.cwd) ? row.cwd : resolve(deps.home, row.cwd))

  /** Built from empty: a server sees what it needs to run and what its row gives it. */
  function environment(): Record<string, string> {
    const own = dirname(process.execPath)
    const env: Record<string, string> = {
      PATH: deps.surroundings?.PATH ?? [own, '/usr/local/bin', '/usr/bin', '/bin'].join(delimiter),
      HOME: deps.surroundings?.HOME ?? homedir(),
      LANG: deps.surroundings?.LANG ?? 'C.UTF-8',
    }
    for (const [name, value] of Object.entries(row.env ?? {})) {
      env[name] = /^(env|file):/.test(value) ? deps.secret(value) : value
    }
    return env
  }

  async function connected(): Promise<McpConnection | Trouble> {
    if (connection !== null) return connection
    connecting ??= dial().finally(() => {
      connecting = null
    })
    return connecting
  }

  /** One attempt to connect; its failure is counted here and nowhere else. */
  async function dial(): Promise<McpConnection | Trouble> {
    let mine: McpConnection | null = null
    let gone: string | null = null
    const onLost = (reason: string) => {
      gone = reason
      if (mine !== null && connection === mine) drop(mine, new Trouble({ kind: 'lost', why: reason, sent: true }))
    }
    const found = await negotiate(onLost)
    dialing = null
    const trouble =
      found instanceof Trouble ? found : gone === null ? null : new Trouble({ kind: 'lost', why: gone, sent: false })
    if (!(found instanceof Trouble) && (closed || trouble !== null)) await found.close()
    if (closed) return new Trouble({ kind: 'lost', why: 'it is no longer registered', sent: false })
    if (found instanceof Trouble || trouble !== null) {
      settledEra = null
      failed(trouble as Trouble)
      return trouble as Trouble
    }
    mine = found
    connection = found
    era = found.era
    if (row.command !== undefined) settledEra = found.era
    return found
  }

  async function negotiate(onLost: (reason: string) => void): Promise<McpConnection | Trouble> {
    try {
      // Over HTTP silence says nothing about the era: each request stands alone, and a slow server is only slow.
      const probe = row.command === undefined ? 2 * connectMs : probeMs
      const ask = row.era === 'auto' ? (settledEra ?? 'auto') : row.era
      return await connect({ open, era: ask, probeMs: probe, connectMs, onToolsChanged: changed, onLost })
    } catch (error) {
      // A reference without a value is what throws here; the message names the reference and no secret.
      const reason = error instanceof Error ? error.message : 'it cannot be started'
      return new Trouble({ kind: 'lost', why: reason, sent: false })
    }
  }

  /** Gives a connection up. Calls still under way on it may end; it is closed after the last. */
  function drop(link: McpConnection, trouble: Trouble): void {
    if (connection !== link) return
    connection = null
    if ((underWay.get(link) ?? 0) === 0) void link.close()
    if (!closed) failed(trouble)
  }

  function changed(): void {
    if (usable()) schedule(settleMs)
  }

  /** Reads the catalogue; readers that come meanwhile share the run, and one more follows when asked for. */
  function read(): Promise<void> {
    if (!usable()) return Promise.resolve()
    if (reading !== null) {
      readAgain = true
      return reading
    }
    reading = readOnce().finally(() => {
      reading = null
      if (!readAgain) return
      readAgain = false
      if (status === 'healthy') changed()
    })
    return reading
  }

  async function readOnce(): Promise<void> {
    const link = await connected()
    if (link instanceof Trouble) return
    const listed = await link.listTools()
    if (closed) return
    if (listed instanceof Trouble) {
      // A connection that cannot list is of no use; the next attempt starts afresh.
      drop(link, listed)
      return
    }
    const { tools: next, refused } = ingest(id, listed)
    for (const one of refused) log.warn({ server: id, tool: one.name, why: one.why }, 'tool left out of the catalogue')
    if (!sameTools(tools, next)) tools = next
    healthy()
  }

  function healthy(): void {
    failures = 0
    notBefore = 0
    lastFailure = null
    status = 'healthy'
  }

  function unavailable(): Fault {
    const again = Math.max(1, Math.ceil((notBefore - clock.mono()) / 1000))
    const reason = `${lastFailure ?? 'it is not connected'}; the next attempt is in ${again} s`
    return fault({ code: 'upstream_error', upstream: id, status: null, why: reason, unsent: true })
  }

  async function call(invocation: Invocation): Promise<ToolOutcome> {
    if (!usable())
      return {
        fault: fault({ code: 'upstream_error', upstream: id, status: null, why: 'it is disabled', unsent: true }),
      }
    if (connection === null && clock.mono() < notBefore) return { fault: unavailable() }
    const since = clock.mono()
    const link = await connectedWithin(invocation)
    if (link instanceof Trouble) return { fault: toFault(link, id) }
    const { signal, onProgress } = invocation
    // Connecting is part of the time the caller gave.
    const timeoutMs = Math.max(1, Math.ceil(invocation.timeoutMs - (clock.mono() - since)))
    underWay.set(link, (underWay.get(link) ?? 0) + 1)
    const answer = await link.call(invocation.tool.name, invocation.args, invocation.meta, {
      signal,
      timeoutMs,
      onProgress,
    })
    const left = (underWay.get(link) ?? 1) - 1
    underWay.set(link, left)
    if (left === 0 && connection !== link) void link.close()
    if (!(answer instanceof Trouble)) {
      if (connection === link) healthy()
      return { result: answer }
    }
    const { body } = answer
    // What never reached the server tells about the server; an answer that broke off tells about that call alone.
    if (body.kind === 'lost' && !body.sent) drop(link, answer)
    else if (body.kind === 'status' && (body.status === 401 || body.status === 403)) {
      status = 'needs_auth'
      lastFailure = why(answer)
    } else if (body.kind === 'status' && body.status < 500) {
      // Perhaps it now speaks another era. Listing finds out, and gives the connection up if so.
      changed()
    }
    return { fault: toFault(answer, id) }
  }

  /** A caller waits for a connection no longer than for its answer, and not at all once it has gone. */
  async function connectedWithin({ signal, timeoutMs }: Invocation): Promise<McpConnection | Trouble> {
    if (connection !== null) return connection
    return new Promise((done) => {
      const settle = (value: McpConnection | Trouble) => {
        clearTimeout(late)
        signal.removeEventListener('abort', aborted)
        done(value)
      }
      const aborted = () => settle(new Trouble({ kind: 'aborted' }))
      const late = setTimeout(() => settle(new Trouble({ kind: 'timeout', afterMs: timeoutMs })), timeoutMs)
      if (signal.aborted) return aborted()
      signal.addEventListener('abort', aborted)
      void connected().then(settle)
    })
  }

  return {
    id,
    kind: 'mcp',
    state: () => ({ status, lastFailure, era, tools: tools.length }),
    tools: () => tools,
    refresh: read,
    call,
    async close() {
      if (closed) return
      closed = true
      status = 'disabled'
      if (timer !== null) clearTimeout(timer)
      timer = null
      const pending = connecting
      const open = connection
      connection = null
      await dialing?.close()
      await open?.close()
      await pending
    },
  }
}

/** Same definitions, so that readers who compare by identity see no change where there is none. */
function sameTools(a: readonly Tool[], b: readonly Tool[]): boolean {
  return a.length === b.length && JSON.stringify(a) === JSON.stringify(b)
}
