/**
 * A child process that speaks in lines. It runs without a shell, in a process group of its own, with an environment
 * built from empty, and neither it nor what it started outlives the gateway.
 * @module
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { StringDecoder } from 'node:string_decoder'
import { quoted } from './explain.ts'
import { type LaneLog, maxMessage } from './lane.ts'

export interface ChildOptions {
  /** Program and arguments, passed on as they are. */
  readonly command: readonly string[]
  readonly cwd: string
  readonly env: Readonly<Record<string, string>>
  readonly log: LaneLog
  readonly onLine: (line: string) => void
  /** Called once, when the process has ended or could not be started. */
  readonly onEnd: (why: string) => void
}

export interface Child {
  readonly pid: number | undefined
  /** Writes one line; the text must not contain a line end. @returns false when the process takes nothing any more */
  write(line: string): boolean
  /** Ends stdin, waits, then SIGTERM, then SIGKILL to the whole group. Resolves when the process is gone. */
  close(): Promise<void>
}

/** Grace after stdin ended, after SIGTERM, and for output after the end, ms. */
const graceMs = { stdin: 1000, term: 1000, pipe: 1000 }
/** Longest stretch of stderr logged at once, characters; what is over is dropped. */
const maxStderrLine = 4096
/** Bytes waiting in the pipe before the process counts as stuck. */
const maxBacklog = 64 * 1024 * 1024

export function startChild(options: ChildOptions): Child {
  const [program, ...args] = options.command
  const child = spawn(program as string, args, {
    cwd: options.cwd,
    env: { ...options.env },
    shell: false,
    // A group of its own, so that a signal reaches what the process started, too.
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  const guard = child.pid === undefined ? null : watchdog(child.pid)
  let ended = false
  let reason: string | null = null
  const gone = new Promise<void>((resolve) => {
    const end = (why: string) => {
      if (ended) return
      ended = true
      resolve()
      options.onEnd(reason ?? why)
    }
    child.on('error', () => end('its command could not be started'))
    child.on('exit', (code, signal) => {
      const why = signal === null ? `its process ended with code ${code}` : `its process was ended by ${signal}`
      guard?.kill('SIGKILL')
      // What the process left behind in its group has no owner any more.
      signalGroup(child, 'SIGKILL')
      // Its last words may still be in the pipe; somebody outside the group may hold the pipe open.
      child.on('close', () => end(why))
      setTimeout(() => end(why), graceMs.pipe).unref()
    })
  })
  const abandon = (why: string) => {
    reason ??= why
    signalGroup(child, 'SIGKILL')
  }

  lines(child, options.onLine, () => abandon(`its output has a line of more than ${maxMessage} bytes`))
  stderrLog(child, options.log)
  child.stdin.on('error', () => {})

  return {
    pid: child.pid,
    write(line) {
      if (ended || !child.stdin.writable) return false
      child.stdin.write(`${line}\n`)
      if (child.stdin.writableLength > maxBacklog) abandon('its process does not read its input')
      return true
    },
    async close() {
      if (ended) return
      reason ??= 'it was closed'
      child.stdin.end()
      if (await within(gone, graceMs.stdin)) return
      signalGroup(child, 'SIGTERM')
      if (await within(gone, graceMs.term)) return
      signalGroup(child, 'SIGKILL')
      await gone
    },
  }
}

function lines(child: ChildProcess, onLine: (line: string) => void, tooLong: () => void): void {
  const decoder = new StringDecoder('utf8')
  let rest: string[] = []
  let size = 0
  child.stdout?.on('data', (chunk: Buffer) => {
    const parts = decoder.write(chunk).split('\n')
    const last = parts.pop() as string
    for (const part of parts) {
      const line = rest.length === 0 ? part : rest.join('') + part
      rest = []
      size = 0
      if (line.trim() !== '') onLine(line)
    }
    rest.push(last)
    size += last.length
    if (size > maxMessage) {
      rest = []
      size = 0
      tooLong()
    }
  })
  child.stdout?.on('error', () => {})
}

function stderrLog(child: ChildProcess, log: LaneLog): void {
  let rest = ''
  child.stderr?.on('data', (chunk: Buffer) => {
    const parts = (rest + chunk.toString('utf8')).split('\n')
    rest = (parts.pop() as string).slice(0, maxStderrLine)
    for (const part of parts) {
      const text = quoted(part.slice(0, maxStderrLine))
      if (text !== '') log.debug({ pid: child.pid, stderr: text }, 'tool server wrote to stderr')
    }
  })
  child.stderr?.on('error', () => {})
}

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return
  try {
    process.kill(-child.pid, signal)
  } catch {
    // Nobody is left in the group.
  }
}

/**
 * A killed gateway cannot clean up. This small process holds the other end of a pipe whose closing it cannot miss,
 * gives the child a moment to leave by itself and then ends its group.
 */
function watchdog(group: number): ChildProcess {
  const script = 'read _; sleep 2; kill -s KILL -- "-$1"'
  const guard = spawn('/bin/sh', ['-c', script, 'gatehouse-watchdog', String(group)], {
    stdio: ['pipe', 'ignore', 'ignore'],
    env: { PATH: '/usr/bin:/bin' },
    detached: true,
  })
  guard.on('error', () => {})
  guard.stdin?.on('error', () => {})
  guard.unref()
  return guard
}

function within(done: Promise<void>, ms: number): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), ms)
    void done.then(() => {
      clearTimeout(timer)
      resolve(true)
    })
  })
}
