/**
 * A Postgres server of its own for a test file: Debian's packages, on a free port, with a password. Where there is none
 * and none can be installed, tests say so and are skipped.
 * @module
 */
import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, existsSync, globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import pg from 'pg'

/** Stands in no message and no log; with characters that a URL has to escape. */
export const password = 'p@ss/wörd:9f3c%1'

export interface PostgresUnderTest {
  readonly port: number
  /** URL of a new, empty database. */
  create(): Promise<string>
  /** URL of a database with another user or password. */
  url(database: string, more?: { readonly user?: string; readonly password?: string }): string
  /** A connection to a database, for looking behind the store. It is closed with the server. */
  connect(url: string): Promise<pg.Client>
  /** Kills the server with everything it started, as a power loss of its process would. */
  kill9(): Promise<void>
  /** Starts it on the same data again. */
  start(): Promise<void>
}

const folder = () => globSync('/usr/lib/postgresql/*/bin').toSorted().at(-1) ?? null

/** Why no Postgres can be started here, or false. Installs it where that is possible. */
function noPostgres(): string | false {
  if (folder() !== null) return false
  if (process.getuid?.() !== 0) return 'Postgres is not installed; install the package postgresql to run these tests'
  try {
    execFileSync('apt-get', ['update'], { stdio: 'ignore' })
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
    execFileSync('apt-get', ['install', '-y', '--no-install-recommends', 'postgresql'], { stdio: 'ignore', env })
  } catch {
    return 'Postgres is not installed and apt-get cannot install it'
  }
  return folder() === null ? 'the package postgresql brought no server' : false
}

/** Tests that need Postgres: where it cannot run they count as one that was skipped, with the reason. */
export function describePostgres(name: string, tests: () => void): void {
  const missing = noPostgres()
  if (missing === false) describe(name, tests)
  else it(`${name}: none of these tests was run`, { skip: missing }, () => undefined)
}

const started: { readonly kill: () => void; readonly end: () => Promise<void> }[] = []
// Registered while the file is imported, so it runs when the whole file is done and not with a hook or a single test.
after(async () => {
  for (const { end } of started) await end()
})
// A file that is given up by the runner runs no hooks, and must leave no server behind all the same.
process.on('exit', () => {
  for (const { kill } of started) kill()
})

/** @param fsync off is faster and right where the server is not killed */
export async function startPostgres({ fsync }: { readonly fsync: boolean }): Promise<PostgresUnderTest> {
  const bin = folder() as string
  const home = mkdtempSync(join(tmpdir(), 'gatehouse-postgres-'))
  const [command, first] = asPostgres(home)
  writeFileSync(join(home, 'password'), password, { mode: 0o644 })
  const init = ['-D', join(home, 'data'), '-U', 'postgres', '-A', 'scram-sha-256', '--no-sync', '-E', 'UTF8']
  execFileSync(
    command ?? join(bin, 'initdb'),
    [
      ...first,
      ...(command === null ? [] : [join(bin, 'initdb')]),
      ...init,
      '--locale=C.UTF-8',
      `--pwfile=${join(home, 'password')}`,
    ],
    { stdio: 'ignore', cwd: home },
  )
  const port = await freePort()
  const settings = [`listen_addresses=127.0.0.1`, `unix_socket_directories=${home}`, `fsync=${fsync ? 'on' : 'off'}`]
  const clients: pg.Client[] = []
  let server: ChildProcess | null = null
  let databases = 0

  const url: PostgresUnderTest['url'] = (database, { user = 'postgres', password: word = password } = {}) =>
    `postgres://${user}:${encodeURIComponent(word)}@127.0.0.1:${port}/${database}`

  async function connect(to: string): Promise<pg.Client> {
    const client = new pg.Client({ connectionString: to })
    client.on('error', () => undefined)
    await client.connect()
    clients.push(client)
    return client
  }

  async function start(): Promise<void> {
    const deadline = performance.now() + 60_000
    while (performance.now() < deadline) {
      const args = ['-D', join(home, 'data'), '-p', String(port), ...settings.flatMap((setting) => ['-c', setting])]
      const child = spawn(
        command ?? join(bin, 'postgres'),
        [...first, ...(command === null ? [] : [join(bin, 'postgres')]), ...args],
        { stdio: 'ignore', cwd: home },
      )
      server = child
      // What a killed server left in memory has to be gone before the next one starts; it ends at once until then.
      while (child.exitCode === null && performance.now() < deadline) {
        if (await answers()) return
        await new Promise((resolve) => setTimeout(resolve, 30))
      }
    }
    assert.fail('Postgres did not start within a minute')
  }

  async function answers(): Promise<boolean> {
    const client = new pg.Client({ connectionString: url('postgres') })
    client.on('error', () => undefined)
    const answered = await client.connect().then(
      () => true,
      () => false,
    )
    await client.end().catch(() => undefined)
    return answered
  }

  function killAll(): void {
    if (server?.pid === undefined || server.exitCode !== null || server.signalCode !== null) return
    const { pid } = server
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number)
    for (const one of [pid, ...children]) {
      try {
        process.kill(one, 'SIGKILL')
      } catch {
        // It has ended by itself meanwhile.
      }
    }
  }

  started.push({
    kill: killAll,
    async end() {
      await Promise.all(clients.map((client) => client.end().catch(() => undefined)))
      if (server?.exitCode === null && server.signalCode === null) {
        const dead = once(server, 'exit')
        killAll()
        await dead
      }
      rmSync(home, { recursive: true, force: true, maxRetries: 5 })
    },
  })
  await start()
  const admin = () => connect(url('postgres'))
  let asAdmin: pg.Client | null = await admin()

  return {
    port,
    url,
    connect,
    start,
    async create() {
      asAdmin ??= await admin()
      const name = `d${++databases}`
      await asAdmin.query(`create database ${name}`)
      return url(name)
    },
    async kill9() {
      const dead = once(server as ChildProcess, 'exit')
      killAll()
      await dead
      asAdmin = null
    },
  }
}

/** Postgres refuses to run as root: it runs as its own user then. */
function asPostgres(home: string): [string | null, readonly string[]] {
  if (process.getuid?.() !== 0) return [null, []]
  const [uid, gid] = ['-u', '-g'].map((flag) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' })))
  chownSync(home, uid as number, gid as number)
  assert.ok(existsSync('/usr/bin/setpriv'), 'setpriv is part of util-linux')
  return ['setpriv', ['--reuid=postgres', '--regid=postgres', '--clear-groups']]
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const address = probe.address()
  probe.close()
  await once(probe, 'close')
  assert.ok(typeof address === 'object' && address !== null)
  return address.port
}
