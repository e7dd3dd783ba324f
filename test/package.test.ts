/** The published package: built, packed, installed into an empty folder and run from there. @module */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, statSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { after, before, describe, it } from 'node:test'

const project = join(import.meta.dirname, '..')
const { version } = JSON.parse(readFileSync(join(project, 'package.json'), 'utf8')) as { version: string }
const folder = realpathSync(mkdtempSync(join(tmpdir(), 'gatehouse-package-')))
const app = join(folder, 'app')
const bin = join(app, 'node_modules/.bin/gatehouse')
const installed = join(app, 'node_modules/gatehouse')

describe('the installed package', () => {
  before(async () => {
    mkdirSync(app)
    const built = await run(process.execPath, [join(project, 'scripts/build.mjs')], project)
    assert.equal(built.status, 0, built.output)
    const packed = await run('npm', ['pack', '--ignore-scripts', '--pack-destination', folder], project)
    assert.equal(packed.status, 0, packed.output)
    const tarball = join(folder, `gatehouse-${version}.tgz`)
    const options = ['--omit=dev', '--no-audit', '--no-fund', '--prefer-offline', '--prefix', app]
    const added = await run('npm', ['install', tarball, ...options], app)
    assert.equal(added.status, 0, added.output)
  })
  after(() => rmSync(folder, { recursive: true, force: true }))

  it('has a command that tells its version', async () => {
    assert.deepEqual(await run(process.execPath, [bin, '--version'], app), { status: 0, output: `${version}\n` })
    assert.ok((statSync(bin).mode & 0o111) !== 0, 'the command can be executed')
  })

  it('brings types, the registry and the examples, and no tests or sources of its own', () => {
    for (const file of [
      'dist/main.d.ts',
      'dist/stores/sqlite-worker.js',
      'dist/tokens/worker.js',
      'registry/providers.yaml',
      'registry/schema/server.json',
      'policies/tools/demo.yaml',
      'examples/petstore/openapi.yaml',
      'examples/petstore/api-key',
      'examples/files/hello.txt',
      'README.md',
      'LICENSE',
    ])
      assert.ok(existsSync(join(installed, file)), file)
    for (const file of ['src', 'test', 'data', 'node_modules/.bin/tsc'])
      assert.ok(!existsSync(join(installed, file)), file)
  })

  it('can be imported, to start a gateway from a program', async () => {
    const program = "import { start } from 'gatehouse'; console.log(typeof start)"
    const said = await run(process.execPath, ['--input-type=module', '-e', program], app)
    assert.deepEqual(said, { status: 0, output: 'function\n' })
  })

  it('serves an empty folder: it is filled, answers its health check and a chat, and passes its own check', async (t) => {
    const home = join(folder, 'home')
    mkdirSync(home)
    // The tool servers that are installed with the project start from here without a download.
    symlinkSync(join(project, 'node_modules'), join(home, 'node_modules'), 'junction')
    const child = spawn(process.execPath, [bin, 'serve', '--home', home, '--port', '0'], {
      cwd: app,
      env: { PATH: process.env.PATH, HOME: process.env.HOME },
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    t.after(() => ended(child))
    const said = await saying(child, /MCP clients:/)
    const url = /listening on (\S+)/.exec(said)?.[1]
    const key = /demo session key[^:]*: (\S+)/.exec(said)?.[1]
    assert.match(said, /admin key, shown this once: {2}gate-admin-/)
    const health = await fetch(`${url}/healthz`)
    assert.deepEqual(await health.json(), { status: 'ok' })
    const chat = await fetch(`${url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'demo', messages: [{ role: 'user', content: 'hello' }] }),
    })
    assert.equal(chat.status, 200)
    assert.match(JSON.stringify(await chat.json()), /You said: hello/)
    const checked = await run(process.execPath, [bin, 'check', '--home', home], app)
    assert.equal(checked.status, 0, checked.output)
    assert.match(checked.output, /no faults/)
    const petstore = spawn(process.execPath, [join(home, 'examples/petstore/server.ts'), '0'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    t.after(() => ended(petstore))
    await saying(petstore, /petstore on http:/)
  })

  it('says what it needs on a Node that is too old', async () => {
    const old = await olderNode()
    // Not every machine has one.
    if (old === null) return
    const { status, output } = await run(old, [bin, '--version'], app)
    assert.equal(status, 1)
    assert.match(output, /^gatehouse needs Node 22\.19 or newer; this is Node \d+\.\d+\.\d+\.\n$/)
  })
})

function run(
  command: string,
  args: readonly string[],
  cwd: string,
): Promise<{ status: number | null; output: string }> {
  // What the npm that runs these tests says about itself would make another one work in its folder.
  const own = /^(npm_(package|lifecycle|config_local_prefix)|INIT_CWD)/i
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !own.test(name)))
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd,
      env,
      shell: process.platform === 'win32',
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let output = ''
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString()
    })
    child.stderr.on('data', (chunk: Buffer) => {
      output += chunk.toString()
    })
    child.on('error', reject)
    child.on('close', (status) => resolve({ status, output }))
  })
}

/** What a process has written once a text is in it. */
function saying(child: ChildProcess, text: RegExp): Promise<string> {
  return new Promise((resolve, reject) => {
    let said = ''
    const hear = (chunk: Buffer) => {
      said += chunk.toString()
      if (text.test(said)) resolve(said)
    }
    child.stdout?.on('data', hear)
    child.stderr?.on('data', hear)
    child.once('exit', () => reject(new Error(`it ended:\n${said}`)))
  })
}

function ended(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve()
    child.once('exit', () => resolve())
    child.kill('SIGTERM')
  })
}

/** The first Node on the PATH, outside node_modules, that is too old; null where there is none. */
async function olderNode(): Promise<string | null> {
  const name = process.platform === 'win32' ? 'node.exe' : 'node'
  for (const place of (process.env.PATH ?? '').split(delimiter)) {
    const file = join(place, name)
    if (place.includes('node_modules') || !existsSync(file)) continue
    const { output } = await run(file, ['--version'], folder)
    const [major = 0, minor = 0] = output.replace(/^v/, '').split('.').map(Number)
    if (major < 22 || (major === 22 && minor < 19)) return file
  }
  return null
}
