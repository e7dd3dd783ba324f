/** Targets under test with the real egress, and waiting for conditions. @module */
import { randomBytes } from 'node:crypto'
import { tmpdir } from 'node:os'
import type { Target, Tool, ToolOutcome } from '../../src/call.ts'
import { createEgress } from '../../src/egress.ts'
import type { TargetDeps } from '../../src/targets/deps.ts'
import { mcpTarget } from '../../src/targets/mcp.ts'
import { mcpRowSchema } from '../../src/targets/mcp-row.ts'
import type { McpUpstream } from '../upstreams/mcp-server.ts'

export interface Rig {
  /** Lines logged, as JSON. */
  readonly logged: string[]
  http(upstream: McpUpstream, more?: object): Target
  child(command: readonly string[], more?: object): Target
  close(): Promise<void>
}

export function openRig(): Rig {
  const logged: string[] = []
  const line = (fields: object, message: string) => void logged.push(JSON.stringify({ ...fields, message }))
  const egress = createEgress({ allowPrivate: [] })
  const open: Target[] = []
  const deps: TargetDeps = {
    egress,
    secret: (ref) => `value of ${ref}`,
    clock: { now: Date.now, mono: () => performance.now() },
    random: randomBytes,
    log: { debug: line, info: line, warn: line, error: line },
    home: tmpdir(),
  }
  const made = (row: object) => {
    const target = mcpTarget('srv', mcpRowSchema.parse({ kind: 'mcp', ...row }), deps)
    open.push(target)
    return target
  }
  return {
    logged,
    http: (upstream, more = {}) => made({ url: upstream.url, allow_private: [upstream.allow], ...more }),
    child: (command, more = {}) => made({ command, ...more }),
    async close() {
      await Promise.all(open.map((target) => target.close()))
      await egress.close()
    },
  }
}

export interface CallOptions {
  readonly signal?: AbortSignal
  readonly timeoutMs?: number
  readonly onProgress?: (params: Record<string, unknown>) => void
  readonly meta?: Record<string, unknown>
}

export function callTool(
  target: Target,
  name: string,
  args: object = {},
  options: CallOptions = {},
): Promise<ToolOutcome> {
  const known = target.tools().find((tool) => tool.name === name)
  const tool: Tool = known ?? { server: target.id, name, outward: `${target.id}__${name}`, definition: {} }
  return target.call({
    callId: 'req_test',
    tool,
    args: { ...args },
    meta: options.meta ?? {},
    timeoutMs: options.timeoutMs ?? 10_000,
    signal: options.signal ?? new AbortController().signal,
    onProgress: options.onProgress ?? null,
  })
}

/** The text of a result's first block; fails the test when there is none. */
export function textOf(outcome: ToolOutcome): string {
  if ('fault' in outcome) throw new Error(`fault: ${JSON.stringify(outcome.fault.body)}`)
  return (outcome.result.content as { text: string }[])[0]?.text ?? ''
}

/** Waits until a condition holds; fails after a time that only a broken run takes. */
export async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const end = performance.now() + 20_000
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`waited in vain until ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** Whether a process is there and not merely waiting to be reaped. */
export async function alive(pid: number): Promise<boolean> {
  const { readFile } = await import('node:fs/promises')
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  return stat !== '' && !/\) [ZX] /.test(stat)
}
