/**
 * From a tool's arguments to one HTTP request. Pure. The one promise: whatever the arguments, the request lands on the
 * operation's own path at the operation's own origin, with one value per name. What cannot be written so is refused;
 * percent-encoding alone would not do, since `..` has nothing in it to encode (compare CVE-2026-32871).
 * @module
 */
import { Fault, fault } from '../fault.ts'

/** A piece of a path segment: literal text, or a parameter by its wire name. */
export type Piece = string | { readonly parameter: string }

export interface Parameter {
  /** The argument's name in the tool's input schema. */
  readonly property: string
  /** The name on the wire. */
  readonly name: string
  readonly in: 'path' | 'query' | 'header' | 'cookie'
  readonly style: 'simple' | 'form' | 'spaceDelimited' | 'pipeDelimited' | 'deepObject'
  readonly explode: boolean
  /** The value travels as JSON text (`content` instead of `schema`). */
  readonly json: boolean
}

/** All that is fixed about an operation's request. */
export interface RequestPlan {
  readonly method: string
  /** Segments of the template below the base path, each a row of pieces. */
  readonly segments: readonly (readonly Piece[])[]
  readonly parameters: readonly Parameter[]
  /** Content type of the JSON body taken from the argument `body`, or null. */
  readonly bodyType: string | null
}

export interface HttpRequest {
  readonly method: string
  readonly url: string
  /** Name, value, name, value... */
  readonly headers: readonly string[]
  readonly body: string | null
}

type Arguments = Readonly<Record<string, unknown>>
type Primitive = string | number | boolean

const longestUrl = 8_192

/**
 * @param base origin and path prefix, without query; decides where the request goes, whatever the document says
 * @param args already valid against the tool's input schema
 * @returns the request without its credential, or an `invalid_request` fault naming the argument
 */
export function buildRequest(base: URL, plan: RequestPlan, args: Arguments): HttpRequest | Fault {
  const path = buildPath(base, plan, args)
  if (path instanceof Fault) return path
  const query: string[] = []
  const headers: string[] = ['accept', 'application/json, text/*;q=0.9, */*;q=0.5']
  const cookies: string[] = []
  for (const parameter of plan.parameters) {
    const value = own(args, parameter.property)
    if (value === undefined || parameter.in === 'path') continue
    const fault =
      parameter.in === 'query'
        ? addQuery(query, parameter, value)
        : parameter.in === 'header'
          ? addHeader(headers, parameter, value)
          : addCookie(cookies, parameter, value)
    if (fault !== null) return fault
  }
  if (cookies.length > 0) headers.push('cookie', cookies.join('; '))
  const content = plan.bodyType === null ? undefined : own(args, 'body')
  if (content !== undefined) headers.push('content-type', plan.bodyType as string)
  const url = landing(base, path, query)
  if (url instanceof Fault) return url
  return { method: plan.method, url, headers, body: content === undefined ? null : JSON.stringify(content) }
}

function own(args: Arguments, name: string): unknown {
  return Object.hasOwn(args, name) ? args[name] : undefined
}

function buildPath(base: URL, plan: RequestPlan, args: Arguments): string | Fault {
  const parameters = new Map(plan.parameters.filter((one) => one.in === 'path').map((one) => [one.name, one]))
  let path = base.pathname.replace(/\/+$/, '')
  for (const pieces of plan.segments) {
    let segment = ''
    for (const piece of pieces) {
      if (typeof piece === 'string') {
        segment += piece
        continue
      }
      const parameter = parameters.get(piece.parameter)
      const text = parameter === undefined ? null : pathText(parameter, own(args, parameter.property))
      if (text === null) return refuse(piece.parameter, 'is needed in the path')
      if (text instanceof Fault) return text
      segment += text
    }
    path += `/${segment}`
  }
  return path === '' ? '/' : path
}

/** The encoded text of a path value, which stays inside its one segment under every reading of it. */
function pathText(parameter: Parameter, value: unknown): string | Fault | null {
  if (value === undefined) return null
  const items = parameter.json ? [JSON.stringify(value)] : Array.isArray(value) ? value : [value]
  const texts: string[] = []
  for (const item of items) {
    const text = primitive(item)
    if (text === null)
      return refuse(parameter.property, 'must be a text, number or boolean (or an array of them) in a path')
    const why = strayPath(text)
    if (why !== null) return refuse(parameter.property, why)
    if (items.length > 1 && text.includes(',')) return refuse(parameter.property, 'must not have a comma in its items')
    texts.push(encode(text))
  }
  return texts.length === 0 ? refuse(parameter.property, 'must not be empty in a path') : texts.join(',')
}

/** Why a value could be read as more than one path segment, or null. */
function strayPath(text: string): string | null {
  if (text === '') return 'must not be empty in a path'
  if (!text.isWellFormed()) return 'must be well-formed Unicode'
  // A server that folds compatibility forms would read a full-width slash or dot as a plain one.
  for (const form of [text, text.normalize('NFKC')]) {
    if (/[/\\]/.test(form)) return 'must not contain "/" or "\\" in a path'
    if (isDots(form)) return 'must not be "." or ".." in a path'
    if (hasControl(form)) return 'must not contain control characters in a path'
    // Would be a separator, a dot or a control character again after a second decoding.
    if (/%[0-9a-f]{2}/i.test(form)) return 'must not contain percent-encoded characters in a path'
    // "..;x" is ".." to servers that cut path parameters off.
    if (form.includes(';')) return 'must not contain ";" in a path'
  }
  return null
}

