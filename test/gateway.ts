/**
 * A gateway under test: a real process on a free port with a home of its own, and what a user does with it. Everything
 * started here ends with the test or the file that started it.
 * @module
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after } from 'node:test'
import { type Running, start } from '../src/main.ts'
import { settingsFrom } from '../src/settings.ts'
import { adminKey, type Client, clientOf } from './client.ts'
import { startVendor, type Vendor } from './upstreams/vendor.ts'

export { type Answered, adminKey, type Client, eventually, exchangeRaw, hello } from './client.ts'

/** A file's content: YAML text, or a value that is written as JSON. */
type Content = string | object

export interface GatewayOptions {
  /** The provider `vendor`, with the key `vendorKey`; private addresses are opened for it. */
  readonly vendor?: Vendor | undefined
  readonly providers?: Content | undefined
  readonly models?: Content | undefined
  readonly routes?: Content | undefined
  readonly limits?: Content | undefined
  /** Files below home by path, tool policies and servers among them. */
  readonly files?: Readonly<Record<string, Content>> | undefined
  readonly env?: Readonly<Record<string, string>> | undefined
  readonly args?: readonly string[] | undefined
}

/** What the gateway sends the scripted vendor as its credential. */
export const vendorKey = 'vendor-key-0123456789abcdef'

export interface GatewayUnderTest extends Client {
  readonly process: ChildProcess
  /** Standard output and standard error so far. */
  log(): string
  /** Waits until the log says so. */
  logged(what: RegExp): Promise<void>
  /** @returns the exit code, or the signal's name */
  stop(signal?: NodeJS.Signals): Promise<number | string>
  kill9(): Promise<void>
  /** Starts again in the same home, on another port. */
  restart(): Promise<void>
}

const root = join(import.meta.dirname, '..')

const closers: (() => unknown)[] = []
// Registered while the file is imported, so it runs when the whole file is done and not with a hook or a single test.
after(async () => {
  for (const close of closers.reverse()) await close()
})

// A file that is given up by the runner runs no hooks, and must leave no process behind all the same.
const children = new Set<ChildProcess>()
process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL')
})
process.once('SIGTERM', () => process.exit(1))

/** Runs when the test file ends; last in, first out. */
export function atEnd(close: () => unknown): void {
  closers.push(close)
}

/** A scripted vendor that closes when the test file ends. */
export async function openVendor(): Promise<Vendor> {
  const vendor = await startVendor()
  atEnd(() => vendor.close())
  return vendor
}

/** Starts the gateway as a process and waits until it listens. */
export async function startGateway(options: GatewayOptions = {}): Promise<GatewayUnderTest> {
  const home = makeHome(options)
  let child = launch(home, options)
  atEnd(async () => {
    await child.end('SIGKILL')
    rmSync(home, { recursive: true, force: true })
  })
  let url = await child.listening()
  return {
    ...clientOf(() => url, home),
    get url() {
      return url
    },
    get port() {
      return Number(new URL(url).port)
    },
    get process() {
      return child.process
    },
    log: () => child.output(),
    logged: (what) => child.until((output) => what.test(output)),
    stop: (signal = 'SIGTERM') => child.end(signal),
    async kill9() {
      await child.end('SIGKILL')
    },
    async restart() {
      await child.end('SIGKILL')
      child = launch(home, options)
      url = await child.listening()
    },
  }
}

/** The same gateway inside the test's process, where the process border does not matter. */
export async function startInside(options: GatewayOptions = {}): Promise<Client & { readonly running: Running }> {
  const home = makeHome(options)
  const env = { ...environment(options), GATEHOUSE_LOG_LEVEL: 'silent', ...options.env }
  const started = await start(settingsFrom(env, { home, port: '0' }, home))
  let stopping: Promise<void> | null = null
  const running: Running = {
    ...started,
    stop(graceMs) {
      stopping ??= started.stop(graceMs)
      return stopping
    },
  }
  atEnd(async () => {
    await running.stop(0)
    rmSync(home, { recursive: true, force: true })
  })
  return { ...clientOf(() => running.url, home), url: running.url, port: Number(new URL(running.url).port), running }
}

/** Starts a gateway that is expected not to come up. @returns what it said and its exit code */
export async function startFails(options: GatewayOptions): Promise<{ readonly code: number | string; output: string }> {
  const home = makeHome(options)
  const child = launch(home, options)
  atEnd(() => child.end('SIGKILL'))
  const code = await child.ended
  rmSync(home, { recursive: true, force: true })
  return { code, output: child.output() }
}

export function makeHome(options: GatewayOptions): string {
  const home = mkdtempSync(join(tmpdir(), 'gatehouse-test-'))
  const { vendor, providers, models, routes, limits, files } = options
  const vendorRow = {
    base_url: `${vendor?.url}/v1`,
    speaks: ['openai-chat'],
    credential: { scheme: 'bearer', secret: 'env:VENDOR_KEY' },
  }
  const given: Record<string, Content | undefined> = {
    'registry/providers.yaml': providers ?? (vendor === undefined ? {} : { vendor: vendorRow }),
    'registry/models.yaml': models ?? {},
    'policies/routes.yaml': routes ?? {},
    'policies/limits.yaml': limits ?? {},
    ...files,
  }
  mkdirSync(join(home, 'examples'), { recursive: true })
  for (const [path, content] of Object.entries(given)) {
    mkdirSync(dirname(join(home, path)), { recursive: true })
    writeFileSync(join(home, path), typeof content === 'string' ? content : JSON.stringify(content, null, 2))
  }
  return home
}

function environment({ vendor }: GatewayOptions): Record<string, string> {
  return {
    PATH: process.env.PATH ?? '',
    GATEHOUSE_ADMIN_KEY: adminKey,
    VENDOR_KEY: vendorKey,
    ...(vendor === undefined ? {} : { GATEHOUSE_ALLOW_PRIVATE: `127.0.0.1/32:${vendor.port}` }),
  }
}

function launch(home: string, options: GatewayOptions) {
  const args = ['src/cli.ts', 'serve', '--home', home, '--port', '0', ...(options.args ?? [])]
  const child = spawn(process.execPath, args, {
    cwd: root,
    env: { ...environment(options), ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  children.add(child)
  const parts: Buffer[] = []
  const waiting = new Set<() => void>()
  const told = () => {
    for (const check of waiting) check()
  }
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (part: Buffer) => {
      parts.push(part)
      told()
    })
  }
  const output = () => Buffer.concat(parts).toString()
  // 'close' and not 'exit': everything it said has been read by then.
  const ended = new Promise<number | string>((resolve) => {
    child.on('close', (code, signal) => {
      children.delete(child)
      resolve(code ?? signal ?? 'unknown')
      told()
    })
  })
  const until = (predicate: (output: string) => boolean) =>
    new Promise<void>((resolve, reject) => {
      const check = () => {
        if (!predicate(output())) {
          if (child.exitCode !== null || child.signalCode !== null) reject(new Error(`it ended:\n${output()}`))
          return
        }
        waiting.delete(check)
        resolve()
      }
      waiting.add(check)
      check()
    })
  return {
    process: child,
    output,
    until,
    ended,
    async listening() {
      const line = /Gatehouse is listening on (http:\S+)/
      await until((text) => line.test(text))
      return line.exec(output())?.[1] as string
    },
    end(signal: NodeJS.Signals) {
      if (child.exitCode === null && child.signalCode === null) child.kill(signal)
      return ended
    },
  }
}
