/** A lane over the stdin and stdout of a child process: one JSON-RPC message per line. @module */
import {
  type Json,
  notificationBody,
  type RpcId,
  type RpcMessage,
  type RpcResponse,
  readMessage,
  requestBody,
} from '../wire/jsonrpc.ts'
import { type ChildOptions, startChild } from './child.ts'
import {
  type Ask,
  answerTo,
  type Lane,
  type LaneEvents,
  type LaneLog,
  readProgress,
  Trouble,
  withProgressToken,
} from './lane.ts'

export interface StdioLaneOptions extends Pick<ChildOptions, 'command' | 'cwd' | 'env'> {
  readonly log: LaneLog
  readonly events: LaneEvents
}

interface Waiting {
  readonly ask: Ask
  readonly settle: (outcome: RpcResponse | Trouble) => void
}

/** Lines that are no message before a child counts as broken: some servers greet on stdout. */
const maxNoise = 1000

export function stdioLane(options: StdioLaneOptions): Lane {
  const { log, events } = options
  const waiting = new Map<RpcId, Waiting>()
  let lastId = 0
  let noise = 0
  let lost: string | null = null

  const child = startChild({
    command: options.command,
    cwd: options.cwd,
    env: options.env,
    log,
    onLine,
    onEnd(why) {
      lost = why
      const open = [...waiting.values()]
      waiting.clear()
      for (const one of open) one.settle(new Trouble({ kind: 'lost', why, sent: true }))
      events.onLost(why)
    },
  })

  function onLine(line: string): void {
    const message = parsed(line)
    if (message === null) {
      if (++noise === 1) log.warn({ pid: child.pid }, 'tool server writes to stdout what is no MCP message')
      if (noise > maxNoise) void child.close()
      return
    }
    if (message.kind === 'response') {
      const one = message.id === null ? undefined : waiting.get(message.id)
      // An answer nobody waits for: late after a cancellation, or invented. Either way it belongs to no call.
      if (one === undefined || message.id === null) return
      waiting.delete(message.id)
      one.settle(message)
    } else if (message.kind === 'request') {
      const answer = answerTo(message)
      if (answer !== null) child.write(JSON.stringify(answer))
    } else if (message.method === 'notifications/progress') {
      const { token, rest } = readProgress(message.params)
      if (typeof token === 'number' || typeof token === 'string') waiting.get(token)?.ask.onProgress?.(rest)
    } else {
      events.onNotification(message.method, message.params)
    }
  }

  const write = (body: Json) => child.write(JSON.stringify(body))

  return {
    speak() {},

    async request(ask) {
      if (lost !== null) return new Trouble({ kind: 'lost', why: lost, sent: false })
      if (ask.signal?.aborted) return new Trouble({ kind: 'aborted' })
      const id = ++lastId
      const params = ask.onProgress === undefined ? ask.params : withProgressToken(ask.params, id)
      const outcome = await new Promise<RpcResponse | Trouble>((resolve) => {
        const settle = (value: RpcResponse | Trouble) => {
          waiting.delete(id)
          clearTimeout(timer)
          ask.signal?.removeEventListener('abort', cancelled)
          resolve(value)
        }
        const giveUp = (trouble: Trouble) => {
          if (ask.method !== 'initialize') write(notificationBody('notifications/cancelled', { requestId: id }))
          settle(trouble)
        }
        const cancelled = () => giveUp(new Trouble({ kind: 'aborted' }))
        const late = () => giveUp(new Trouble({ kind: 'timeout', afterMs: ask.timeoutMs }))
        const timer = ask.timeoutMs > 0 ? setTimeout(late, ask.timeoutMs) : undefined
        timer?.unref()
        ask.signal?.addEventListener('abort', cancelled)
        waiting.set(id, { ask, settle })
        if (!write(requestBody(id, ask.method, params)))
          settle(new Trouble({ kind: 'lost', why: lost ?? 'its process is ending', sent: false }))
      })
      if (outcome instanceof Trouble) return outcome
      if (outcome.error !== null) return new Trouble({ kind: 'error', error: outcome.error })
      return outcome.result as Json
    },

    async notify(method, params) {
      write(notificationBody(method, params))
    },

    watch() {},
    close: () => child.close(),
  }
}

function parsed(line: string): RpcMessage | null {
  try {
    const message = readMessage(JSON.parse(line))
    return typeof message === 'string' ? null : message
  } catch {
    return null
  }
}
