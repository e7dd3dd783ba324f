/** Reads an OpenAPI document from a file or an https URL and checks it. Nothing it refers to is fetched. @module */
import { readFile, stat } from 'node:fs/promises'
import path from 'node:path'
import { compileErrors, validate } from '@readme/openapi-parser'
import { parseDocument } from 'yaml'
import { explain, Fault } from '../fault.ts'
import type { TargetDeps } from './deps.ts'
import { asRecord, type Json } from './openapi-schema.ts'

const maxBytes = 4 * 1024 * 1024
const fetchTimeoutMs = 10_000
const checkTimeoutMs = 5_000

/**
 * @param location a path (relative to `home`) or an https URL
 * @returns the document as it stands, references unresolved, or why it cannot be used
 */
export async function readSpec(
  location: string,
  allowPrivate: readonly string[],
  deps: Pick<TargetDeps, 'egress' | 'home'>,
): Promise<{ readonly document: Json } | { readonly why: string }> {
  const read = await readText(location, allowPrivate, deps)
  if ('why' in read) return read
  const judged = await judge(read.text)
  if (!('why' in judged)) return judged
  // What was fetched is not repeated to whoever reads the state: an address can be a probe.
  const why = isRemote(location)
    ? 'is not a valid OpenAPI 3.0 or 3.1 document; a copy in a file tells where'
    : judged.why
  return { why: `${location}: ${why}` }
}

async function judge(text: string): Promise<{ readonly document: Json } | { readonly why: string }> {
  const parsed = parse(text)
  if ('why' in parsed) return parsed
  const version = parsed.document.openapi
  if (typeof version !== 'string' || !/^3\.[01]\.\d/.test(version))
    return { why: 'only OpenAPI 3.0 and 3.1 are understood' }
  const why = await check(parsed.document)
  return why === null ? parsed : { why }
}

function isRemote(location: string): boolean {
  return location.startsWith('https://')
}

async function readText(
  location: string,
  allowPrivate: readonly string[],
  deps: Pick<TargetDeps, 'egress' | 'home'>,
): Promise<{ readonly text: string } | { readonly why: string }> {
  if (isRemote(location)) {
    const answer = await deps.egress.fetch({
      url: location,
      headers: ['accept', 'application/json, application/yaml, text/yaml, */*;q=0.5'],
      maxBytes,
      timeoutMs: fetchTimeoutMs,
      maxRedirects: 3,
      allowPrivate,
    })
    if (answer instanceof Fault) return { why: explain(answer.body) }
    if (answer.status !== 200) return { why: `${location} answered with status ${answer.status}` }
    return { text: answer.body.toString('utf8') }
  }
  const file = path.resolve(deps.home, location)
  try {
    const { size } = await stat(file)
    if (size > maxBytes) return { why: `${location} is larger than ${maxBytes} bytes` }
    return { text: await readFile(file, 'utf8') }
  } catch (error) {
    return { why: `${location} cannot be read (${(error as NodeJS.ErrnoException).code ?? 'error'})` }
  }
}

/** JSON is YAML, so one parser reads both. Aliases are bounded: nested ones unfold exponentially. */
function parse(text: string): { readonly document: Json } | { readonly why: string } {
  try {
    const document = parseDocument(text, { schema: 'core', uniqueKeys: true, logLevel: 'error', prettyErrors: true })
    const first = document.errors[0]
    if (first !== undefined) return { why: first.message.split('\n')[0] as string }
    const value = asRecord(document.toJS({ maxAliasCount: 100 }))
    return value === null ? { why: 'the document is not an object' } : { document: value }
  } catch (error) {
    return { why: error instanceof Error ? (error.message.split('\n')[0] as string) : 'the document cannot be parsed' }
  }
}

async function check(document: Json): Promise<string | null> {
  try {
    // The validator resolves references in place; ours must stay as they are.
    const result = await validate(structuredClone(document) as unknown as Parameters<typeof validate>[0], {
      resolve: { external: false, file: false },
      dereference: { circular: 'ignore' },
      timeoutMs: checkTimeoutMs,
      validate: { rules: { openapi: { 'array-without-items': 'warning', 'duplicate-operation-id': 'warning' } } },
    })
    return result.valid ? null : brief(compileErrors(result))
  } catch (error) {
    return brief(error instanceof Error ? error.message : 'the document cannot be checked')
  }
}

function brief(message: string): string {
  return message.replace(/\s+/g, ' ').trim().slice(0, 500)
}
