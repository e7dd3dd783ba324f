/** `.env.example`. @module */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'

const read = (file: string) => readFileSync(join(import.meta.dirname, '../..', file), 'utf8')
const names = (text: string, pattern: RegExp) => new Set([...text.matchAll(pattern)].map(([, name]) => name as string))

it('.env.example has one line for each setting and each provider key, and no other', () => {
  const settings = names(read('src/settings.ts'), /\benv\.([A-Z_]+)/g)
  const secrets = names(read('registry/providers.yaml').replace(/^#.*$/gm, ''), /secret: env:([A-Z0-9_]+)/g)
  const shown = [...read('.env.example').matchAll(/^#([A-Z0-9_]+)=/gm)].map(([, name]) => name as string)
  assert.ok(settings.size > 5 && secrets.size > 5)
  assert.deepEqual([...shown].sort(), [...settings, ...secrets].sort())
})
