/**
 * From an OpenAPI document to tools: which operations are taken, what each is called, what its arguments are, and how
 * they travel. An operation that cannot be called safely is left out with a reason instead of being taken half.
 *
 * Arguments: each parameter is a property under its own name (a second one of that name in another place gets
 * `_query`, `_header` or `_cookie` behind it), and a JSON body is the property `body`. The body is never spread among
 * the parameters, so that a parameter added to the document moves nothing that policies or prompts refer to.
 * @module
 */
import { createHash } from 'node:crypto'
import type { Parameter, Piece, RequestPlan } from './openapi-request.ts'
import { asRecord, type Json, resolve, schemaReader } from './openapi-schema.ts'

export interface Operation {
  /** The tool's name: 1 to 64 of A-Z, a-z, 0-9, `_` and `-`. */
  readonly name: string
  readonly plan: RequestPlan
  /** What `tools/list` shows. */
  readonly definition: Json
  readonly inputSchema: Json
  readonly outputSchema: Json | null
}

export interface Imported {
  readonly operations: readonly Operation[]
  readonly refused: readonly { readonly operation: string; readonly why: string }[]
}

/** The fields of a row that shape the import. */
export interface Selection {
  readonly base_url: string
  readonly include?: readonly string[] | undefined
  readonly exclude?: readonly string[] | undefined
  readonly names?: Readonly<Record<string, string>> | undefined
  /** Header of the configured credential, lower case, or null. */
  readonly credentialHeader: string | null
}

const methods = ['get', 'head', 'post', 'put', 'patch', 'delete'] as const
const mostOperations = 1_000

/** Headers that belong to the connection, to the gateway or to the service's own proxies: no argument may set one. */
export const reservedHeader =
  /^(authorization|host|content-length|transfer-encoding|cookie|set-cookie|connection|keep-alive|te|trailer|upgrade|expect|forwarded|via|x-real-ip|x-original-url|x-rewrite-url|x-forwarded-.*|proxy-.*|mcp-.*|x-http-method|x-http-method-override|x-method-override)$/i
// The document must not redefine these, says the specification (3.1, Parameter Object): such parameters are ignored.
const ignoredHeader = /^(accept|content-type)$/i

/** @returns the tools in document order, and what was left out; or why nothing can be taken */
export function importOperations(document: Json, row: Selection): Imported | { readonly why: string } {
  const operations: Operation[] = []
  const refused: { operation: string; why: string }[] = []
  const taken = new Map<string, string>()
  let chosen = 0
  for (const [path, rawItem] of Object.entries(asRecord(document.paths) ?? {})) {
    const item = asRecord(resolve(document, rawItem))
    if (item === null) {
      refused.push({ operation: path, why: 'it refers to another document or to something missing' })
      continue
    }
    for (const method of methods) {
      const source = asRecord(item[method])
      if (source === null) continue
      const address = `${method.toUpperCase()} ${path}`
      const id = typeof source.operationId === 'string' ? source.operationId : null
      if (!isChosen(row, id, address)) continue
      chosen += 1
      if (chosen > mostOperations) return { why: `more than ${mostOperations} operations; choose some with include` }
      const name = givenName(row, id) ?? givenName(row, address) ?? toolName(id, method, path)
      const first = taken.get(name)
      const made =
        first !== undefined
          ? `its name "${name}" is taken by ${first}; give it another one under names`
          : makeOperation(document, row, { name, method, path, item, source })
      if (typeof made === 'string') {
        refused.push({ operation: address, why: made })
        continue
      }
      taken.set(name, address)
      operations.push(made)
    }
  }
  return { operations, refused }
}

function isChosen(row: Selection, id: string | null, address: string): boolean {
  const hits = (pattern: string) => matches(pattern, pattern.includes(' ') ? address : (id ?? address))
  return (row.include === undefined || row.include.some(hits)) && !row.exclude?.some(hits)
}

function givenName(row: Selection, key: string | null): string | undefined {
  return key !== null && row.names !== undefined && Object.hasOwn(row.names, key) ? row.names[key] : undefined
}

/** `*` stands for any characters. Linear in the text, since no piece is tried twice at one place. */
export function matches(pattern: string, text: string): boolean {
  const pieces = pattern.split('*')
  const head = pieces.shift() as string
  if (pieces.length === 0) return pattern === text
  const tail = pieces.pop() as string
  if (!text.startsWith(head) || text.length < head.length + tail.length || !text.endsWith(tail)) return false
  let at = head.length
  for (const piece of pieces) {
    const found = text.indexOf(piece, at)
    if (found < 0) return false
    at = found + piece.length
  }
  return at <= text.length - tail.length
}

/** Deterministic; what does not fit is cut and told apart by a hash of the whole. */
export function toolName(id: string | null, method: string, path: string): string {
  const whole = id ?? `${method} ${path}`
  const clean = whole
    .replace(/[{}]/g, '')
    .replace(/[^A-Za-z0-9_-]+/g, '_')
    .replace(/^_+|_+$/g, '')
  const name = clean === '' ? `${method}_root` : clean
  if (name.length <= 64) return name
  return `${name.slice(0, 55)}_${createHash('sha256').update(whole).digest('hex').slice(0, 8)}`
}

