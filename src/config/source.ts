/** Reads configuration files and gathers what is wrong with them. @module */
import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { z } from 'zod'
import { type ConfigFault, maxFileBytes, type Path, type Read, readDocument } from './document.ts'

/** The files of one load: what was wrong with them, and a hash over what was read. */
export interface Source {
  readonly faults: ConfigFault[]
  /** The YAML files of a folder, in order; empty when there is no such folder. */
  list(folder: string): Promise<readonly string[]>
  /** null: the file is missing, or its faults have been noted. */
  read<T>(file: string, schema: z.ZodType<T>, empty?: unknown): Promise<Read<T> | null>
  expect(read: Read<unknown> | null, path: Path, holds: boolean, message: string, part?: 'key'): void
  refuse(file: string, message: string): void
  /** First 16 hex digits of the SHA-256 over paths and bytes of what was read. */
  hash(): string
}

/** @param home the folder that holds `registry/` and `policies/` */
export function openSource(home: string): Source {
  const faults: ConfigFault[] = []
  const digest = createHash('sha256')
  const origin = new WeakMap<object, string>()
  const refuse = (file: string, message: string) => faults.push({ file, line: 1, column: 1, message })
  return {
    faults,
    refuse,
    async list(folder) {
      const names = await readdir(join(home, folder)).catch((error: unknown) => {
        if (codeOf(error) !== 'ENOENT') refuse(folder, `cannot be read (${codeOf(error)})`)
        return []
      })
      const visible = names.filter((name) => !name.startsWith('.')).sort()
      // Read as something else it would be a policy that silently does not hold.
      for (const name of visible) if (name.endsWith('.yml')) refuse(`${folder}/${name}`, 'rename it to .yaml')
      return visible.filter((name) => name.endsWith('.yaml')).map((name) => `${folder}/${name}`)
    },
    async read(file, schema, empty) {
      const text = await readFile(join(home, file)).catch((error: unknown) => codeOf(error))
      if (typeof text === 'string') {
        if (text !== 'ENOENT') refuse(file, `cannot be read (${text})`)
        return null
      }
      digest.update(`${file}\0${text.length}\0`).update(text)
      const decoded = text.length > maxFileBytes ? null : decode(text)
      if (decoded === null) {
        refuse(file, text.length > maxFileBytes ? `larger than ${maxFileBytes} bytes` : 'is not UTF-8 text')
        return null
      }
      const read = readDocument(file, decoded, schema, empty)
      if ('faults' in read) {
        faults.push(...read.faults)
        return null
      }
      origin.set(read, file)
      return read
    },
    expect(read, path, holds, message, part) {
      if (!holds && read !== null) faults.push({ file: origin.get(read) ?? '', ...read.at(path, part), message })
    },
    hash: () => digest.digest('hex').slice(0, 16),
  }
}

function decode(bytes: Buffer): string | null {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    return null
  }
}

function codeOf(error: unknown): string {
  return (error as { code?: string }).code ?? 'unknown error'
}
