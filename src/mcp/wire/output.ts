/**
 * Structured output across eras: 2026-07-28 allows any JSON value, earlier revisions an object only. What is no object
 * travels to an older client as `{ result: value }`, and its schema is wrapped alike so that validation still holds.
 * @module
 */
import { isObject, type Json } from './jsonrpc.ts'

/** Whether values of this output schema must be wrapped for clients that know objects only. */
export function wrapsOutput(outputSchema: unknown): boolean {
  return outputSchema !== undefined && !(isObject(outputSchema) && outputSchema.type === 'object')
}

/**
 * The schema of the wrapped value. Shared definitions move to the new root so that `#/$defs/...` still resolves.
 */
export function wrapSchema(outputSchema: unknown): Json {
  const root = { type: 'object', required: ['result'] }
  if (!isObject(outputSchema)) return { ...root, properties: { result: outputSchema === false ? false : {} } }
  const { $schema, $defs, definitions, ...inner } = outputSchema
  return {
    ...($schema === undefined ? {} : { $schema }),
    ...root,
    properties: { result: inner },
    ...($defs === undefined ? {} : { $defs }),
    ...(definitions === undefined ? {} : { definitions }),
  }
}