interface Found {
  readonly name: string
  readonly method: (typeof methods)[number]
  readonly path: string
  readonly item: Json
  readonly source: Json
}

/** @returns the operation, or why it is left out */
function makeOperation(document: Json, row: Selection, found: Found): Operation | string {
  const segments = readTemplate(found.path)
  if (typeof segments === 'string') return segments
  const raw = readParameters(document, row, found)
  if (typeof raw === 'string') return raw
  const body = readBody(document, found)
  if (typeof body === 'string') return body
  const reader = schemaReader(document, 'request')
  const properties: Record<string, unknown> = Object.create(null)
  const required: string[] = []
  if (body !== null) {
    properties.body = described(reader.read(body.schema), body.description)
    if (body.required) required.push('body')
  }
  const parameters: Parameter[] = []
  for (const { schema, required: needed, description, ...wire } of raw) {
    const property = propertyName(wire, properties)
    if (property === null) return `two of its parameters are named "${wire.name}"`
    properties[property] = described(reader.read(schema), description)
    if (needed) required.push(property)
    parameters.push({ property, ...wire })
  }
  for (const piece of segments.flat()) {
    if (typeof piece === 'string' || parameters.some((one) => one.in === 'path' && one.name === piece.parameter))
      continue
    return `its path parameter "${piece.parameter}" is not declared`
  }
  const problem = reader.problems[0]
  if (problem !== undefined) return problem
  const defs = reader.defs()
  const inputSchema = {
    type: 'object',
    properties: { ...properties },
    ...(required.length > 0 && { required }),
    additionalProperties: false,
    ...(defs !== null && { $defs: defs }),
  }
  const outputSchema = readOutput(document, found.source)
  const plan = { method: found.method.toUpperCase(), segments, parameters, bodyType: body?.type ?? null }
  const definition = define(found, plan, inputSchema, outputSchema, row)
  return { name: found.name, plan, definition, inputSchema, outputSchema }
}

function define(found: Found, plan: RequestPlan, inputSchema: Json, outputSchema: Json | null, row: Selection): Json {
  const { source, method, path, name } = found
  const texts = [source.summary, source.description].filter((text) => typeof text === 'string' && text.trim() !== '')
  if (source.deprecated === true) texts.push('Deprecated.')
  const description = texts.length > 0 ? texts.join('\n\n').slice(0, 4_000) : `${method.toUpperCase()} ${path}`
  const readOnly = method === 'get' || method === 'head'
  // Tells a client, and whoever pins definitions, that the same-looking tool now goes elsewhere.
  const binding = createHash('sha256')
    .update(JSON.stringify([row.base_url, path, plan, row.credentialHeader]))
    .digest('hex')
  return {
    name,
    description,
    inputSchema,
    ...(outputSchema !== null && { outputSchema }),
    annotations: {
      ...(typeof source.summary === 'string' && { title: source.summary.slice(0, 200) }),
      readOnlyHint: readOnly,
      ...(!readOnly && { destructiveHint: method === 'delete' || method === 'put' || method === 'patch' }),
      ...(!readOnly && { idempotentHint: method === 'put' || method === 'delete' }),
      openWorldHint: true,
    },
    _meta: { 'dev.gatehouse/binding': binding.slice(0, 32) },
  }
}

