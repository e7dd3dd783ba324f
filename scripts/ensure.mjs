/**
 * Runs before `npm start`, `npm test`, `npm run bench` and `npm run demo`: installs what is missing, then checks that
 * the Node which npm scripts get is new enough. Plain JavaScript without dependencies, because it must run on whatever
 * Node a fresh clone meets, before anything is installed. Does nothing, quickly, when nothing is to do.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, realpathSync, statSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const needed = [22, 19]
const root = dirname(dirname(fileURLToPath(import.meta.url)))
const modules = join(root, 'node_modules')
const bundled = join(modules, '.bin', process.platform === 'win32' ? 'node.cmd' : 'node')

if (outdated()) install()
check()

/** npm writes its own copy of the lock file last, so that copy's age is the age of a complete installation. */
function outdated() {
  const installed = statSync(join(modules, '.package-lock.json'), { throwIfNoEntry: false })
  if (installed === undefined) return true
  const lock = statSync(join(root, 'package-lock.json'), { throwIfNoEntry: false })
  return lock !== undefined && lock.mtimeMs > installed.mtimeMs
}

function install() {
  const options = { cwd: root, stdio: 'inherit' }
  const args = ['ci', '--no-audit', '--no-fund']
  const npm = process.env.npm_execpath
  // npm runs on its own Node and not on the one in node_modules, which `npm ci` is about to remove.
  const result =
    npm === undefined
      ? spawnSync('npm', args, { ...options, shell: process.platform === 'win32' })
      : spawnSync(process.env.npm_node_execpath ?? process.execPath, [npm, ...args], options)
  if (result.status !== 0) {
    console.error(`\nInstalling the dependencies failed. Run "npm ci" in ${root} to see why.`)
    process.exit(result.status || 1)
  }
}

function check() {
  const version = scriptNode()
  const [major = 0, minor = 0] = (version ?? '').replace(/^v/, '').split('.').map(Number)
  if (major > needed[0] || (major === needed[0] && minor >= needed[1])) return
  const found = version === null ? `${bundled} does not run on this machine` : `this one is ${version}`
  console.error(`Gatehouse needs Node ${needed.join('.')} or newer (24 LTS is recommended); ${found}.`)
  console.error('Install it from https://nodejs.org or with your version manager, then run the same command again.')
  process.exit(1)
}

/** Version of the `node` an npm script finds first: the one among the dependencies, else the first on the PATH. */
function scriptNode() {
  const found = existsSync(bundled) ? bundled : onPath()
  // Usually that is the process we are; starting another one only to ask would cost more than everything else here.
  if (found === undefined || realpathSync(found) === realpathSync(process.execPath)) return process.version
  const asked = spawnSync(found, ['--version'], { encoding: 'utf8', shell: process.platform === 'win32' })
  return asked.status === 0 ? asked.stdout.trim() : null
}

function onPath() {
  const name = process.platform === 'win32' ? 'node.exe' : 'node'
  const folders = (process.env.PATH ?? '').split(delimiter).filter((folder) => folder !== '')
  return folders.map((folder) => join(folder, name)).find((file) => existsSync(file))
}
