/**
 * What the tour runs against: a gateway of its own in a temporary folder with the petstore beside it, or the running
 * one that GATEHOUSE_URL and GATEHOUSE_ADMIN_KEY name.
 * @module
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startPetstore } from '../petstore/server.ts'

export interface Demo {
  readonly url: string
  readonly adminKey: string
  /** Ends what was started and removes what was made; a running gateway is left alone. */
  close(): Promise<void>
}

const project = join(import.meta.dirname, '..', '..')
const startMs = 30_000
/** Where `registry/servers/petstore.yaml` expects the service. */
const usualPort = 8790

export function openDemo(environment: NodeJS.ProcessEnv): Promise<Demo> {
  const { GATEHOUSE_URL: url, GATEHOUSE_ADMIN_KEY: adminKey } = environment
  if (url === undefined || url === '') return fresh()
  if (adminKey === undefined || adminKey === '') throw new Error('GATEHOUSE_URL needs GATEHOUSE_ADMIN_KEY beside it')
  return running(url.replace(/\/+$/, ''), adminKey)
}

async function running(url: string, adminKey: string): Promise<Demo> {
  const petstore = await startPetstore(usualPort).catch((error: NodeJS.ErrnoException) => {
    // Somebody has started it already.
    if (error.code === 'EADDRINUSE') return null
    throw error
  })
  return { url, adminKey, close: async () => petstore?.close() }
}

async function fresh(): Promise<Demo> {
  const petstore = await startPetstore(0)
  const home = mkdtempSync(join(tmpdir(), 'gatehouse-demo-'))
  for (const folder of ['registry', 'policies', 'examples/petstore', 'examples/files']) {
    cpSync(join(project, folder), join(home, folder), { recursive: true })
  }
  const row = join(home, 'registry/servers/petstore.yaml')
  writeFileSync(row, readFileSync(row, 'utf8').replaceAll(String(usualPort), new URL(petstore.url).port))
  // npx looks here first, so the tool servers that are installed with the project start without a download.
  symlinkSync(join(project, 'node_modules'), join(home, 'node_modules'), 'junction')
  const adminKey = `demo-${randomBytes(24).toString('base64url')}`
  const child = spawn(process.execPath, [join(project, 'src/cli.ts'), 'serve', '--home', home, '--port', '0'], {
    env: { PATH: process.env.PATH, HOME: process.env.HOME, GATEHOUSE_ADMIN_KEY: adminKey, GATEHOUSE_LOG_LEVEL: 'warn' },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const close = async () => {
    await ended(child)
    await petstore.close()
    rmSync(home, { recursive: true, force: true })
  }
  try {
    return { url: await listening(child), adminKey, close }
  } catch (error) {
    await close()
    throw error
  }
}

/** The address the gateway says it listens on. */
function listening(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let said = ''
    const timer = setTimeout(() => reject(new Error(`the gateway did not start:\n${said}`)), startMs)
    const hear = (chunk: Buffer) => {
      said += chunk.toString()
      const url = /Gatehouse is listening on (http:\S+)/.exec(said)?.[1]
      if (url === undefined) return
      clearTimeout(timer)
      resolve(url)
    }
    child.stderr?.on('data', hear)
    child.stdout?.on('data', hear)
    child.once('exit', () => {
      clearTimeout(timer)
      reject(new Error(`the gateway ended:\n${said}`))
    })
  })
}

function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve()
  return new Promise((resolve) => {
    child.once('exit', () => resolve())
    child.kill('SIGTERM')
  })
}
