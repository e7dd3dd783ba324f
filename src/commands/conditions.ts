/** Conditions on arguments that no tool has, as faults with their place. @module */
import type { Tool } from '../call.ts'
import type { ConfigFault } from '../config/document.ts'
import { type UnknownField, unknownFields } from '../policy/fields.ts'
import { firstMatch } from '../policy/glob.ts'
import { policySchema, type Rule } from '../policy/policies.ts'
import { type Home, placeOf } from './home.ts'

/**
 * Judges what conditions read against the tools known from files. Where a tool that only a running gateway knows could
 * be the one that is meant, or another tool of the rule has the argument, it is a note; else it is a fault.
 */
export async function judgeConditions(
  home: Home,
): Promise<{ readonly faults: readonly ConfigFault[]; readonly notes: readonly string[] }> {
  const faults: ConfigFault[] = []
  const notes: string[] = []
  for (const missing of grouped(unknownFields(home.config.policy, home.tools))) {
    const { rule, field, tools } = missing
    const place = await placeOf(home.path, `policies/tools/${rule.file}`, policySchema, conditionPath(rule))
    const spoken = home.tools.filter((tool) => firstMatch(rule.tools, tool.outward) !== -1)
    const names = tools.map((tool) => tool.outward)
    const message = `the condition reads args.${field}, which ${some(names)} does not take${taken(tools)}`
    const isFault = tools.length === spoken.length && !home.unlisted.some((server) => couldMean(rule, server))
    if (isFault) faults.push({ ...place, message })
    else notes.push(`${place.file}:${place.line}:${place.column} ${message}`)
  }
  return { faults, notes }
}

interface Missing {
  readonly rule: Rule
  readonly field: string
  readonly tools: Tool[]
}

function grouped(found: readonly UnknownField[]): readonly Missing[] {
  const groups = new Map<string, Missing>()
  for (const { rule, tool, field } of found) {
    const key = `${rule.id} ${field}`
    const group = groups.get(key) ?? { rule, field, tools: [] }
    group.tools.push(tool)
    groups.set(key, group)
  }
  return [...groups.values()]
}

/** `finance.yaml#allow[0]` leads to its `when`. */
function conditionPath(rule: Rule): readonly PropertyKey[] {
  const [, list = '', index = ''] = /#(allow|deny)\[(\d+)\]$/.exec(rule.id) ?? []
  return [list, Number(index), 'when']
}

/** Whether a pattern could match some tool of a server, whatever its tools are called. */
function couldMean(rule: Rule, server: string): boolean {
  const stem = `${server}__`
  return rule.tools.some((pattern) => {
    const star = pattern.indexOf('*')
    if (star === -1) return pattern.startsWith(stem)
    const fixed = pattern.slice(0, star)
    return fixed.startsWith(stem) || stem.startsWith(fixed)
  })
}

function some(names: readonly string[]): string {
  return names.length <= 3 ? names.join(', ') : `${names.slice(0, 3).join(', ')} and ${names.length - 3} more`
}

function taken(tools: readonly Tool[]): string {
  const [only] = tools
  if (only === undefined || tools.length > 1) return ''
  const { properties } = (only.definition.inputSchema ?? {}) as { properties?: object }
  return `; it takes: ${Object.keys(properties ?? {}).join(', ') || 'nothing'}`
}
