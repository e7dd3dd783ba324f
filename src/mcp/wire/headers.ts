/**
 * The headers a 2026-07-28 request copies from its body: the Base64 sentinel, and the `x-mcp-header` annotations of
 * tool schemas. Source: MCP 2026-07-28, basic/transports/streamable-http.
 * @module
 */
import { isObject, type Json } from './jsonrpc.ts'

const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
const sentinel = /^=\?base64\?([A-Za-z0-9+/]*={0,2})\?=$/

/** A parameter that travels as `Mcp-Param-<name>`; `path` is its chain of property names. */
export interface HeaderParam {
  readonly name: string
  readonly path: readonly string[]
  readonly type: 'string' | 'integer' | 'boolean'
}

/**
 * Text as a header value: literal where HTTP can carry it, else Base64 of its UTF-8 between exact markers.
 */
export function encodeHeaderValue(text: string): string {
  const plain = /^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$/.test(text) && !text.startsWith('=?base64?')
  return plain || text === '' ? text : `=?base64?${Buffer.from(text, 'utf8').toString('base64')}?=`
}

/** The text a header value stands for, or null when it is no value a sender may write. */
export function decodeHeaderValue(value: string): string | null {
  const trimmed = value.replace(/^[ \t]+|[ \t]+$/g, '')
  if (!/^[\x20-\x7e]*$/.test(trimmed)) return null
  if (!trimmed.startsWith('=?base64?') || !trimmed.endsWith('?=')) return trimmed
  const inside = sentinel.exec(trimmed)?.[1]
  if (inside === undefined) return null
  const bytes = Buffer.from(inside, 'base64')
  // Node skips what it cannot decode; only a value that encodes back to itself was valid Base64.
  if (bytes.toString('base64') !== inside) return null
  const text = bytes.toString('utf8')
  return Buffer.from(text, 'utf8').equals(bytes) ? text : null
}

/**
 * Reads the `x-mcp-header` annotations of a tool's input schema.
 *
 * An annotation is valid on a string, integer or boolean reached through `properties` alone, with a header token that
 * is unique without regard to case.
 *
 * @returns the parameters, or why the definition is invalid (its tool must then be left out)
 */
export function headerParams(inputSchema: unknown): readonly HeaderParam[] | string {
  const found: HeaderParam[] = []
  const names = new Set<string>()
  const visit = (node: unknown, path: readonly string[], reachable: boolean): string | null => {
    if (Array.isArray(node)) return firstFault(node, (item) => visit(item, path, false))
    if (!isObject(node)) return null
    if ('x-mcp-header' in node) {
      const name = node['x-mcp-header']
      if (!reachable || path.length === 0) return 'an x-mcp-header stands where only a chain of properties may lead'
      if (typeof name !== 'string' || !token.test(name)) return 'an x-mcp-header is not a header token'
      if (node.type !== 'string' && node.type !== 'integer' && node.type !== 'boolean')
        return `the x-mcp-header ${name} is on a parameter that is not a string, integer or boolean`
      if (names.has(name.toLowerCase())) return `the x-mcp-header ${name} is used twice`
      names.add(name.toLowerCase())
      found.push({ name, path, type: node.type })
    }
    return firstFault(Object.entries(node), ([key, child]) => {
      if (key === 'properties' && isObject(child))
        return firstFault(Object.entries(child), ([name, schema]) => visit(schema, [...path, name], reachable))
      // Data, not schemas: an annotation in here is only text.
      if (key === 'default' || key === 'const' || key === 'enum' || key === 'examples') return null
      return visit(child, path, false)
    })
  }
  return visit(inputSchema, [], true) ?? found
}

function firstFault<T>(items: readonly T[], check: (item: T) => string | null): string | null {
  for (const item of items) {
    const why = check(item)
    if (why !== null) return why
  }
  return null
}

/** The value at a property chain of the arguments; undefined where the chain ends early. */
function valueAt(args: Json, path: readonly string[]): unknown {
  let value: unknown = args
  for (const key of path) {
    if (!isObject(value) || !Object.hasOwn(value, key)) return undefined
    value = value[key]
  }
  return value
}

/** `Mcp-Param-*` headers for a call, as name and value; null and absent arguments have none. */
export function paramHeaders(params: readonly HeaderParam[], args: Json): (readonly [string, string])[] {
  return params.flatMap((param) => {
    const value = valueAt(args, param.path)
    if (typeof value !== 'string' && typeof value !== 'number' && typeof value !== 'boolean') return []
    return [[`mcp-param-${param.name.toLowerCase()}`, encodeHeaderValue(String(value))] as const]
  })
}

/**
 * Compares the `Mcp-Param-*` headers of a call with its arguments. Headers no parameter asks for are ignored.
 *
 * @param header reads a header by lower-case name
 * @returns the first mismatch, or null
 */
export function paramMismatch(
  params: readonly HeaderParam[],
  args: Json,
  header: (name: string) => string | undefined,
): string | null {
  for (const param of params) {
    const name = `mcp-param-${param.name.toLowerCase()}`
    const sent = header(name)
    const value = valueAt(args, param.path)
    const scalar = typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean'
    if (!scalar) {
      // An argument of a wrong type is the schema's matter; absent and null must not be claimed by a header.
      if (sent !== undefined && (value === undefined || value === null))
        return `Mcp-Param-${param.name} is sent, but the argument is not`
      continue
    }
    if (sent === undefined) return `Mcp-Param-${param.name} is missing`
    const text = decodeHeaderValue(sent)
    if (text === null || !sameScalar(text, value)) return `Mcp-Param-${param.name} differs from the argument`
  }
  return null
}

function sameScalar(text: string, value: string | number | boolean): boolean {
  if (typeof value !== 'number') return text === String(value)
  return /^-?[0-9]+(\.[0-9]+)?$/.test(text) && Number(text) === value
}
