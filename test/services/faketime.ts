/** A wall clock that can be set while a process runs: libfaketime, where it is installed or can be. @module */
import { spawnSync } from 'node:child_process'
import { existsSync, globSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { atEnd } from '../gateway.ts'

const library = () =>
  globSync('/usr/lib/*/faketime/libfaketime.so.1').concat(globSync('/usr/lib/faketime/libfaketime.so.1')).at(0) ?? null

/** Why there is no such clock on this machine, for `skip`; false where there is. */
export const noFaketime: string | false = found() ? false : 'libfaketime is missing: apt-get install faketime'
if (noFaketime !== false) process.stderr.write(`SKIPPED: ${noFaketime}\n`)

function found(): boolean {
  if (library() !== null) return true
  if (process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get')) return false
  // Two files may start at once: apt waits for its lock instead of failing.
  const options = ['-o', 'DPkg::Lock::Timeout=120', '-y', '-q']
  const install = () => spawnSync('apt-get', ['install', ...options, 'faketime'], { stdio: 'ignore' }).status === 0
  if (install()) return library() !== null
  spawnSync('apt-get', ['update', '-q'], { stdio: 'ignore' })
  return install() && library() !== null
}

export interface SettableClock {
  /** For the process whose clock it is. Monotonic time goes on as ever, as it does where a clock is set. */
  readonly env: Readonly<Record<string, string>>
  /** @param seconds before (negative) or after the real time */
  set(seconds: number): void
}

export function settableClock(): SettableClock {
  const folder = mkdtempSync(join(tmpdir(), 'gatehouse-clock-'))
  atEnd(() => rmSync(folder, { recursive: true, force: true }))
  const file = join(folder, 'time')
  const set = (seconds: number) => {
    // In one step, because the process may read it at any moment.
    writeFileSync(`${file}.next`, `${seconds < 0 ? '' : '+'}${seconds}\n`)
    renameSync(`${file}.next`, file)
  }
  set(0)
  return {
    env: {
      LD_PRELOAD: library() ?? '',
      FAKETIME_TIMESTAMP_FILE: file,
      FAKETIME_NO_CACHE: '1',
      DONT_FAKE_MONOTONIC: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
    },
    set,
  }
}
