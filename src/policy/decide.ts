/**
 * The one decision about tools: may this account call this tool with these arguments. A list is filtered by the same
 * function, asked without arguments, so what is listed and what is callable cannot part.
 * @module
 */
import type { Account, Tool } from '../call.ts'
import { type Bindings, evaluate } from '../expr.ts'
import { firstMatch } from './glob.ts'
import type { CompiledPolicies, Rule } from './policies.ts'

export interface Question {
  /** The leaf; its chain of parents counts too. */
  readonly account: Account
  readonly tool: Tool
  /** null: may it be listed, that is, could some arguments be allowed. */
  readonly args: Readonly<Record<string, unknown>> | null
}

export interface Decision {
  readonly allowed: boolean
  /** `finance.yaml#allow[0]`, `finance.yaml#deny[1]`, `tools-list:<account id>` or `default-deny`. */
  readonly rule: string
  /** What a refused caller is told; null when allowed. */
  readonly reason: string | null
  readonly file: string | null
  readonly line: number | null
  /** `log`: allowed, but a rule on trial would have refused (see `wouldDeny`). */
  readonly mode: 'enforce' | 'log'
  /** The deny rule of a `mode: log` file that was met, for the caller to log. */
  readonly wouldDeny: Rule | null
}

/**
 * Decides. Pure.
 *
 * The answer is the intersection of what the roles allow and of every `tools` list from the leaf to the root. The
 * roles are those of the nearest account that has any; without any, the lists alone decide, and without lists too
 * there is nothing. A deny rule wins over everything, in whatever order the files are read; a condition that cannot be
 * evaluated refuses. Files with `mode: log` neither forbid nor grant.
 */
export function decide(policies: CompiledPolicies, question: Question): Decision {
  const { account, tool, args } = question
  const roles = rolesOf(account)
  const rules = rulesFor(policies, roles, tool.outward)
  let bindings: Bindings | null = null
  const holds = (rule: Rule, unknown: boolean, onError: boolean): boolean => {
    if (rule.when === null) return true
    if (args === null && rule.when.reads.has('args')) return unknown
    bindings ??= bind(question, roles)
    const value = evaluate(rule.when, bindings)
    return typeof value === 'boolean' ? value : onError
  }
  const wouldDeny = rules.trial.find((rule) => holds(rule, false, true)) ?? null
  const denied = rules.deny.find((rule) => holds(rule, false, true))
  if (denied !== undefined) return refused(denied, denied.reason ?? 'a rule denies it', wouldDeny)

  let list: Account | null = null
  for (let at: Account | null = account; at !== null; at = at.parent) {
    if (at.tools === null) continue
    if (firstMatch(at.tools, tool.outward) === -1) {
      return bare(false, `tools-list:${at.id}`, 'the tool is not in the tools list of the key', wouldDeny)
    }
    list ??= at
  }
  if (roles.length === 0) {
    return list === null
      ? bare(false, 'default-deny', 'the key has neither a role nor a tools list', wouldDeny)
      : bare(true, `tools-list:${list.id}`, null, wouldDeny)
  }
  const allowed = rules.allow.find((rule) => holds(rule, true, false))
  if (allowed !== undefined) {
    const mode = wouldDeny === null ? 'enforce' : 'log'
    const { id, file, line } = allowed
    return { allowed: true, rule: id, reason: null, file, line, mode, wouldDeny }
  }
  const near = rules.allow[0]
  return near === undefined
    ? bare(false, 'default-deny', 'no rule of its roles allows it', wouldDeny)
    : refused(near, 'the condition of the rule is not met', wouldDeny)
}

function refused(rule: Rule, reason: string, wouldDeny: Rule | null): Decision {
  const { id, file, line } = rule
  return { allowed: false, rule: id, reason, file, line, mode: 'enforce', wouldDeny }
}

function bare(allowed: boolean, rule: string, reason: string | null, wouldDeny: Rule | null): Decision {
  const mode = allowed && wouldDeny !== null ? 'log' : 'enforce'
  return { allowed, rule, reason, file: null, line: null, mode, wouldDeny }
}

const noRoles: readonly string[] = []

/** The roles of the nearest account in the chain that has any. */
export function rolesOf(account: Account): readonly string[] {
  for (let at: Account | null = account; at !== null; at = at.parent) if (at.roles.length > 0) return at.roles
  return noRoles
}

/** The rules that speak of one tool, conditions left open. */
interface ToolRules {
  readonly deny: readonly Rule[]
  readonly allow: readonly Rule[]
  /** Deny rules of files in `mode: log`. */
  readonly trial: readonly Rule[]
}

/**
 * Rules by roles and tool name. They depend on the policy snapshot alone, never on an account, so nothing has to be
 * forgotten when an account changes. Bounded because tool names come from servers.
 */
const memo = new WeakMap<CompiledPolicies, Map<string, Map<string, ToolRules>>>()
const maxRoleSets = 1024
const maxTools = 10_000

function rulesFor(policies: CompiledPolicies, roles: readonly string[], outward: string): ToolRules {
  let views = memo.get(policies)
  if (views === undefined) {
    views = new Map()
    memo.set(policies, views)
  }
  // Role names are free text, so a joined key must not be able to read like another set of roles.
  const key = roles.length === 1 ? `=${roles[0]}` : JSON.stringify(roles)
  let view = views.get(key)
  if (view === undefined) {
    if (views.size >= maxRoleSets) views.clear()
    view = new Map()
    views.set(key, view)
  }
  let rules = view.get(outward)
  if (rules === undefined) {
    if (view.size >= maxTools) view.clear()
    rules = select(policies, roles, outward)
    view.set(outward, rules)
  }
  return rules
}

function select(policies: CompiledPolicies, roles: readonly string[], outward: string): ToolRules {
  const deny: Rule[] = []
  const allow: Rule[] = []
  const trial: Rule[] = []
  for (const role of new Set([...roles, '*'])) {
    for (const policy of policies.byRole.get(role) ?? []) {
      const about = (rules: readonly Rule[]) => rules.filter((rule) => firstMatch(rule.tools, outward) !== -1)
      if (policy.mode === 'log') {
        trial.push(...about(policy.deny))
        continue
      }
      deny.push(...about(policy.deny))
      allow.push(...about(policy.allow))
    }
  }
  // Unconditional rules first: they answer without evaluating anything, and the answer does not depend on order.
  const plainFirst = (left: Rule, right: Rule) => Number(left.when !== null) - Number(right.when !== null)
  return { deny: deny.sort(plainFirst), allow: allow.sort(plainFirst), trial }
}

/**
 * What conditions see. A session is minted by its holder, who chooses its labels; so `caller` is the account that was
 * given the key, with the labels of its chain, and the session's own labels stand apart.
 */
function bind({ account, tool, args }: Question, roles: readonly string[]): Bindings {
  let holder: Account = account
  while (holder.kind === 'session' && holder.parent !== null) holder = holder.parent
  const labels: Record<string, string> = {}
  for (let at: Account | null = holder; at !== null; at = at.parent) Object.assign(labels, { ...at.labels, ...labels })
  const session = account.kind === 'session' ? account : null
  return {
    args: args ?? {},
    caller: { id: holder.id, kind: holder.kind, roles: [...roles], labels },
    session: { id: session?.id ?? null, labels: { ...session?.labels } },
    tool: { server: tool.server, name: tool.name, annotations: tool.definition.annotations ?? {} },
  }
}
