/**
 * `npm run build`: src/ as JavaScript with type declarations into dist/, ready to be packed. Everything in dist/ is
 * made here; nothing in it is kept from an earlier build.
 */
import { spawnSync } from 'node:child_process'
import { chmodSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const dist = join(root, 'dist')

rmSync(dist, { recursive: true, force: true })
const compiler = join(root, 'node_modules', 'typescript', 'bin', 'tsc')
const built = spawnSync(process.execPath, [compiler, '-p', 'tsconfig.build.json'], { cwd: root, stdio: 'inherit' })
if (built.status !== 0) {
  console.error('\nThe build failed: src/ has the errors above.')
  process.exit(built.status || 1)
}
chmodSync(join(dist, 'cli.js'), 0o755)
