/** Runs leaser.ts in two processes that begin at once. @module */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const script = fileURLToPath(new URL('./leaser.ts', import.meta.url))

/** @param args of leaser.ts @returns what each of the two spent */
export async function leaseTogether(args: readonly string[]): Promise<readonly [number, number]> {
  const children = [0, 1].map(() => {
    const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', script, ...args], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    return {
      child,
      lines: createInterface({ input: child.stdout })[Symbol.asyncIterator](),
      exited: once(child, 'exit'),
    }
  })
  for (const { lines } of children) assert.equal((await lines.next()).value, 'ready')
  for (const { child } of children) child.stdin.end('go\n')
  const spent: number[] = []
  for (const { lines, exited } of children) {
    spent.push(Number((await lines.next()).value))
    assert.deepEqual(await exited, [0, null])
  }
  return spent as [number, number]
}