function isDots(text: string): boolean {
  return /^(\.|%2e){1,2}$/i.test(text)
}

function hasControl(text: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  return /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/.test(text)
}

function addQuery(query: string[], parameter: Parameter, value: unknown): Fault | null {
  const name = encode(parameter.name)
  const add = (key: string, text: string): null => {
    query.push(`${key}=${encode(text)}`)
    return null
  }
  if (parameter.json) return wellFormed(parameter, JSON.stringify(value)) ?? add(name, JSON.stringify(value))
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
  if (isObject) return addObject(query, parameter, value)
  if (parameter.style === 'deepObject') return refuse(parameter.property, 'must be an object')
  if (Array.isArray(value)) {
    const texts = listText(parameter, value)
    if (texts instanceof Fault) return texts
    if (texts.length === 0) return null
    if (parameter.style === 'form' && parameter.explode) {
      for (const text of texts) add(name, text)
      return null
    }
    return joined(parameter, texts, (list) => query.push(`${name}=${list}`))
  }
  const text = primitive(value)
  if (text === null) return refuse(parameter.property, 'null cannot be written in a URL; leave the argument out')
  return wellFormed(parameter, text) ?? add(name, text)
}

/** Writes a list with its delimiter between the encoded items; an item that contains it would read as two. */
function joined(parameter: Parameter, texts: readonly string[], write: (list: string) => void): Fault | null {
  const [plain, encoded] =
    parameter.style === 'pipeDelimited'
      ? ['|', '%7C']
      : parameter.style === 'spaceDelimited'
        ? [' ', '%20']
        : [',', ',']
  if (texts.some((text) => text.includes(plain))) {
    return refuse(parameter.property, `must not have "${plain}" in its items`)
  }
  write(texts.map(encode).join(encoded))
  return null
}

function addObject(query: string[], parameter: Parameter, value: object): Fault | null {
  const name = encode(parameter.name)
  const flat: string[] = []
  for (const [key, item] of Object.entries(value)) {
    const text = primitive(item)
    if (text === null || !/^[A-Za-z0-9_.-]+$/.test(key)) {
      return refuse(parameter.property, 'must have plain keys with text, number or boolean values')
    }
    const stray = wellFormed(parameter, text)
    if (stray !== null) return stray
    if (parameter.style === 'deepObject') query.push(`${name}%5B${encode(key)}%5D=${encode(text)}`)
    else flat.push(key, text)
  }
  if (parameter.style === 'deepObject' || flat.length === 0) return null
  // Spread out, each key would become a parameter of its own and could stand in for another one.
  if (parameter.explode) return refuse(parameter.property, 'must not be an object')
  return joined(parameter, flat, (list) => query.push(`${name}=${list}`))
}

function addHeader(headers: string[], parameter: Parameter, value: unknown): Fault | null {
  const texts = parameter.json ? [JSON.stringify(value)] : listText(parameter, Array.isArray(value) ? value : [value])
  if (texts instanceof Fault) return texts
  if (texts.length === 0) return null
  if (texts.length > 1 && texts.some((text) => text.includes(','))) {
    return refuse(parameter.property, 'must not have "," in its items')
  }
  const text = texts.join(',')
  if (!/^[\x20-\x7e]*$/.test(text) || text !== text.trim()) {
    return refuse(parameter.property, 'must be printable ASCII without spaces at its ends: it travels in a header')
  }
  headers.push(parameter.name.toLowerCase(), text)
  return null
}

function addCookie(cookies: string[], parameter: Parameter, value: unknown): Fault | null {
  const text = primitive(value)
  // cookie-octet of RFC 6265 section 4.1.1
  if (text === null || !/^[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*$/.test(text)) {
    return refuse(
      parameter.property,
      'must be printable ASCII without space, quote, comma, ";" and "\\": it travels in a cookie',
    )
  }
  cookies.push(`${parameter.name}=${text}`)
  return null
}

function listText(parameter: Parameter, items: readonly unknown[]): string[] | Fault {
  const texts: string[] = []
  for (const item of items) {
    const text = primitive(item)
    if (text === null) return refuse(parameter.property, 'must hold only texts, numbers and booleans')
    const stray = wellFormed(parameter, text)
    if (stray !== null) return stray
    texts.push(text)
  }
  return texts
}

function wellFormed(parameter: Parameter, text: string): Fault | null {
  return text.isWellFormed() ? null : refuse(parameter.property, 'must be well-formed Unicode')
}

function primitive(value: unknown): string | null {
  if (typeof value === 'string') return value
  if (typeof value === 'boolean') return String(value satisfies Primitive)
  return typeof value === 'number' && Number.isFinite(value) ? String(value) : null
}

/** Percent-encodes everything but the unreserved characters of RFC 3986. */
function encode(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)
}

/** Reads the URL back the way the connection will, and refuses one that came out different from what was built. */
function landing(base: URL, path: string, query: readonly string[]): string | Fault {
  const text = `${base.origin}${path}${query.length === 0 ? '' : `?${query.join('&')}`}`
  if (text.length > longestUrl) return refuse('arguments', `make a URL longer than ${longestUrl} characters`)
  const url = new URL(text)
  const search = query.length === 0 ? '' : `?${query.join('&')}`
  if (url.origin !== base.origin || url.pathname !== path || url.search !== search || url.hash !== '') {
    return refuse('arguments', 'would leave the path of the operation')
  }
  return text
}

function refuse(name: string, why: string): Fault {
  return fault({ code: 'invalid_request', where: `argument "${name}"`, why })
}
