/** zod slice: a tool server that speaks MCP, over HTTP (`url`) or as a child process (`command`). @module */
import { z } from 'zod'
import { secretRef, serverAuthSchema } from '../credentials/schemes.ts'
import { allowPrivate, duration, toolPrices, upstreamUrl, usdPerCall } from './row.ts'

/** `auto` asks the server; the other two skip the question. */
export const eras = ['auto', 'legacy', 'modern'] as const

/** Literal text, or a secret by reference; what starts like a reference must be one. */
const envValue = z.union([secretRef, z.string().regex(/^(?!env:|file:)/, 'must be a literal, env:NAME or file:PATH')])

export const mcpRowSchema = z
  .strictObject({
    kind: z.literal('mcp'),
    url: upstreamUrl.optional(),
    command: z.array(z.string().min(1)).min(1).optional(),
    env: z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/), envValue).optional(),
    cwd: z.string().min(1).optional(),
    era: z.enum(eras).default('auto'),
    auth: serverAuthSchema.default({ kind: 'none' }),
    timeout: duration.default(60_000),
    allow_private: allowPrivate.default([]),
    disabled: z.boolean().default(false),
    price: toolPrices.optional(),
    reports_cost: z
      .strictObject({ max: usdPerCall.describe('USD; a call is held at this, and charged no more') })
      .optional()
      .describe("take the server's word for what a call cost"),
  })
  .superRefine((row, context) => {
    const refuse = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message })
    if ((row.url === undefined) === (row.command === undefined)) {
      refuse(row.url === undefined ? 'kind' : 'url', 'a server of kind mcp has either url or command')
      return
    }
    if (row.command !== undefined) {
      const why = unpinned(row.command)
      if (why !== null) refuse('command', why)
      if (row.auth.kind !== 'none') refuse('auth', 'a command gets its secrets through env, not auth')
      return
    }
    if (row.env !== undefined) refuse('env', 'only a command has an environment')
    if (row.cwd !== undefined) refuse('cwd', 'only a command has a working directory')
  })
  .transform(({ timeout, ...row }) => ({ ...row, timeoutMs: timeout }))

/** As read: exactly one of `url` and `command` is set; `timeoutMs` counts for one call. */
export type McpRow = z.output<typeof mcpRowSchema>

const exactNpm = /^(@[a-z0-9._~-]+\/)?[a-z0-9._~-]+@[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$/
const exactPython = /^[A-Za-z0-9._-]+(\[[A-Za-z0-9._,-]+\])?(==|@)[0-9]+(\.[0-9]+)*([A-Za-z0-9.+-]*)$/

/**
 * Why a command does not name one exact package version, or null when it does (or runs no package at all).
 * A runner that resolves "latest" at each start would run code that nobody has approved.
 */
export function unpinned(command: readonly string[]): string | null {
  const [runner = '', verb = ''] = command.map((word) =>
    word
      .split(/[\\/]/)
      .at(-1)
      ?.replace(/\.(cmd|exe)$/, ''),
  )
  // `npm exec`, `pnpm dlx` and the like are npx under another name.
  const spelled = /^(npm|pnpm|yarn|bun)$/.test(runner) && /^(exec|x|dlx)$/.test(verb)
  const exact = spelled || /^(npx|bunx|pnpx)$/.test(runner) ? exactNpm : runner === 'uvx' ? exactPython : null
  if (exact === null) return null
  const example = exact === exactNpm ? 'name@1.2.3' : 'name==1.2.3'
  const words = command.slice(spelled ? 2 : 1)
  const named: string[] = []
  for (let i = 0; i < words.length; i++) {
    const word = words[i] as string
    if (/^(-c|--call)(=|$)/.test(word)) return 'must name its package as an argument, not run a shell line'
    if (/^(-p|--package|--from|--with)$/.test(word)) {
      named.push(words[++i] ?? '')
      continue
    }
    const inline = /^(--package|--from|--with)=(.*)$/.exec(word)
    if (inline !== null) {
      named.push(inline[2] as string)
      continue
    }
    if (word.startsWith('-')) continue
    // With --package given, the first plain word is the binary to run, not a package.
    if (named.length === 0) named.push(word)
    break
  }
  const loose = named.find((name) => !exact.test(name))
  if (named.length === 0) return `must name a package with its exact version (${example})`
  return loose === undefined ? null : `"${loose}" must have an exact version (${example})`
}
