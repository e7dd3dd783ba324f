/**
 * Schemas of an OpenAPI document as self-contained JSON Schema: local references become `$defs`, so that cycles stay
 * cycles and nothing is fetched; what is not a keyword of JSON Schema is left out; 3.0 spellings become 2020-12 ones.
 * @module
 */

export type Json = Readonly<Record<string, unknown>>

/** `request`: closed against undeclared members, without read-only ones. `response`: only the shape, see `loose`. */
export type Mode = 'request' | 'response'

export interface SchemaReader {
  /** Converts one schema; problems are collected, the result is then of no use. */
  read(schema: unknown): Json | boolean
  /** What the references met so far point to, or null when there were none. */
  defs(): Json | null
  /** Why the schemas cannot be used; empty when they can. */
  readonly problems: readonly string[]
}

const mostNodes = 5_000
const deepest = 64

const plain = new Set(
  'type enum const format title description default minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minLength maxLength pattern minItems maxItems uniqueItems minProperties maxProperties required dependentRequired minContains maxContains'.split(
    ' ',
  ),
)
const single = new Set(
  'items additionalProperties propertyNames contains unevaluatedProperties unevaluatedItems'.split(' '),
)
const composing = new Set('not if then else'.split(' '))
const lists = new Set('allOf anyOf oneOf prefixItems'.split(' '))
const maps = new Set('properties patternProperties dependentSchemas'.split(' '))
// Of an answer only its shape is declared: a client drops the whole answer of a tool when one member breaks its schema,
// and services add enum values and leave members out without a new document.
const loose = new Set(
  'required enum const format pattern minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minLength maxLength minItems maxItems uniqueItems minProperties maxProperties dependentRequired minContains maxContains default additionalProperties unevaluatedProperties unevaluatedItems propertyNames contains not if then else'.split(
    ' ',
  ),
)

/** @param document the whole document, where local references lead */
export function schemaReader(document: Json, mode: Mode): SchemaReader {
  const problems: string[] = []
  const names = new Map<string, string>()
  const defs: Record<string, unknown> = {}
  let nodes = 0

  function read(schema: unknown, open: boolean, depth: number): Json | boolean {
    if (typeof schema === 'boolean') return schema
    const source = asRecord(schema)
    if (source === null) return {}
    nodes += 1
    if (nodes > mostNodes || depth > deepest) {
      problems.push('its schemas are too large')
      return {}
    }
    const out: Record<string, unknown> = {}
    if (typeof source.$ref === 'string') {
      const widened = open || 'properties' in source || 'allOf' in source
      const name = define(source.$ref, widened, depth)
      if (name !== null) out.$ref = `#/$defs/${name}`
    }
    for (const [key, value] of Object.entries(source)) {
      if (mode === 'response' && loose.has(key)) continue
      if (plain.has(key)) copy(out, key, value)
      else if (single.has(key)) out[key] = read(value, false, depth + 1)
      // Parts of one composed object must tolerate each other's members, so none of them is closed.
      else if (composing.has(key)) out[key] = read(value, true, depth + 1)
      else if (lists.has(key) && Array.isArray(value)) {
        out[key] = value.map((item) => read(item, key !== 'prefixItems', depth + 1))
      } else if (maps.has(key)) out[key] = readMap(value, key === 'dependentSchemas', depth)
    }
    if (mode === 'request') withoutReadOnly(source, out)
    modernise(source, out)
    if (mode === 'request' && !open && isPlainObject(out)) out.additionalProperties = false
    return out
  }

  function readMap(value: unknown, open: boolean, depth: number): Json {
    const entries = Object.entries(asRecord(value) ?? {})
    return Object.fromEntries(entries.map(([name, schema]) => [name, read(schema, open, depth + 1)]))
  }

  function define(ref: string, open: boolean, depth: number): string | null {
    const key = `${open ? 'open' : 'closed'} ${ref}`
    const known = names.get(key)
    if (known !== undefined) return known
    const target = ref.startsWith('#/') ? follow(document, ref) : undefined
    if (target === undefined) {
      problems.push(
        `it refers to ${ref.startsWith('#/') ? 'something missing' : 'another document'} (${ref.slice(0, 100)})`,
      )
      return null
    }
    const stem = (ref.split('/').at(-1) ?? 'schema').replace(/[^A-Za-z0-9_.-]/g, '_')
    let name = stem
    for (let n = 2; Object.hasOwn(defs, name) || name === '__proto__'; n++) name = `${stem}_${n}`
    names.set(key, name)
    defs[name] = {}
    defs[name] = read(target, open, depth + 1)
    return name
  }

  function withoutReadOnly(source: Json, out: Record<string, unknown>): void {
    const properties = asRecord(source.properties)
    if (properties === null) return
    const kept = { ...asRecord(out.properties) }
    for (const [name, schema] of Object.entries(properties)) {
      if (asRecord(resolve(document, schema))?.readOnly === true) delete kept[name]
    }
    out.properties = kept
    if (Array.isArray(out.required))
      out.required = out.required.filter((name) => Object.hasOwn(kept, name) || !Object.hasOwn(properties, name))
  }

  return {
    problems,
    read: (schema) => read(schema, false, 0),
    defs: () => (Object.keys(defs).length === 0 ? null : defs),
  }
}

