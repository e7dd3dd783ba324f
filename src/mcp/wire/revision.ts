/**
 * One codec per protocol revision: which methods it has and how a result is shaped for it. What a revision lacks is
 * simply not in its table; the lookup's miss is the answer.
 * @module
 */
import { isObject, type Json } from './jsonrpc.ts'
import { cleanResultMeta, metaKeys, software } from './meta.ts'
import { wrapSchema, wrapsOutput } from './output.ts'

export const modernRevisions = ['2026-07-28'] as const
export const legacyRevisions = ['2025-11-25', '2025-06-18', '2025-03-26'] as const
export type Revision = (typeof modernRevisions)[number] | (typeof legacyRevisions)[number]
export type Era = 'modern' | 'legacy'

/** What a request asks the gateway for, whatever the revision calls it. */
export type Surface = 'initialize' | 'discover' | 'ping' | 'tools-list' | 'tools-call'

/** What a notification tells. */
export type Signal = 'initialized' | 'cancelled'

export interface Codec {
  readonly revision: Revision
  readonly era: Era
  /** Several messages in one POST. */
  readonly batches: boolean
  readonly requests: ReadonlyMap<string, Surface>
  readonly notifications: ReadonlyMap<string, Signal>
  /** Param whose value travels in `Mcp-Name`, per method. */
  readonly named: ReadonlyMap<string, string>
  readonly capabilities: Json
  /** A complete result. `extra` is merged into its `_meta`. */
  result(body: Json, extra?: Json): Json
  /** A result that carries cache hints where the revision has them. */
  listing(body: Json, extra?: Json): Json
  /** A tool result as its server gave it. @param definition the tool's, where it is known */
  toolResult(result: Json, definition: Json | null, extra?: Json): Json
  /** A tool definition as its server gave it. */
  definition(definition: Json): Json
}

const modern = (revision: Revision): Codec => {
  const result: Codec['result'] = (body, extra) => ({
    ...without(body, eraFields),
    resultType: 'complete',
    _meta: { ...cleanResultMeta(body._meta), ...extra, [metaKeys.serverInfo]: software },
  })
  return {
    revision,
    era: 'modern',
    batches: false,
    requests: new Map<string, Surface>([
      ['server/discover', 'discover'],
      ['tools/list', 'tools-list'],
      ['tools/call', 'tools-call'],
    ]),
    notifications: new Map<string, Signal>([['notifications/cancelled', 'cancelled']]),
    named: new Map([['tools/call', 'name']]),
    capabilities: { tools: {} },
    result,
    // Lists are filtered per caller, so they are private; without a subscription to end a wrong copy, they are stale at once.
    listing: (body, extra) => ({ ...result(body, extra), ttlMs: 0, cacheScope: 'private' }),
    toolResult: (body, _definition, extra) => result(body, extra),
    // `execution` belongs to the tasks of 2025-11-25, which this revision does not have.
    definition: (definition) => without(definition, ['execution']),
  }
}

const legacy = (revision: Revision, batches: boolean): Codec => {
  const result: Codec['result'] = (body, extra) => {
    const { _meta, ...rest } = body
    const meta = { ...cleanResultMeta(_meta), ...extra }
    // Older clients parse empty results strictly: a field they do not know makes them hang or throw.
    return { ...without(rest, eraFields), ...(Object.keys(meta).length === 0 ? {} : { _meta: meta }) }
  }
  return {
    revision,
    era: 'legacy',
    batches,
    requests: new Map<string, Surface>([
      ['initialize', 'initialize'],
      ['ping', 'ping'],
      ['tools/list', 'tools-list'],
      ['tools/call', 'tools-call'],
    ]),
    notifications: new Map<string, Signal>([
      ['notifications/initialized', 'initialized'],
      ['notifications/cancelled', 'cancelled'],
    ]),
    named: new Map(),
    capabilities: { tools: { listChanged: true } },
    result,
    listing: result,
    toolResult(body, definition, extra) {
      const shaped = result(body, extra)
      if (!('structuredContent' in shaped)) return shaped
      const wraps = !isObject(shaped.structuredContent) || (definition !== null && wrapsOutput(definition.outputSchema))
      return wraps ? { ...shaped, structuredContent: { result: shaped.structuredContent } } : shaped
    },
    definition(definition) {
      if (!wrapsOutput(definition.outputSchema)) return definition
      return { ...definition, outputSchema: wrapSchema(definition.outputSchema) }
    },
  }
}

const eraFields = ['resultType', 'ttlMs', 'cacheScope'] as const

export const codecs: Readonly<Record<Revision, Codec>> = {
  '2026-07-28': modern('2026-07-28'),
  '2025-11-25': legacy('2025-11-25', false),
  '2025-06-18': legacy('2025-06-18', false),
  '2025-03-26': legacy('2025-03-26', true),
}

/** Newest first, as offered to a client that asks for something else. */
export const revisions: readonly Revision[] = [...modernRevisions, ...legacyRevisions]
export const newestLegacy: Revision = legacyRevisions[0]
export const newestModern: Revision = modernRevisions[0]

/** The codec of a version string, or null: names of object members are plain data here. */
export function codecOf(revision: unknown): Codec | null {
  return revisions.includes(revision as Revision) ? codecs[revision as Revision] : null
}

function without(body: Json, names: readonly string[]): Json {
  if (!names.some((name) => name in body)) return body
  return Object.fromEntries(Object.entries(body).filter(([key]) => !names.includes(key)))
}
