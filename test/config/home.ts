/** A temporary home folder with configuration files, gone when the test ends. @module */
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { TestContext } from 'node:test'
import type { Config } from '../../src/config/config.ts'
import { describeFault } from '../../src/config/document.ts'
import { loadConfig } from '../../src/config/load.ts'

export interface Home {
  readonly path: string
  /** Replaces a file the way editors do: written beside, then renamed over. */
  put(file: string, text: string): void
  remove(file: string): void
}

export function makeHome(t: TestContext, files: Readonly<Record<string, string>> = {}): Home {
  const path = mkdtempSync(join(tmpdir(), 'gatehouse-config-'))
  t.after(() => rmSync(path, { recursive: true, force: true }))
  const put = (file: string, text: string) => {
    const target = join(path, file)
    mkdirSync(dirname(target), { recursive: true })
    writeFileSync(`${target}.tmp`, text)
    renameSync(`${target}.tmp`, target)
  }
  for (const [file, text] of Object.entries(files)) put(file, text)
  return { path, put, remove: (file) => rmSync(join(path, file), { recursive: true }) }
}

/** Loads with every secret there, or those given. */
export async function load(home: Home, secrets?: readonly string[]): Promise<Config | readonly string[]> {
  const secretExists = (ref: string) => secrets === undefined || secrets.includes(ref)
  const result = await loadConfig(home.path, { secretExists, previousEpoch: 0 })
  return 'config' in result ? result.config : result.faults.map(describeFault)
}

export async function loaded(home: Home, secrets?: readonly string[]): Promise<Config> {
  const result = await load(home, secrets)
  if (!('providers' in result)) throw new Error(result.join('\n'))
  return result
}

export async function refused(home: Home): Promise<readonly string[]> {
  const result = await load(home)
  if ('providers' in result) throw new Error('the configuration was accepted')
  return result
}
