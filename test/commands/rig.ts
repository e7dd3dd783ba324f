/** A home folder, a gateway over it, and the command as people run it. @module */
import { spawn } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { type Running, start } from '../../src/main.ts'
import { settingsFrom } from '../../src/settings.ts'

const project = join(import.meta.dirname, '..', '..')
export const adminKey = 'the-admin-key-of-the-command-tests'

// Most of what a command takes is compiling the same modules again; from here the second one has them.
const compiled = mkdtempSync(join(tmpdir(), 'gatehouse-compiled-'))
process.on('exit', () => rmSync(compiled, { recursive: true, force: true }))

/** What ships, without the tool servers that are child processes. */
export function openHome(files: Readonly<Record<string, string>> = {}): { path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), 'gatehouse-commands-'))
  for (const part of ['registry/providers.yaml', 'registry/servers/petstore.yaml', 'policies', 'examples/petstore'])
    cpSync(join(project, part), join(path, part), { recursive: true })
  for (const [file, text] of Object.entries(files)) {
    mkdirSync(dirname(join(path, file)), { recursive: true })
    writeFileSync(join(path, file), text)
  }
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) }
}

export function startGateway(home: string): Promise<Running> {
  const environment = { GATEHOUSE_ADMIN_KEY: adminKey, GATEHOUSE_LOG_LEVEL: 'silent' }
  return start(settingsFrom(environment, { home, port: '0' }, home))
}

export interface Said {
  readonly status: number | null
  readonly out: string
  readonly err: string
}

/** Runs `gatehouse` with nothing in its environment but what is given. */
export function gatehouse(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Said> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [join(project, 'src/cli.ts'), ...args], {
      env: { ...env, NODE_NO_WARNINGS: '1', NODE_COMPILE_CACHE: compiled },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let out = ''
    let err = ''
    child.stdout.on('data', (chunk: Buffer) => {
      out += chunk.toString()
    })
    child.stderr.on('data', (chunk: Buffer) => {
      err += chunk.toString()
    })
    child.on('error', reject)
    child.on('close', (status) => resolve({ status, out, err }))
  })
}
