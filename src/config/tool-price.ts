/** What a call of a tool costs, by the row of its server. @module */
import type { Tool, ToolPrice } from '../call.ts'
import type { Config } from './config.ts'

/** @returns null for a tool that is free, as every tool is whose server's row says nothing else */
export function toolPriceFor(config: Config, tool: Tool): ToolPrice | null {
  const row = config.servers.get(tool.server)
  if (row === undefined) return null
  const { price } = row
  const own = price !== undefined && Object.hasOwn(price.tools, tool.name) ? price.tools[tool.name] : undefined
  const call = own ?? price?.call ?? 0
  const reported = row.kind === 'mcp' ? (row.reports_cost?.max ?? null) : null
  return call === 0 && reported === null ? null : { call, reported }
}
