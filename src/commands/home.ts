/** A home folder read without a running gateway: its configuration and the tools that can be known from files. @module */
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { z } from 'zod'
import { isUsableSecret } from '../alerts/webhook.ts'
import type { Tool } from '../call.ts'
import type { Config } from '../config/config.ts'
import { type ConfigFault, describeFault, type Path, readDocument } from '../config/document.ts'
import { loadConfig } from '../config/load.ts'
import { type ServerConfig, serverSchema } from '../config/server.ts'
import { createEgress } from '../egress.ts'
import { readSettings } from '../main.ts'
import { secretReader } from '../secrets.ts'
import { type Flags, SettingError, type Settings } from '../settings.ts'
import { openTargets } from '../targets/targets.ts'
import { exits, Failed } from './report.ts'

export interface Home {
  /** Absolute. */
  readonly path: string
  readonly config: Config
  /** What can be listed from files. */
  readonly tools: readonly Tool[]
  /** Servers whose tools only a running gateway knows. */
  readonly unlisted: readonly string[]
  /** Documents of servers that cannot be read. */
  readonly faults: readonly ConfigFault[]
  /** What is no fault and yet worth knowing. */
  readonly notes: readonly string[]
}

/** @returns the home, the faults of its files, or why there is nothing to read */
export async function readHome(
  flags: Pick<Flags, 'home'>,
): Promise<Home | { readonly path: string; readonly broken: readonly ConfigFault[] } | Failed> {
  let settings: Settings
  try {
    settings = readSettings(flags)
  } catch (error) {
    if (error instanceof SettingError) return new Failed(exits.refused, error.message)
    throw error
  }
  const { home } = settings
  if (!existsSync(join(home, 'registry')) && !existsSync(join(home, 'policies'))) {
    const how = 'name the folder with --home or GATEHOUSE_HOME; "gatehouse serve" fills an empty one'
    return new Failed(exits.refused, `${home} has neither registry/ nor policies/; ${how}`)
  }
  const secret = secretReader(settings)
  const secretExists = (ref: string) => {
    try {
      return isUsableSecret(secret(ref))
    } catch {
      return false
    }
  }
  const loaded = await loadConfig(home, { secretExists, previousEpoch: 0 })
  if ('faults' in loaded) return { path: home, broken: loaded.faults }
  return { path: home, config: loaded.config, ...(await toolsOf(home, loaded.config, secret)) }
}

/** The faults of a home that cannot be used, for commands that need it whole. */
export function usable(home: Awaited<ReturnType<typeof readHome>>): Home | Failed {
  if (home instanceof Failed || !('broken' in home)) return home
  const lines = home.broken.map(describeFault).join('\n')
  return new Failed(exits.refused, `the configuration in ${home.path} has faults:\n${lines}`)
}

/** A server whose tools stand in a file of ours. Its document at a URL would be the outside, and may change. */
function isListable(row: ServerConfig): boolean {
  return row.kind === 'openapi' && !row.disabled && !row.spec.startsWith('https://')
}

async function toolsOf(
  home: string,
  config: Config,
  secret: (ref: string) => string,
): Promise<Pick<Home, 'tools' | 'unlisted' | 'faults' | 'notes'>> {
  const notes: string[] = []
  const quiet = () => {}
  const warn = (fields: object) => {
    const { server, operation, why } = fields as { server?: string; operation?: string; why?: string }
    if (operation !== undefined) notes.push(`${server}: the operation ${operation} is left out: ${why}`)
  }
  const egress = createEgress({ allowPrivate: [] })
  const listable = new Map([...config.servers].filter(([, row]) => isListable(row)))
  const targets = openTargets(
    listable,
    {
      egress,
      secret,
      clock: { now: () => 0, mono: () => 0 },
      random: randomBytes,
      log: { debug: quiet, info: quiet, warn, error: quiet },
      home,
    },
    new Map(),
  )
  await Promise.all([...targets.values()].map((target) => target.refresh()))
  const faults: ConfigFault[] = []
  for (const target of targets.values()) {
    const { status, lastFailure } = target.state()
    if (status === 'error') {
      const place = await placeOf(home, `registry/servers/${target.id}.yaml`, serverSchema, ['spec'])
      faults.push({ ...place, message: `spec: ${lastFailure}` })
    } else if (lastFailure !== null) notes.push(`${target.id}: ${lastFailure}`)
  }
  const tools = [...targets.values()].flatMap((target) => target.tools())
  await Promise.all([...targets.values()].map((target) => target.close()))
  await egress.close()
  return { tools, unlisted: [...config.servers.keys()].filter((id) => !listable.has(id)), faults, notes }
}

/** Where a part of a file stands, by the schema the file has already passed. */
export async function placeOf(
  home: string,
  file: string,
  schema: z.ZodType,
  path: Path,
): Promise<{ readonly file: string; readonly line: number; readonly column: number }> {
  const read = readDocument(file, await readFile(join(home, file), 'utf8'), schema)
  return { file, ...('at' in read ? read.at(path) : { line: 1, column: 1 }) }
}
