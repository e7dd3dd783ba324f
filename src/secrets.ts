/** Where secrets come from: references in files, the master key and what is derived from it. @module */
import { hkdfSync } from 'node:crypto'
import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { isAbsolute, join, resolve } from 'node:path'
import type { Settings } from './settings.ts'
import { SettingError } from './settings.ts'

/** @returns a reader of `env:NAME` and `file:PATH` (relative to home); it throws an Error that names the reference only */
export function secretReader(settings: Settings): (ref: string) => string {
  return (ref) => {
    const value = ref.startsWith('env:') ? settings.environment[ref.slice(4)] : fromFile(settings.home, ref.slice(5))
    if (value === undefined || value === '') throw new Error(`the secret ${ref} is not set`)
    return value
  }
}

function fromFile(home: string, path: string): string | undefined {
  const full = isAbsolute(path) ? path : resolve(home, path)
  return existsSync(full) ? readFileSync(full, 'utf8').trim() : undefined
}

/**
 * The master key: 32 bytes from GATEHOUSE_MASTER_KEY, else from data/master-key, which is made on the first start.
 *
 * @throws {SettingError} it is too short, a known example, or its file can be read by others
 */
export function masterKey(settings: Settings, random: (bytes: number) => Buffer): Buffer {
  if (settings.masterKey !== null) return checkKey(settings.masterKey, 'GATEHOUSE_MASTER_KEY')
  const folder = join(settings.home, 'data')
  const path = join(folder, 'master-key')
  if (!existsSync(path)) {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    writeFileSync(path, `${random(32).toString('base64')}\n`, { mode: 0o600, flag: 'wx' })
    chmodSync(path, 0o600)
  }
  if (process.platform !== 'win32' && (statSync(path).mode & 0o077) !== 0) {
    throw new SettingError(`${path} can be read by others: chmod 600 it`)
  }
  return checkKey(readFileSync(path, 'utf8').trim(), path)
}

function checkKey(text: string, where: string): Buffer {
  const key = Buffer.from(text, 'base64')
  if (key.length !== 32 || key.toString('base64').replace(/=+$/, '') !== text.replace(/=+$/, '')) {
    throw new SettingError(`${where}: must be 32 bytes in base64 (openssl rand -base64 32)`)
  }
  if (new Set(key).size < 8)
    throw new SettingError(`${where}: is an example, not a key; make one with openssl rand -base64 32`)
  return key
}

/** A key of its own for each purpose, so that none of them gives another away. */
export function derive(master: Buffer, purpose: string): Buffer {
  return Buffer.from(hkdfSync('sha256', master, Buffer.alloc(0), `gatehouse/${purpose}`, 32))
}
