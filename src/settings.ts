/** What the environment and the command line say, checked. Pure: the environment is passed in. @module */
import { dirname, isAbsolute, resolve } from 'node:path'
import { parseAllowance } from './egress.ts'

export interface Settings {
  /** Absolute: holds registry/, policies/ and data/. */
  readonly home: string
  /** Processes that serve. */
  readonly workers: number
  readonly host: string
  readonly port: number
  /** The admin plane on a loopback listener of its own, or null: on the same one. */
  readonly adminPort: number | null
  readonly publicUrl: string | null
  readonly masterKey: string | null
  readonly adminKey: string | null
  /** Path of the SQLite file, or URL of the Postgres database; a password may stand in it. */
  readonly database: string
  /** File beside the database that says where the ledger's chains end; to be copied elsewhere. */
  readonly anchors: string
  /** Shared hot state, or null: everything is counted in this process. Holds a password: never to be shown. */
  readonly redisUrl: string | null
  readonly allowPrivate: readonly string[]
  readonly logLevel: string
  /** What was given and is not used, for the log. */
  readonly notes: readonly string[]
  /** Resolves `env:NAME` and `file:PATH`. @throws {Error} naming the reference, never its value */
  readonly environment: Readonly<Record<string, string | undefined>>
}

export interface Flags {
  readonly home?: string | undefined
  readonly port?: string | undefined
  readonly host?: string | undefined
  readonly workers?: string | undefined
}

/** @throws {SettingError} saying which setting is wrong and what it should be */
export function settingsFrom(env: Readonly<Record<string, string | undefined>>, flags: Flags, cwd: string): Settings {
  const home = resolve(cwd, flags.home ?? given(env.GATEHOUSE_HOME) ?? '.')
  const host = flags.host ?? given(env.HOST) ?? '127.0.0.1'
  const adminKey = given(env.GATEHOUSE_ADMIN_KEY) ?? null
  if (adminKey !== null && adminKey.length < 24)
    throw new SettingError('GATEHOUSE_ADMIN_KEY: needs at least 24 characters')
  if (!isLoopback(host) && adminKey === null) {
    throw new SettingError(
      `HOST ${host} is reachable from outside: set GATEHOUSE_ADMIN_KEY (24 characters or more) first`,
    )
  }
  const allowPrivate = list(env.GATEHOUSE_ALLOW_PRIVATE)
  for (const entry of allowPrivate) {
    const parsed = parseAllowance(entry)
    if (typeof parsed === 'string') throw new SettingError(`GATEHOUSE_ALLOW_PRIVATE: ${parsed}`)
  }
  const database = databaseOf(given(env.DATABASE_URL), home)
  return {
    home,
    workers: workersOf(flags.workers ?? given(env.GATEHOUSE_WORKERS) ?? '1'),
    host,
    port: portOf('PORT', flags.port ?? given(env.PORT) ?? '8787'),
    adminPort:
      given(env.GATEHOUSE_ADMIN_PORT) === undefined
        ? null
        : portOf('GATEHOUSE_ADMIN_PORT', env.GATEHOUSE_ADMIN_PORT as string),
    publicUrl: urlOf(given(env.GATEHOUSE_PUBLIC_URL)),
    masterKey: given(env.GATEHOUSE_MASTER_KEY) ?? null,
    adminKey,
    database,
    anchors: anchorsOf(database, home),
    redisUrl: redisOf(given(env.REDIS_URL)),
    allowPrivate,
    logLevel: levelOf(given(env.GATEHOUSE_LOG_LEVEL) ?? 'info'),
    notes: notesOn(database),
    environment: env,
  }
}

export class SettingError extends Error {}

export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host)
}

function given(value: string | undefined): string | undefined {
  return value === undefined || value === '' ? undefined : value
}

function list(value: string | undefined): string[] {
  return (value ?? '').split(/[\s,]+/).filter((entry) => entry !== '')
}

function portOf(name: string, text: string): number {
  const port = Number(text)
  if (!/^[0-9]{1,5}$/.test(text) || port > 65_535) throw new SettingError(`${name}: "${text}" is no port`)
  return port
}

function workersOf(text: string): number {
  if (/^[1-9][0-9]?$/.test(text)) return Number(text)
  throw new SettingError(`GATEHOUSE_WORKERS: "${text}" is no number from 1 to 99`)
}

function urlOf(text: string | undefined): string | null {
  if (text === undefined) return null
  const url = URL.parse(text)
  if (url === null || !/^https?:$/.test(url.protocol) || url.search !== '' || url.hash !== '') {
    throw new SettingError('GATEHOUSE_PUBLIC_URL: must be an http or https URL without query')
  }
  return text.replace(/\/+$/, '')
}

function databaseOf(text: string | undefined, home: string): string {
  if (text === undefined) return resolve(home, 'data/gatehouse.db')
  if (/^postgres(ql)?:\/\//i.test(text)) {
    // Not repeated in the message: a password may stand in it.
    if (URL.parse(text) === null)
      throw new SettingError(
        'DATABASE_URL: cannot be read; write postgres://USER:PASSWORD@HOST:PORT/NAME, with %40 for @ and %2F for / in the password',
      )
    return text
  }
  if (!text.startsWith('sqlite:'))
    throw new SettingError('DATABASE_URL: must be sqlite:PATH or postgres://USER:PASSWORD@HOST:PORT/NAME')
  const path = text.slice('sqlite:'.length)
  return isAbsolute(path) ? path : resolve(home, path)
}

function anchorsOf(database: string, home: string): string {
  return resolve(/^\w{2,}:/.test(database) ? resolve(home, 'data') : dirname(database), 'ledger.anchors')
}

/** The value is not repeated in the complaint: it may hold a password. */
function redisOf(text: string | undefined): string | null {
  if (text === undefined) return null
  const url = URL.parse(text)
  if (url === null || !/^rediss?:$/.test(url.protocol) || url.hostname === '') {
    throw new SettingError('REDIS_URL: must be redis://[user:password@]host[:port][/db], or rediss:// for TLS')
  }
  return text
}

/** What goes over a network unread by us should not be read by others either. */
function notesOn(database: string): readonly string[] {
  const url = URL.parse(database)
  if (url === null || !/^postgres(ql)?:$/.test(url.protocol) || url.hostname === '' || isLoopback(url.hostname))
    return []
  const mode = url.searchParams.get('sslmode')
  if (mode !== null && mode !== 'disable') return []
  return [
    'DATABASE_URL names another machine without sslmode=verify-full: what is sent to the database is not encrypted',
  ]
}

function levelOf(text: string): string {
  if (['debug', 'info', 'warn', 'error', 'silent'].includes(text)) return text
  throw new SettingError('GATEHOUSE_LOG_LEVEL: must be debug, info, warn, error or silent')
}
