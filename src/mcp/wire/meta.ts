/** The reserved keys of `_meta` (MCP 2026-07-28, basic/index) and who this software says it is. @module */
import type { Json } from './jsonrpc.ts'

export const metaKeys = {
  protocolVersion: 'io.modelcontextprotocol/protocolVersion',
  clientCapabilities: 'io.modelcontextprotocol/clientCapabilities',
  clientInfo: 'io.modelcontextprotocol/clientInfo',
  serverInfo: 'io.modelcontextprotocol/serverInfo',
} as const

/** Keys the gateway adds to results. Reserved: no upstream can set them. */
export const ownPrefix = 'dev.gatehouse/'

/** `serverInfo` towards clients, `clientInfo` towards servers. */
export const software: Json = Object.freeze({ name: 'gatehouse', version: '0.1.0' })

/**
 * The `_meta` of a request that may travel to an upstream: everything but the keys that describe the hop it came over.
 * Identity, capabilities and tokens of a hop are made anew on the next one.
 */
export function portableMeta(meta: unknown): Json {
  if (typeof meta !== 'object' || meta === null) return {}
  return Object.fromEntries(Object.entries(meta).filter(([key]) => key !== 'progressToken' && !reserved(key)))
}

/** The `_meta` of an upstream's result without what it says about its own hop and without keys that are ours alone. */
export function cleanResultMeta(meta: unknown): Json | undefined {
  if (typeof meta !== 'object' || meta === null || Array.isArray(meta)) return undefined
  const kept = Object.entries(meta).filter(([key]) => key !== metaKeys.serverInfo && !key.startsWith(ownPrefix))
  return kept.length === 0 ? undefined : Object.fromEntries(kept)
}

/** A prefix whose second label is `mcp` or `modelcontextprotocol` belongs to the protocol; ours belong to us. */
function reserved(key: string): boolean {
  const slash = key.indexOf('/')
  if (slash === -1) return false
  const second = key.slice(0, slash).split('.')[1]
  return second === 'mcp' || second === 'modelcontextprotocol' || key.startsWith(ownPrefix)
}
