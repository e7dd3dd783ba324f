/** Writes `registry/schema/*.json` from the zod slices: `node scripts/schemas.ts`. @module */
import { mkdirSync, writeFileSync } from 'node:fs'
import { jsonSchemas } from '../src/config/json-schemas.ts'

const folder = new URL('../registry/schema/', import.meta.url)
mkdirSync(folder, { recursive: true })
for (const [name, text] of jsonSchemas()) writeFileSync(new URL(name, folder), text)
