/**
 * Conditions in CEL, compiled once and evaluated without side effects or unbounded work.
 *
 * Numbers: every JSON number is a double, as JSON makes no difference between `1` and `1.0`. Arithmetic between a
 * double and an integer literal is done in doubles (`args.amount + 1`, `args.total / 4`), `%` is defined for doubles
 * that hold whole numbers, and comparison and `in` compare by value across both. Between integer literals alone CEL's
 * own integer rules hold. A result that is not finite, and a division by zero, are errors: a NaN would otherwise
 * compare as false and slip past a deny rule. Where CEL wants an integer (`substring`, `timestamp`), write `int(args.n)`.
 * @module
 */
import { type CelInput, CelScalar, celEnv, celFunc, isCelError, parse, plan } from '@bufbuild/cel'
import { strings } from '@bufbuild/cel/ext'

/** A compiled condition. */
export interface Expr {
  readonly source: string
  /** The variables it reads. */
  readonly reads: ReadonlySet<string>
  /** First-level fields it reads, per variable: `args.amount` gives `amount` under `args`. */
  readonly fields: ReadonlyMap<string, ReadonlySet<string>>
  readonly run: (bindings: Bindings) => unknown
  /** How deep its macros (`all`, `exists`, `map`, ...) are nested. */
  readonly loops: number
  readonly splits: boolean
}

export type Bindings = Readonly<Record<string, unknown>>

/** Why a source text is not a condition. `column` counts from 1 within the text; `line` too. */
export interface ExprFault {
  readonly message: string
  readonly line: number
  readonly column: number
}

/** Evaluation failed: a missing field, a type that does not fit, too much work. */
export interface ExprError {
  readonly error: string
}

/** Steps a condition may take through lists and maps that a caller supplies. */
const maxSteps = 100_000
const maxSource = 4096

const { DOUBLE, INT, STRING } = CelScalar

function finite(value: number): number {
  if (!Number.isFinite(value)) throw new Error('the result is not a finite number')
  return value
}

function exact(value: bigint | number): number {
  const number = Number(value)
  if (typeof value === 'bigint' && !Number.isSafeInteger(number)) throw new Error('integer too large for arithmetic')
  return number
}

function remainder(left: number, right: number): number {
  if (!Number.isSafeInteger(left) || !Number.isSafeInteger(right)) throw new Error('% needs whole numbers')
  return finite(left % right)
}

const arithmetic: Readonly<Record<string, (left: number, right: number) => number>> = {
  '_+_': (left, right) => finite(left + right),
  '_-_': (left, right) => finite(left - right),
  '_*_': (left, right) => finite(left * right),
  '_/_': (left, right) => finite(left / right),
  '_%_': remainder,
}

const numbers = Object.entries(arithmetic).flatMap(([name, apply]) => [
  celFunc(name, [DOUBLE, DOUBLE], DOUBLE, apply),
  celFunc(name, [DOUBLE, INT], DOUBLE, (left, right) => apply(left, exact(right))),
  celFunc(name, [INT, DOUBLE], DOUBLE, (left, right) => apply(exact(left), right)),
])

