/** One YAML file: text to a checked value, and every complaint with the line and column it is about. @module */
import { type Document, isMap, isScalar, LineCounter, type Node, type Pair, parseDocument } from 'yaml'
import { z } from 'zod'
import { nearest } from './nearest.ts'

/** What is wrong with a file, and where. Lines and columns count from 1. */
export interface ConfigFault {
  /** Relative to the home folder. */
  readonly file: string
  readonly line: number
  readonly column: number
  readonly message: string
}

/** `file:line:column message`, as compilers write it, so that editors can jump there. */
export function describeFault({ file, line, column, message }: ConfigFault): string {
  return `${file}:${line}:${column} ${message}`
}

export type Path = readonly PropertyKey[]

/** A value that passed its schema, with the places of its parts. */
export interface Read<T> {
  readonly value: T
  /** Where a part (or its key) stands, or the nearest part around it that is there. */
  readonly at: (path: Path, part?: 'value' | 'key') => { readonly line: number; readonly column: number }
}

/** Far above any file people write; keeps a mistaken path from being read into memory as configuration. */
export const maxFileBytes = 1024 * 1024

/**
 * Parses YAML 1.2 and checks it against a schema.
 *
 * Refused: bad syntax, duplicate keys, more than one document, unknown tags, aliases that expand to a multiple of the
 * text, unknown keys, a file without a byte of text (an editor may be writing it right now).
 *
 * @param empty what a file with nothing but comments means; undefined where that is a mistake
 */
export function readDocument<T>(
  file: string,
  text: string,
  schema: z.ZodType<T>,
  empty?: unknown,
): Read<T> | { readonly faults: readonly ConfigFault[] } {
  const lines = new LineCounter()
  const place = (offset: number) => {
    const { line, col } = lines.linePos(offset)
    return { line: Math.max(1, line), column: Math.max(1, col) }
  }
  const one = (message: string) => ({ faults: [{ file, line: 1, column: 1, message }] })
  if (text.trim() === '') return one('the file is empty')
  if (text.length > maxFileBytes) return one(`larger than ${maxFileBytes} bytes`)
  const document = parseDocument(text, { version: '1.2', lineCounter: lines, prettyErrors: false, uniqueKeys: true })
  // What the parser only warns about (an unknown tag) would be read as something else than was meant.
  const complaints = [...document.errors, ...document.warnings]
  if (complaints.length > 0) {
    return { faults: complaints.map(({ pos, message }) => ({ file, ...place(pos[0]), message })) }
  }
  let raw: unknown
  try {
    raw = document.toJS({ maxAliasCount: 100 }) ?? empty
  } catch (error) {
    return one(error instanceof Error ? error.message : 'cannot be read')
  }
  const result = schema.safeParse(raw)
  if (result.success) return { value: result.data, at: (path, part) => place(offsetOf(document, path, part === 'key')) }
  const known = knownKeys(schema)
  const issues = result.error.issues.flatMap(flatten)
  const renamed = new Set<string>()
  const faults: ConfigFault[] = []
  for (const issue of issues) {
    if (issue.code !== 'unrecognized_keys') continue
    for (const key of issue.keys) {
      const suggestion = nearest(key, known(issue.path))
      if (suggestion !== null) renamed.add([...issue.path, suggestion].join('\n'))
      const hint = suggestion === null ? '' : `; did you mean "${suggestion}"?`
      const where = place(offsetOf(document, [...issue.path, key], true))
      faults.push({ file, ...where, message: `unknown key "${key}"${hint}` })
    }
  }
  for (const issue of issues) {
    // A misspelt key is one mistake, not also a missing one.
    if (issue.code === 'unrecognized_keys' || renamed.has(issue.path.join('\n'))) continue
    faults.push({ file, ...place(offsetOf(document, issue.path)), message: wording(issue) })
  }
  return { faults: faults.sort((a, b) => a.line - b.line || a.column - b.column) }
}

type Issue = z.core.$ZodIssue

/** A union's own issue says nothing; the alternative that came furthest says what was meant. */
function flatten(issue: Issue): Issue[] {
  if (issue.code !== 'invalid_union' || issue.errors.length === 0) return [issue]
  const depth = (issues: readonly Issue[]) => Math.max(...issues.map(({ path }) => path.length))
  const best = issue.errors.reduce((a, b) => (depth(b) > depth(a) ? b : a))
  return best.map((inner) => ({ ...inner, path: [...issue.path, ...inner.path] }) as Issue).flatMap(flatten)
}

function wording(issue: Issue): string {
  const name = issue.path.map(String).join('.')
  if (issue.message.endsWith('received undefined')) return `${name} is missing`
  const text = issue.message.replace(/^Invalid input: /, '').replace(/^Invalid /, 'invalid ')
  return name === '' ? text : `${name}: ${text}`
}

/** Offset of the value at a path (or of its key), else of the closest part around it. */
function offsetOf(document: Document, path: Path, key = false): number {
  for (let length = path.length; length >= 0; length--) {
    const part = path.slice(0, length)
    const pair = pairAt(document, part)
    // A value that is missing (`to:` with nothing behind) has no place of its own; its key has.
    const node =
      pair === null ? (document.getIn(part, true) as Node | undefined) : key ? pair.key : (pair.value ?? pair.key)
    const range = (node as Node | undefined)?.range
    if (range) return range[0]
  }
  return 0
}

function pairAt(document: Document, path: Path): Pair<Node, Node | null> | null {
  if (path.length === 0) return null
  const parent = path.length === 1 ? document.contents : document.getIn(path.slice(0, -1), true)
  if (!isMap(parent)) return null
  const name = String(path.at(-1))
  const pair = parent.items.find(({ key }) => isScalar(key) && String(key.value) === name)
  return (pair as Pair<Node, Node | null> | undefined) ?? null
}

interface SchemaNode {
  readonly properties?: Readonly<Record<string, SchemaNode>>
  readonly additionalProperties?: SchemaNode | boolean
  readonly items?: SchemaNode
  readonly anyOf?: readonly SchemaNode[]
  readonly oneOf?: readonly SchemaNode[]
}

/** The keys a schema knows at a path, read from its JSON Schema; only worked out once something is wrong. */
function knownKeys(schema: z.ZodType): (path: Path) => readonly string[] {
  const root = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any', reused: 'inline' }) as SchemaNode
  const spread = (node: SchemaNode): readonly SchemaNode[] => {
    const branches = [...(node.anyOf ?? []), ...(node.oneOf ?? [])]
    return branches.length === 0 ? [node] : branches.flatMap(spread)
  }
  return (path) => {
    let nodes = spread(root)
    for (const step of path) {
      nodes = nodes.flatMap((node) => {
        const rest = typeof node.additionalProperties === 'object' ? node.additionalProperties : undefined
        const next = typeof step === 'number' ? node.items : (node.properties?.[String(step)] ?? rest)
        return next === undefined ? [] : spread(next)
      })
    }
    return [...new Set(nodes.flatMap((node) => Object.keys(node.properties ?? {})))]
  }
}