/** Splits a path template; refuses one whose own text could move the request. */
function readTemplate(path: string): Piece[][] | string {
  if (!path.startsWith('/')) return 'its path does not begin with "/"'
  const segments: Piece[][] = []
  const texts = path.slice(1).split('/')
  for (const [index, text] of texts.entries()) {
    if (text === '' && index < texts.length - 1) return 'its path has an empty segment'
    const pieces = text.split(/\{([^{}]+)\}/).map((piece, i): Piece => (i % 2 === 0 ? piece : { parameter: piece }))
    const literals = pieces.filter((piece) => typeof piece === 'string')
    if (literals.some((piece) => !/^[A-Za-z0-9\-._~!$&'()*+,;=:@]*$/.test(piece))) {
      return 'its path has characters that do not belong in one (a query in the path is not supported)'
    }
    if (text === '.' || text === '..') return 'its path has a dot segment'
    segments.push(pieces.filter((piece) => piece !== ''))
  }
  return segments
}

interface RawParameter extends Omit<Parameter, 'property'> {
  readonly schema: unknown
  readonly required: boolean
  readonly description: unknown
}

/** Parameters of the path item and of the operation, the latter winning. */
function readParameters(document: Json, row: Selection, found: Found): RawParameter[] | string {
  const all = new Map<string, RawParameter>()
  for (const list of [found.item.parameters, found.source.parameters]) {
    for (const given of Array.isArray(list) ? list : []) {
      const source = asRecord(resolve(document, given))
      if (source === null) return 'one of its parameters refers to another document or to something missing'
      const parameter = readParameter(source, row)
      if (typeof parameter === 'string') return parameter
      if (parameter !== null) all.set(`${parameter.in} ${parameter.name}`, parameter)
    }
  }
  return [...all.values()]
}

/** @returns null for a parameter that no argument fills */
function readParameter(source: Json, row: Selection): RawParameter | string | null {
  const { name, in: place } = source
  if (typeof name !== 'string' || name === '') return 'one of its parameters has no name'
  if (place !== 'path' && place !== 'query' && place !== 'header' && place !== 'cookie') {
    return `its parameter "${name}" has no known place`
  }
  if (place === 'header') {
    // The configured credential fills this one; there is no argument that could.
    if (ignoredHeader.test(name) || name.toLowerCase() === row.credentialHeader) return null
    if (reservedHeader.test(name)) return `its header parameter "${name}" is reserved`
    if (!/^[A-Za-z0-9-]+$/.test(name)) return `its header parameter "${name}" is not a plain header name`
  }
  if (place === 'cookie' && (row.credentialHeader === 'cookie' || !/^[A-Za-z0-9_-]+$/.test(name))) {
    return `its cookie parameter "${name}" cannot be sent`
  }
  if (place === 'query' && /^_method$/i.test(name)) return `its query parameter "${name}" would change the method`
  const content = Object.entries(asRecord(source.content) ?? {})[0]
  if (content !== undefined && !isJsonType(content[0])) return `its parameter "${name}" is ${content[0]}, not JSON`
  const schema = content === undefined ? source.schema : asRecord(content[1])?.schema
  const style = source.style ?? (place === 'query' || place === 'cookie' ? 'form' : 'simple')
  const known =
    place === 'query'
      ? ['form', 'spaceDelimited', 'pipeDelimited', 'deepObject']
      : [place === 'cookie' ? 'form' : 'simple']
  if (!known.includes(String(style)))
    return `its parameter "${name}" has the style ${String(style)}, which is not supported`
  const explode = typeof source.explode === 'boolean' ? source.explode : style === 'form'
  return {
    name,
    in: place,
    style: style as Parameter['style'],
    explode,
    json: content !== undefined,
    schema: schema ?? {},
    required: source.required === true || place === 'path',
    description: source.description,
  }
}

/** @returns the JSON body, null for none, or why the operation is left out */
function readBody(
  document: Json,
  found: Found,
): { type: string; schema: unknown; required: boolean; description: unknown } | string | null {
  if (found.source.requestBody === undefined) return null
  const source = asRecord(resolve(document, found.source.requestBody))
  if (source === null) return 'its body refers to another document or to something missing'
  const types = Object.entries(asRecord(source.content) ?? {})
  const required = source.required === true
  const json = types.find(([type]) => type === 'application/json') ?? types.find(([type]) => isJsonType(type))
  const bodyless = found.method === 'get' || found.method === 'head'
  if (json === undefined || bodyless) {
    if (!required) return null
    return bodyless ? 'a GET or HEAD with a body is not sent' : `its body is ${types[0]?.[0] ?? 'of no type'}, not JSON`
  }
  const type = (json[0].split(';')[0] as string).trim().toLowerCase()
  return { type, schema: asRecord(json[1])?.schema ?? {}, required, description: source.description }
}

/** The schema of the answer where exactly one successful status is declared and it is a JSON object. */
function readOutput(document: Json, source: Json): Json | null {
  const successes = Object.entries(asRecord(source.responses) ?? {}).filter(([status]) => /^2/.test(status))
  if (successes.length !== 1) return null
  const response = asRecord(resolve(document, successes[0]?.[1]))
  const types = Object.entries(asRecord(response?.content) ?? {})
  if (types.length !== 1 || !isJsonType(types[0]?.[0] ?? '')) return null
  const schema = asRecord(resolve(document, asRecord(types[0]?.[1])?.schema))
  if (schema === null || schema.type !== 'object' || schema.nullable === true) return null
  const reader = schemaReader(document, 'response')
  const root = reader.read(schema)
  const defs = reader.defs()
  // Only a help for clients, so a schema that cannot be shown is simply not shown.
  if (reader.problems.length > 0 || typeof root === 'boolean') return null
  return { ...root, ...(defs !== null && { $defs: defs }) }
}

export function isJsonType(type: string): boolean {
  return /^application\/([\w.-]+\+)?json\s*(;|$)/i.test(type.trim())
}

function described(schema: Json | boolean, description: unknown): Json | boolean {
  if (typeof schema === 'boolean' || typeof description !== 'string' || schema.description !== undefined) return schema
  return { ...schema, description: description.slice(0, 2_000) }
}

/** A name models' APIs accept as a property, not yet taken; null when there is none. */
function propertyName(wire: { name: string; in: string }, taken: Json): string | null {
  const plain = wire.name.replace(/[^A-Za-z0-9_.-]+/g, '_').slice(0, 64)
  return [plain, `${plain.slice(0, 57)}_${wire.in}`].find((name) => name !== '__proto__' && !(name in taken)) ?? null
}
