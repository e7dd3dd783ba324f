/**
 * What is compared: the bare proxy, the gateway as a user starts it (keys, limits, ledger and log on), and a peer where
 * one is installed. All of them get a process on core 0 and the same upstream.
 * @module
 */
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Pool } from 'undici'
import { type Running, start } from './measure.ts'

export interface Target {
  readonly name: string
  readonly port: number
  readonly pid: number
  /** `name: value` lines every request to it needs. */
  readonly headers: readonly string[]
  stop(): Promise<void>
}

/** Model names; the upstream answers by what they contain. The gateway rewrites each to a longer name of the provider. */
export const benchModels = {
  whole: 'bench-plain',
  burst: 'bench-paced-3-1',
  paced: 'bench-paced-100-20',
  idle: 'bench-idle',
} as const

const root = join(import.meta.dirname, '..', '..')
const adminKey = 'bench-admin-key-0123456789abcdef0123456789'

export interface Upstream {
  readonly port: number
  /** Lets every idle stream go on. */
  release(): Promise<void>
  stop(): Promise<void>
}

export async function startUpstream(): Promise<Upstream> {
  const running = await start(process.execPath, [join(import.meta.dirname, 'mock.ts')], { core: 1, waitForLine: true })
  const port = Number(running.line)
  return {
    port,
    release: async () => void (await post(port, '/release', {}, {})),
    stop: running.stop,
  }
}

/** A proxy that does nothing else; `name` tells two of them apart when the harness is compared with itself. */
export async function startBare(upstream: Upstream, name = 'bare'): Promise<Target> {
  const args = [join(import.meta.dirname, 'bare.ts'), `http://127.0.0.1:${upstream.port}`]
  const running = await start(process.execPath, args, { core: 0, waitForLine: true })
  return { name, port: Number(running.line), pid: running.pid, headers: [], stop: running.stop }
}

/** Whether the gateway can be started from this checkout. */
export const gatewayExists = existsSync(join(root, 'src', 'cli.ts'))

/**
 * Starts the gateway in a folder of its own and mints a session under a limited account and a limited key.
 *
 * @throws {Error} with what it said, when it does not become ready or refuses to mint
 */
export async function startGateway(upstream: Upstream): Promise<Target> {
  const home = mkdtempSync(join(tmpdir(), 'gatehouse-bench-'))
  mkdirSync(join(home, 'registry'))
  mkdirSync(join(home, 'policies'))
  writeFileSync(
    join(home, 'registry', 'providers.yaml'),
    `mock: { base_url: "http://127.0.0.1:${upstream.port}/v1", speaks: [openai-chat], ` +
      'credential: { scheme: bearer, secret: env:BENCH_PROVIDER_KEY } }\n',
  )
  const rows = Object.values(benchModels).map(
    (model) => `${model}: { provider: mock, upstream: vendor-${model}, price: { input: 1, output: 2 } }\n`,
  )
  writeFileSync(join(home, 'registry', 'models.yaml'), rows.join(''))

  const port = await freePort()
  const args = [join(root, 'src', 'cli.ts'), 'serve', '--home', home, '--port', String(port)]
  const env = {
    GATEHOUSE_ADMIN_KEY: adminKey,
    GATEHOUSE_ALLOW_PRIVATE: `127.0.0.1/32:${upstream.port}`,
    BENCH_PROVIDER_KEY: 'bench',
    GATEHOUSE_HOME: undefined,
    DATABASE_URL: undefined,
    REDIS_URL: undefined,
    PORT: undefined,
  }
  const running = await start(process.execPath, args, { core: 0, env, waitForLine: false })
  const stop = async () => {
    await running.stop()
    rmSync(home, { recursive: true, force: true })
  }
  try {
    await untilReady(port, running)
    const key = await mint(port)
    return { name: 'gateway', port, pid: running.pid, headers: [`authorization: Bearer ${key}`], stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** A peer, when it is installed: no keys, no budgets, no ledger. */
export async function startPeer(upstream: Upstream): Promise<Target | null> {
  const server = join(root, 'node_modules', '@portkey-ai', 'gateway', 'build', 'start-server.js')
  if (!existsSync(server)) return null
  const port = await freePort()
  const running = await start(process.execPath, [server, `--port=${port}`, '--headless'], {
    core: 0,
    waitForLine: true,
  })
  const headers = [
    'authorization: Bearer bench',
    'x-portkey-provider: openai',
    `x-portkey-custom-host: http://127.0.0.1:${upstream.port}/v1`,
  ]
  return { name: 'portkey', port, pid: running.pid, headers, stop: running.stop }
}

/** An organization, a key and a session, each with limits that are far away but have to be counted. */
async function mint(port: number): Promise<string> {
  const admin = { authorization: `Bearer ${adminKey}` }
  const limits = [
    { unit: 'usd', max: 100_000, window: 'total' },
    { unit: 'tokens', max: 1e12, window: 'day' },
    { unit: 'requests', max: 1e9, window: 'total' },
  ]
  const account = await post(port, '/admin/v1/accounts', admin, { name: 'bench', kind: 'organization', limits })
  const key = await post(port, '/admin/v1/keys', admin, { name: 'bench', account: field(account, 'id'), limits })
  const holder = { authorization: `Bearer ${field(key, 'key')}` }
  const session = await post(port, '/v1/sessions', holder, {
    ttl: 86_400,
    limits: { usd: 50_000, tokens: 1e11, requests: 1e8 },
  })
  return field(session, 'key')
}

function field(value: unknown, name: string): string {
  const found = typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[name] : undefined
  if (typeof found !== 'string') throw new Error(`no ${name} in ${JSON.stringify(value)}`)
  return found
}

async function post(port: number, path: string, headers: Record<string, string>, body: unknown): Promise<unknown> {
  const pool = new Pool(`http://127.0.0.1:${port}`)
  try {
    const all = { 'content-type': 'application/json', ...headers }
    const answer = await pool.request({ path, method: 'POST', headers: all, body: JSON.stringify(body) })
    const text = await answer.body.text()
    if (answer.statusCode >= 300) throw new Error(`POST ${path}: ${answer.statusCode} ${text}`)
    return JSON.parse(text)
  } finally {
    await pool.close()
  }
}

async function untilReady(port: number, running: Running): Promise<void> {
  const pool = new Pool(`http://127.0.0.1:${port}`)
  const giveUp = performance.now() + 20_000
  try {
    for (;;) {
      if (running.child.exitCode !== null)
        throw new Error(`the gateway ended (${running.child.exitCode}): ${running.said()}`)
      const answer = await pool.request({ path: '/readyz', method: 'GET' }).catch(() => null)
      await answer?.body.dump()
      if (answer?.statusCode === 200) return
      if (performance.now() > giveUp) throw new Error(`the gateway is not ready after 20 s: ${running.said()}`)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  } finally {
    await pool.destroy()
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0))
    })
  })
}
