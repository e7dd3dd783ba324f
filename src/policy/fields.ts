/** Conditions held against the tools they speak of: a misspelt argument would refuse every call in silence. @module */
import type { Tool } from '../call.ts'
import { firstMatch } from './glob.ts'
import type { CompiledPolicies, Rule } from './policies.ts'

/** A condition reads an argument that the tool does not declare. */
export interface UnknownField {
  readonly rule: Rule
  readonly tool: Tool
  readonly field: string
}

/**
 * Finds first-level arguments in conditions that a matching tool's input schema does not declare. Schemas that say
 * more than `properties` (references, combinations) are passed over: what they take cannot be read off.
 *
 * @param tools the tools as known now; asked again when a server's list changes
 */
export function unknownFields(policies: CompiledPolicies, tools: readonly Tool[]): readonly UnknownField[] {
  const found: UnknownField[] = []
  for (const policy of [...policies.byRole.values()].flat()) {
    for (const rule of [...policy.allow, ...policy.deny]) {
      const fields = rule.when?.fields.get('args')
      if (fields === undefined) continue
      for (const tool of tools) {
        if (firstMatch(rule.tools, tool.outward) === -1) continue
        const declared = propertiesOf(tool)
        if (declared === null) continue
        for (const field of fields) if (!Object.hasOwn(declared, field)) found.push({ rule, tool, field })
      }
    }
  }
  return found
}

const beyond = ['$ref', 'allOf', 'anyOf', 'oneOf', 'patternProperties', 'if'] as const

function propertiesOf(tool: Tool): object | null {
  const schema = tool.definition.inputSchema
  if (typeof schema !== 'object' || schema === null || beyond.some((keyword) => keyword in schema)) return null
  const properties = 'properties' in schema ? schema.properties : {}
  return typeof properties === 'object' && properties !== null ? properties : null
}