/** The built-in conversion takes "NaN" and "Infinity", which compare as false or beat every limit. */
const toDouble = celFunc('double', [STRING], DOUBLE, (text) => {
  if (!/^[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$/.test(text)) throw new Error('not a number')
  return finite(Number(text))
})

// `matches` keeps the library's own engine, which is linear in the text.
const environment = celEnv({ funcs: [...strings, ...numbers, toDouble] })

/** Names CEL itself gives to types. */
const typeNames = new Set(['int', 'uint', 'double', 'bool', 'string', 'bytes', 'list', 'map', 'null_type', 'type'])

type Node = NonNullable<ReturnType<typeof parse>['expr']>

/**
 * Compiles a condition.
 *
 * Beside syntax, unknown variables and functions are refused, and regular expressions that are written out.
 *
 * @param options.variables every name the text may use
 */
export function compileExpr(source: string, options: { readonly variables: readonly string[] }): Expr | ExprFault {
  if (source.length > maxSource) return { message: `longer than ${maxSource} characters`, line: 1, column: 1 }
  let parsed: ReturnType<typeof parse>
  try {
    parsed = parse(source)
  } catch (error) {
    return syntaxFault(error)
  }
  const found: Found = { reads: new Set(), fields: new Map(), loops: 0, splits: false, problems: [] }
  visit(parsed.expr, { names: new Set(options.variables), depth: 0, found })
  const problem = found.problems[0]
  if (problem !== undefined) {
    const at = Number(parsed.sourceInfo?.positions[String(problem.id)] ?? 0)
    const before = source.slice(0, at).split('\n')
    return { message: problem.message, line: before.length, column: (before.at(-1)?.length ?? 0) + 1 }
  }
  let run: ReturnType<typeof plan>
  try {
    run = plan(environment, parsed)
  } catch (error) {
    return { message: error instanceof Error ? error.message : 'cannot be evaluated', line: 1, column: 1 }
  }
  return Object.freeze({
    source,
    reads: found.reads,
    fields: found.fields,
    loops: found.loops,
    splits: found.splits,
    run: (bindings: Bindings) => run(bindings as Record<string, CelInput>),
  })
}

/**
 * Evaluates a condition. Whoever asks decides what an error means; refuse then: an allow counts as not met
 * (`!== true`), a deny as met (`!== false`).
 *
 * @param bindings JSON values for the variables it was compiled with
 * @returns an error value also where the condition yields something else than true or false
 */
export function evaluate(expr: Expr, bindings: Bindings): boolean | ExprError {
  if (expr.loops > 0 && widest(bindings, expr.splits) ** expr.loops > maxSteps) {
    return { error: 'the arguments are too large to be checked' }
  }
  const value = expr.run(bindings)
  if (typeof value === 'boolean') return value
  return { error: isCelError(value) ? value.message : 'the condition is neither true nor false' }
}

interface Found {
  readonly reads: Set<string>
  readonly fields: Map<string, Set<string>>
  loops: number
  splits: boolean
  readonly problems: { readonly id: bigint; readonly message: string }[]
}

interface Scope {
  readonly names: ReadonlySet<string>
  readonly depth: number
  readonly found: Found
  /** Names bound by a macro: they hide variables. */
  readonly bound?: ReadonlySet<string>
}

function visit(node: Node | undefined, scope: Scope): void {
  if (node === undefined) return
  const { found } = scope
  const kind = node.exprKind
  const all = (nodes: readonly (Node | undefined)[], inner = scope) => {
    for (const each of nodes) visit(each, inner)
  }
  switch (kind.case) {
    case 'identExpr': {
      const name = kind.value.name
      if (scope.bound?.has(name) === true || typeNames.has(name)) return
      if (!scope.names.has(name)) {
        const known = [...scope.names].join(', ')
        found.problems.push({ id: node.id, message: `unknown variable "${name}"; there are ${known}` })
      }
      found.reads.add(name)
      return
    }
    case 'selectExpr': {
      const owner = kind.value.operand
      if (owner?.exprKind.case === 'identExpr' && scope.bound?.has(owner.exprKind.value.name) !== true) {
        const name = owner.exprKind.value.name
        const fields = found.fields.get(name) ?? new Set()
        found.fields.set(name, fields.add(kind.value.field))
      }
      visit(owner, scope)
      return
    }
    case 'callExpr': {
      const { function: name, target, args } = kind.value
      if (/^[A-Za-z]/.test(name) && environment.funcs.find(name) === undefined) {
        found.problems.push({ id: node.id, message: `unknown function "${name}"` })
      }
      if (name === 'split') found.splits = true
      if (name === 'matches') checkPattern(args.at(-1), found)
      all(target === undefined ? args : [target, ...args])
      return
    }
    case 'listExpr':
      all(kind.value.elements)
      return
    case 'structExpr':
      if (kind.value.messageName !== '') {
        found.problems.push({ id: node.id, message: `unknown type "${kind.value.messageName}"` })
      }
      for (const { keyKind, value } of kind.value.entries) {
        all([keyKind.case === 'mapKey' ? keyKind.value : undefined, value])
      }
      return
    case 'comprehensionExpr': {
      const { iterVar, iterVar2, accuVar, iterRange, accuInit, loopCondition, loopStep, result } = kind.value
      const bound = new Set([...(scope.bound ?? []), iterVar, iterVar2, accuVar])
      const depth = scope.depth + 1
      found.loops = Math.max(found.loops, depth)
      all([iterRange, accuInit])
      all([loopCondition, loopStep, result], { ...scope, bound, depth })
      return
    }
    default:
      return
  }
}

/** A written-out pattern that does not compile would make its rule fail at every call; say so at load. */
function checkPattern(node: Node | undefined, found: Found): void {
  if (node?.exprKind.case !== 'constExpr') return
  const constant = node.exprKind.value.constantKind
  if (constant.case !== 'stringValue') return
  const result = plan(environment, parse('"".matches(p)'))({ p: constant.value })
  if (isCelError(result)) found.problems.push({ id: node.id, message: `invalid regular expression: ${result.message}` })
}

/** The size of the largest list or map (and, where texts are split, of the longest text). */
function widest(value: unknown, texts: boolean): number {
  if (typeof value === 'string') return texts ? value.length : 0
  if (typeof value !== 'object' || value === null) return 0
  const members = Array.isArray(value) ? value : Object.values(value)
  let found = members.length
  for (const member of members) found = Math.max(found, widest(member, texts))
  return found
}

/** The parser's own error carries a message and a place; anything else is told as it is. */
function syntaxFault(error: unknown): ExprFault {
  const shape = error as {
    rawMessage?: unknown
    message?: unknown
    location?: { start?: { line?: unknown; column?: unknown } }
  }
  const start = shape.location?.start
  return {
    message: `syntax error: ${String(shape.rawMessage ?? shape.message)}`,
    line: typeof start?.line === 'number' ? start.line : 1,
    column: typeof start?.column === 'number' ? start.column : 1,
  }
}
