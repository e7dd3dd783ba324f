/**
 * What a server says its tools are, before anybody may see it: names that can be matched byte by byte, definitions of
 * bounded size and depth, annotations that can be honoured. What fails is left out with a reason; the others stay.
 * @module
 */
import type { Tool } from '../call.ts'
import { headerParams } from './wire/headers.ts'
import { isObject, type Json } from './wire/jsonrpc.ts'

/** Most tools of one server, and most bytes of one definition and of all together. */
export const maxTools = 2000
export const maxDefinition = 65_536
export const maxDefinitions = 8 * 1024 * 1024
/** Deepest nesting of a definition. */
export const maxDefinitionDepth = 64

export interface Ingested {
  /** Sorted by name. */
  readonly tools: readonly Tool[]
  readonly refused: readonly { readonly name: string; readonly why: string }[]
}

/** @param server the id given by the registry; what a server calls itself plays no part */
export function ingest(server: string, definitions: readonly Json[]): Ingested {
  const tools = new Map<string, Tool>()
  const refused: { name: string; why: string }[] = []
  let total = 0
  for (const definition of definitions) {
    const { name } = definition
    const size = sizeOf(definition)
    const why =
      typeof name !== 'string'
        ? 'it has no name'
        : (nameFault(name) ??
          (tools.has(name) ? 'its name is used twice' : null) ??
          (size === null ? `it is nested deeper than ${maxDefinitionDepth}` : null) ??
          ((size ?? 0) > maxDefinition ? `its definition is larger than ${maxDefinition} bytes` : null) ??
          (tools.size >= maxTools ? `the server has more than ${maxTools} tools` : null) ??
          (total + (size ?? 0) > maxDefinitions ? 'the definitions of the server are too large together' : null) ??
          schemaFault(definition))
    if (why !== null) {
      // A name may be anything here, so it is shown as JSON and cut.
      refused.push({ name: JSON.stringify(name)?.slice(0, 150) ?? 'none', why })
      continue
    }
    total += size ?? 0
    tools.set(name as string, { server, name: name as string, outward: `${server}__${name}`, definition })
  }
  return { tools: [...tools.values()].sort((a, b) => (a.name < b.name ? -1 : 1)), refused }
}

/** Why a tool name cannot be used, or null. Names are compared byte by byte and never normalised. */
export function nameFault(name: string): string | null {
  if (!/^[A-Za-z0-9_.-]{1,128}$/.test(name)) return 'its name is not 1 to 128 of A-Z a-z 0-9 _ . -'
  return name.includes('..') ? 'its name contains ..' : null
}

function schemaFault(definition: Json): string | null {
  const { inputSchema } = definition
  if (!isObject(inputSchema) || inputSchema.type !== 'object') return 'its inputSchema is not of type object'
  const params = headerParams(inputSchema)
  return typeof params === 'string' ? params : null
}

/** Bytes of a definition as JSON, or null when it is nested too deeply to be handled. */
function sizeOf(definition: Json): number | null {
  return deeperThan(definition, maxDefinitionDepth) ? null : Buffer.byteLength(JSON.stringify(definition))
}

/** Whether a value is nested deeper than a limit; walks no further than that. */
export function deeperThan(value: unknown, limit: number): boolean {
  if (typeof value !== 'object' || value === null) return false
  if (limit === 0) return true
  return Object.values(value).some((child) => deeperThan(child, limit - 1))
}
