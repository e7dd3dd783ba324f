/** JSON Schemas of the configuration files, for editors; generated from the slices that check them. @module */
import { z } from 'zod'
import { policySchema } from '../policy/policies.ts'
import { policyTestsSchema } from '../policy/policy-tests.ts'
import { fileSchemas } from './load.ts'
import { serverSchema } from './server.ts'

const sources: Readonly<Record<string, z.ZodType>> = {
  providers: fileSchemas['registry/providers.yaml'],
  models: fileSchemas['registry/models.yaml'],
  server: serverSchema,
  routes: fileSchemas['policies/routes.yaml'],
  limits: fileSchemas['policies/limits.yaml'],
  'tool-policy': policySchema,
  'policy-tests': policyTestsSchema,
}

/** @returns file name within `registry/schema/` to its text */
export function jsonSchemas(): ReadonlyMap<string, string> {
  return new Map(
    Object.entries(sources).map(([name, schema]) => {
      const document = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' })
      return [`${name}.json`, `${JSON.stringify({ title: `Gatehouse ${name}`, ...document }, null, 2)}\n`]
    }),
  )
}
