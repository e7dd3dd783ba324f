/** Adding rows of a report. @module */
import type { ReportRow } from './store.ts'

/** Two rows of one group together; whoever reads a report may fold its groups further. */
export function added(a: ReportRow | undefined, b: ReportRow): ReportRow {
  if (a === undefined) return b
  return {
    groups: b.groups,
    calls: a.calls + b.calls,
    usd: a.usd + b.usd,
    tokens: a.tokens + b.tokens,
    requests: a.requests + b.requests,
    tool_calls: a.tool_calls + b.tool_calls,
    input: a.input + b.input,
    output: a.output + b.output,
    cacheRead: a.cacheRead + b.cacheRead,
    cacheWrite: a.cacheWrite + b.cacheWrite,
    reasoning: a.reasoning + b.reasoning,
  }
}
