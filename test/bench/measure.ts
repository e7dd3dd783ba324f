/**
 * Processes under measurement: started on a core of their own where the machine allows it, and read from the kernel's
 * accounting (processor time and memory of the process and everything below it).
 * @module
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { createInterface } from 'node:readline'

/** Whether the system under test can have core 0 to itself. */
export const pinned = availableParallelism() >= 2 && spawnSync('taskset', ['--version']).status === 0

/** Core of the system under test, and core of everything else. */
export type Core = 0 | 1

export interface Running {
  readonly child: ChildProcess
  readonly pid: number
  /** The first line it printed, or '' when `waitForLine` was false. */
  readonly line: string
  /** The end of what it wrote. */
  said(): string
  stop(): Promise<void>
}

export interface StartOptions {
  readonly core: Core
  readonly env?: Record<string, string | undefined> | undefined
  readonly waitForLine: boolean
}

/**
 * Starts a process on its core.
 *
 * @throws {Error} with what it said, when it ends before its first line
 */
export async function start(command: string, args: readonly string[], options: StartOptions): Promise<Running> {
  const [program, list] = pinned ? ['taskset', ['-c', String(options.core), command, ...args]] : [command, [...args]]
  const env = { ...process.env, NODE_OPTIONS: undefined, ...options.env }
  const child = spawn(program, list, { env, stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  const hear = (part: Buffer) => {
    said = (said + part.toString()).slice(-4000)
  }
  child.stderr.on('data', hear)
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  // Nothing measured may survive us.
  const kill = () => void child.kill('SIGKILL')
  process.once('exit', kill)
  const stop = async () => {
    process.off('exit', kill)
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGTERM')
    const late = setTimeout(kill, 5000)
    await ended
    clearTimeout(late)
  }
  const lines = createInterface({ input: child.stdout })
  const line = await new Promise<string>((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code) => reject(new Error(`${command} ${args.join(' ')} ended (${code}): ${said}`)))
    if (options.waitForLine) lines.once('line', resolve)
    else child.once('spawn', () => resolve(''))
  })
  // What else it prints has to be read, or the pipe would fill and block it; of that only the end is kept.
  lines.close()
  child.stdout.on('data', hear)
  child.stdout.resume()
  return { child, pid: child.pid ?? 0, line, said: () => said, stop }
}

/** Puts the running process, with all its threads, on a core; what it starts later chooses for itself. */
export function pinSelf(core: Core): void {
  if (pinned) spawnSync('taskset', ['-a', '-c', '-p', String(core), String(process.pid)])
}

const tickMs = 10

interface ProcessLine {
  readonly pid: number
  readonly parent: number
  readonly ticks: number
}

function processes(): ProcessLine[] {
  const found: ProcessLine[] = []
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'latin1')
      // The command's name, in brackets, may contain anything.
      const fields = stat
        .slice(stat.lastIndexOf(')') + 2)
        .split(' ')
        .map(Number)
      const [, parent = 0] = fields
      // utime, stime of all threads, and of children that have ended.
      const ticks = (fields[11] ?? 0) + (fields[12] ?? 0) + (fields[13] ?? 0) + (fields[14] ?? 0)
      found.push({ pid: Number(name), parent, ticks })
    } catch {
      // It ended while we looked.
    }
  }
  return found
}

function family(root: number): ProcessLine[] {
  const all = processes()
  const members = new Set([root])
  // Parents come before their children here only by chance, so look until nobody is added.
  for (let size = 0; size !== members.size; ) {
    size = members.size
    for (const line of all) if (members.has(line.parent)) members.add(line.pid)
  }
  return all.filter((line) => members.has(line.pid))
}

/** Processor time used so far by a process and everything below it, in milliseconds; the kernel counts in tens. */
export function cpuMs(root: number): number {
  return family(root).reduce((sum, line) => sum + line.ticks, 0) * tickMs
}

/** Resident memory of a process and everything below it, in bytes. */
export function residentBytes(root: number): number {
  let kilobytes = 0
  for (const { pid } of family(root)) {
    const status = readFileSync(`/proc/${pid}/status`, 'latin1')
    kilobytes += Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0)
  }
  return kilobytes * 1024
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? Number.NaN
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? Number.NaN)) / 2
}

/** Value below which that share of the values lies. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}
