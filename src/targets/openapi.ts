/** An HTTP API behind an OpenAPI document: each operation is a tool. @module */
import { type Schema, Validator } from '@cfworker/json-schema'
import type { Invocation, ServerState, Target, Tool, ToolOutcome } from '../call.ts'
import { authHeader } from '../credentials/schemes.ts'
import { explain, Fault, fault } from '../fault.ts'
import type { TargetDeps } from './deps.ts'
import { maxAnswerBytes, toolResult } from './openapi-answer.ts'
import { readSpec } from './openapi-document.ts'
import { importOperations, type Operation } from './openapi-operations.ts'
import { buildRequest } from './openapi-request.ts'
import type { OpenapiRow } from './openapi-row.ts'
import type { Json } from './openapi-schema.ts'

interface Callable {
  readonly operation: Operation
  readonly input: Validator
  readonly output: Validator | null
}

/**
 * @param id the server id, prefix of its tools
 * @returns a target without tools until the first `refresh`, which reads the document; the service itself is only
 *   contacted by calls
 */
export function openapiTarget(id: string, row: OpenapiRow, deps: TargetDeps): Target {
  let status: ServerState['status'] = row.disabled ? 'disabled' : 'starting'
  let lastFailure: string | null = null
  let tools: readonly Tool[] = []
  let callables: ReadonlyMap<string, Callable> = new Map()
  const base = new URL(row.base_url)

  function failed(why: string): void {
    lastFailure = why
    // What was read before still holds.
    status = tools.length > 0 ? 'unstable' : 'error'
    deps.log.warn({ server: id, why }, 'tool server not read')
  }

  async function refresh(): Promise<void> {
    if (row.disabled) return
    if (base.search !== '') return failed('base_url must not have a query')
    const read = await readSpec(row.spec, row.allow_private, deps)
    if ('why' in read) return failed(read.why)
    const imported = importOperations(read.document, { ...row, credentialHeader: credentialName(row) })
    if ('why' in imported) return failed(imported.why)
    for (const { operation, why } of imported.refused) {
      deps.log.warn({ server: id, operation, why }, 'operation left out')
    }
    callables = new Map(imported.operations.map((operation) => [operation.name, callable(operation)]))
    tools = Object.freeze(
      imported.operations.map(({ name, definition }) => ({ server: id, name, outward: `${id}__${name}`, definition })),
    )
    status = 'healthy'
    lastFailure = tools.length > 0 ? null : 'no operation of the document can be used'
    const credential = readCredential(row, deps)
    if (credential instanceof Fault) {
      status = 'needs_auth'
      lastFailure = explain(credential.body)
    }
  }

  function noticed(outcome: Fault | null): void {
    if (status === 'disabled') return
    status = outcome === null ? 'healthy' : 'unstable'
    lastFailure = outcome === null ? null : explain(outcome.body)
  }

  async function call(invocation: Invocation): Promise<ToolOutcome> {
    const found = callables.get(invocation.tool.name)
    if (row.disabled || found === undefined) {
      return { fault: fault({ code: 'tool_not_found', tool: invocation.tool.outward }) }
    }
    const why = judge(found, invocation.args)
    if (why !== null) return { result: refusal(why) }
    const request = buildRequest(base, found.operation.plan, invocation.args)
    if (request instanceof Fault) return { result: refusal(explain(request.body)) }
    const credential = readCredential(row, deps, id)
    if (credential instanceof Fault) return { fault: credential }
    const answer = await deps.egress.fetch({
      url: request.url,
      method: request.method,
      headers: credential === null ? request.headers : [...request.headers, ...credential.header],
      ...(request.body !== null && { body: request.body }),
      maxBytes: maxAnswerBytes,
      overflow: 'cut',
      timeoutMs: Math.min(invocation.timeoutMs, row.timeoutMs),
      allowPrivate: row.allow_private,
      signal: invocation.signal,
      upstream: id,
    })
    if (answer instanceof Fault) {
      if (!invocation.signal.aborted) noticed(answer)
      return { fault: answer }
    }
    noticed(null)
    const { output } = found
    const fits = output === null ? null : (value: Json) => isValid(output, value)
    return {
      result: toolResult(answer, { secrets: credential?.secrets ?? [], fits, now: deps.clock.now() }),
    }
  }

  return {
    id,
    kind: 'openapi',
    state: () => ({ status, lastFailure, era: null, tools: tools.length }),
    tools: () => tools,
    refresh,
    call,
    // Connections belong to egress; there is nothing else to let go of.
    close: async () => {},
  }
}

function callable(operation: Operation): Callable {
  // The validator marks the schemas it is given, so it gets copies.
  const validator = (schema: Json) => new Validator(structuredClone(schema) as Schema, '2020-12')
  return {
    operation,
    input: validator(operation.inputSchema),
    output: operation.outputSchema === null ? null : validator(operation.outputSchema),
  }
}

/** Why the arguments do not fit, in words a model can act on, or null. Nothing is coerced. */
function judge(found: Callable, args: Json): string | null {
  let result: ReturnType<Validator['validate']>
  try {
    result = found.input.validate(args)
  } catch {
    // A schema that refers to itself without end cannot judge anything.
    return 'The arguments cannot be judged by the schema of this operation.'
  }
  if (result.valid) return null
  // Errors run from the outside in; the last one is the cause.
  const cause = result.errors.at(-1)
  const place = (cause?.instanceLocation ?? '#').replace(/^#\/?/, '').replaceAll('/', '.')
  const where = place === '' ? 'The arguments' : `The argument "${place}"`
  if (cause?.keyword === 'false') {
    const known = Object.keys((found.operation.inputSchema.properties ?? {}) as Json).join(', ')
    return `${where} is not known${place.includes('.') ? ' there' : `; this tool takes: ${known || 'none'}`}.`
  }
  return `${where}: ${cause?.error ?? 'do not fit the schema'}`
}

function isValid(validator: Validator, value: Json): boolean {
  try {
    return validator.validate(value).valid
  } catch {
    return false
  }
}

function refusal(why: string): Json {
  return { content: [{ type: 'text', text: why }], isError: true }
}

function credentialName(row: OpenapiRow): string | null {
  if (row.auth.kind === 'none') return null
  return row.auth.kind === 'bearer' ? 'authorization' : row.auth.name.toLowerCase()
}

/** Read at each call, so that a changed secret file counts at once. */
function readCredential(
  row: OpenapiRow,
  deps: TargetDeps,
  id = 'credential',
): { readonly header: readonly [string, string]; readonly secrets: readonly string[] } | Fault | null {
  try {
    const header = authHeader(row.auth, deps.secret)
    if (header === null || row.auth.kind === 'none') return null
    return { header, secrets: [deps.secret(row.auth.secret)] }
  } catch {
    const why = row.auth.kind === 'none' ? 'no credential' : `its credential ${row.auth.secret} is not there`
    return fault({ code: 'upstream_error', upstream: id, status: null, why, unsent: true })
  }
}
