/** Tool lists from the warm catalogue, tool calls to their servers. @module */
import type { Account, Admitted, Answer, Ending, Tool, ToolCall, ToolListCall } from '../call.ts'
import { endingOf } from '../call.ts'
import { type Fault, fault, mayHaveActed } from '../fault.ts'
import type { Gateway } from '../gateway.ts'
import { decide } from '../policy/decide.ts'
import { ended } from './standing.ts'

/** Tools the caller may call with some arguments, and the servers whose tools are missing. Never waits for a server. */
export function listTools(gateway: Gateway, call: ToolListCall, admitted: Admitted): Answer | Fault {
  const targets = gateway.catalogue.targets()
  if (call.server !== null && !targets.has(call.server))
    return fault({ code: 'not_found', what: `The server "${call.server}"` })
  const account = holder(admitted)
  const { policy } = gateway.config
  const tools: Record<string, unknown>[] = []
  for (const tool of gateway.catalogue.tools()) {
    if (call.server !== null && tool.server !== call.server) continue
    if (!decide(policy, { account, tool, args: null }).allowed) continue
    tools.push({ ...tool.definition, name: call.server === null ? tool.outward : tool.name })
  }
  const unavailable = [...targets.values()]
    .filter((target) => call.server === null || target.id === call.server)
    .map((target) => ({ server: target.id, status: target.state().status }))
    .filter(({ status }) => status !== 'healthy' && status !== 'disabled')
  return { kind: 'value', status: 200, value: { tools, unavailable } }
}

/** For a server that left the configuration while its tool was being called. */
const defaultTimeoutMs = 60_000

export async function callTool(gateway: Gateway, call: ToolCall, admitted: Admitted): Promise<Ending> {
  const tool = admitted.tool as Tool
  const target = gateway.catalogue.targets().get(tool.server)
  if (target === undefined) return endingOf('fault', { fault: fault({ code: 'tool_not_found', tool: call.name }) })
  const refused = ended(gateway, admitted)
  if (refused !== null) return endingOf('fault', { fault: refused })
  // What is cancelled before it begins has done nothing.
  if (call.signal.aborted) return endingOf('hangup', {})
  const stopped = Promise.withResolvers<{ readonly fault: Fault }>()
  const stop = new AbortController()
  const entry = gateway.running.enter((cause) => {
    stop.abort()
    stopped.resolve({ fault: cause })
  }, holder(admitted))
  const work = async () =>
    target.call({
      callId: call.id,
      tool,
      args: call.args,
      meta: call.meta,
      timeoutMs: gateway.config.servers.get(tool.server)?.timeoutMs ?? defaultTimeoutMs,
      signal: AbortSignal.any([call.signal, stop.signal]),
      onProgress: call.onProgress,
    })
  // A call that is stopped is over for its caller, however long its server takes to notice.
  const outcome = await Promise.race([stopped.promise, work()]).finally(() => gateway.running.leave(entry))
  if (call.signal.aborted) return endingOf('hangup', { dispatched: true })
  if ('fault' in outcome)
    return endingOf('fault', { fault: outcome.fault, dispatched: mayHaveActed(outcome.fault.body) })
  return endingOf('answered', { answer: { kind: 'value', status: 200, value: outcome.result }, dispatched: true })
}

function holder(admitted: Admitted): Account {
  if (admitted.caller.role !== 'holder') throw new Error('tool lists belong to holders')
  return admitted.caller.account
}
