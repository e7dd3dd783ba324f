/**
 * A real Redis for tests: `redis-server` of the system (installed where the tests run as root on Debian and it is
 * missing), on a free port with a folder of its own; and a way between it and the gateway that can be blocked.
 * @module
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { atEnd, eventually } from '../gateway.ts'

/** Why there is no Redis on this machine, for `skip`; false where there is. */
export const noRedis: string | false = found() ? false : 'redis-server is missing: apt-get install redis-server'
if (noRedis !== false) process.stderr.write(`SKIPPED: ${noRedis}\n`)

function found(): boolean {
  if (has('redis-server')) return true
  if (process.getuid?.() !== 0 || !has('apt-get')) return false
  // Two files may start at once: apt waits for its lock instead of failing.
  const options = ['-o', 'DPkg::Lock::Timeout=120', '-y', '-q']
  const install = () => spawnSync('apt-get', ['install', ...options, 'redis-server'], { stdio: 'ignore' }).status === 0
  if (install()) return has('redis-server')
  spawnSync('apt-get', ['update', '-q'], { stdio: 'ignore' })
  return install() && has('redis-server')
}

function has(command: string): boolean {
  return spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0
}

export interface RedisUnderTest {
  readonly url: string
  readonly port: number
  /** A client of the test's own. */
  readonly client: Redis
  /** Ends it; what it knew is gone. Also `SIGKILL`. */
  stop(signal?: NodeJS.Signals): Promise<void>
  /** Starts it again on the same port, with the dump that lies in its folder. */
  start(): Promise<void>
  /** Writes a dump and keeps a copy of it. @returns what puts it back in place of what is known then, with a restart */
  dump(): Promise<() => Promise<void>>
}

export interface RedisOptions {
  readonly password?: string
}

export async function startRedis({ password }: RedisOptions = {}): Promise<RedisUnderTest> {
  const folder = mkdtempSync(join(tmpdir(), 'gatehouse-redis-'))
  const port = await freePort()
  const url = `redis://${password === undefined ? '' : `:${password}@`}127.0.0.1:${port}`
  const flags = ['--port', String(port), '--bind', '127.0.0.1', '--dir', folder, '--save', '', '--appendonly', 'no']
  let child: ChildProcess | null = null
  const client = new Redis(url, { retryStrategy: () => 20, maxRetriesPerRequest: null })
  client.on('error', () => {})

  async function start(): Promise<void> {
    const arguments_ = [...flags, ...(password === undefined ? [] : ['--requirepass', password])]
    child = spawn('redis-server', arguments_, { stdio: 'ignore' })
    await client.ping()
  }
  async function stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const ending = child
    child = null
    if (ending === null || ending.exitCode !== null || ending.signalCode !== null) return
    const closed = new Promise((resolve) => ending.once('close', resolve))
    ending.kill(signal)
    await closed
  }
  process.on('exit', () => child?.kill('SIGKILL'))
  await start()
  atEnd(async () => {
    client.disconnect()
    await stop('SIGKILL')
    rmSync(folder, { recursive: true, force: true })
  })
  return {
    url,
    port,
    client,
    start,
    stop,
    async dump() {
      await client.save()
      cpSync(join(folder, 'dump.rdb'), join(folder, 'kept.rdb'))
      return async () => {
        await stop('SIGKILL')
        cpSync(join(folder, 'kept.rdb'), join(folder, 'dump.rdb'))
        await start()
      }
    },
  }
}

/** A TCP way to a port that can swallow everything without closing anything, as a partition does. */
export interface Way {
  readonly port: number
  block(): void
  /** New connections pass again; those of before stay dead. */
  unblock(): void
}

export async function openWay(to: number): Promise<Way> {
  let blocked = false
  const sockets = new Set<Socket>()
  const server = createServer((near) => {
    sockets.add(near)
    near.on('error', () => {})
    near.on('close', () => sockets.delete(near))
    if (blocked) return
    const far = connect(to, '127.0.0.1')
    sockets.add(far)
    far.on('error', () => near.destroy())
    far.on('close', () => {
      sockets.delete(far)
      if (!dead) near.destroy()
    })
    let dead = false
    const pass = (to: Socket) => (bytes: Buffer) => {
      dead ||= blocked
      if (!dead) to.write(bytes)
    }
    near.on('data', pass(far))
    far.on('data', pass(near))
    near.on('close', () => far.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  atEnd(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const address = server.address()
  return {
    port: typeof address === 'object' && address !== null ? address.port : 0,
    block() {
      blocked = true
    },
    unblock() {
      blocked = false
    },
  }
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  return typeof address === 'object' && address !== null ? address.port : 0
}

export { eventually }