function copy(out: Record<string, unknown>, key: string, value: unknown): void {
  // A pattern that is no regular expression here would fail every call; the service still checks it.
  if (key === 'pattern' && !isPattern(value)) return
  out[key] = value
}

function isPattern(value: unknown): boolean {
  try {
    new RegExp(String(value), 'u')
    return true
  } catch {
    return false
  }
}

/** `nullable` and boolean exclusive bounds of OpenAPI 3.0 (its schema object, against JSON Schema 2020-12). */
function modernise(source: Json, out: Record<string, unknown>): void {
  if (source.nullable === true && typeof out.type === 'string') {
    out.type = [out.type, 'null']
    if (Array.isArray(out.enum) && !out.enum.includes(null)) out.enum = [...out.enum, null]
  }
  for (const [exclusive, bound] of [
    ['exclusiveMinimum', 'minimum'],
    ['exclusiveMaximum', 'maximum'],
  ] as const) {
    if (typeof out[exclusive] !== 'boolean') continue
    if (out[exclusive] === true && out[bound] !== undefined) {
      out[exclusive] = out[bound]
      delete out[bound]
    } else delete out[exclusive]
  }
}

/** An object that lists its members and says nothing else about further ones. */
function isPlainObject(schema: Json): boolean {
  const silent = [
    'additionalProperties',
    'unevaluatedProperties',
    'patternProperties',
    'allOf',
    'anyOf',
    'oneOf',
    '$ref',
  ]
  const objects =
    schema.type === 'object' ||
    schema.type === undefined ||
    (Array.isArray(schema.type) && schema.type.includes('object'))
  return objects && schema.properties !== undefined && silent.every((key) => schema[key] === undefined)
}

/** A value as a record, or null when it is none. */
export function asRecord(value: unknown): Json | null {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : null
}

/** What a local JSON pointer (`#/a/b`) leads to, or undefined. */
export function follow(document: Json, ref: string): unknown {
  let at: unknown = document
  for (const part of ref.slice(2).split('/')) {
    const key = decode(part).replaceAll('~1', '/').replaceAll('~0', '~')
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, key)) return undefined
    at = (at as Json)[key]
  }
  return at
}

/** Follows references of non-schema objects (parameters, bodies, path items); undefined where one leads nowhere local. */
export function resolve(document: Json, value: unknown): unknown {
  let at = value
  for (let hops = 0; hops < 16; hops++) {
    const ref = asRecord(at)?.$ref
    if (typeof ref !== 'string') return at
    at = ref.startsWith('#/') ? follow(document, ref) : undefined
  }
  return undefined
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}
