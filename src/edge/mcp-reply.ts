/** The way back of one JSON-RPC message: what the walk answers, rendered for its revision, into its outlet. @module */
import type { Answer, Reply, ReplyFacts } from '../call.ts'
import { type Fault, fault } from '../fault.ts'
import { type Json, type RpcId, resultBody } from '../mcp/wire/jsonrpc.ts'
import type { Codec } from '../mcp/wire/revision.ts'
import { type Told, tell } from './mcp-fault.ts'
import type { HeaderList, Outlet } from './mcp-outlet.ts'
import { nobody } from './reply.ts'

export interface ReplyPlan {
  readonly outlet: Outlet
  /** null for messages that are answered by a status alone. */
  readonly id: RpcId | null
  /** Renders the value of an answer as the result. */
  readonly shape: (value: unknown) => Json
  /** Set for tools/call, whose faults a model can react to. */
  readonly toolCodec: Codec | null
  /** Headers beside the common ones, read when the answer leaves. */
  readonly headers?: () => HeaderList
  /** A fault this door tells in its own way, or null. */
  readonly ownWords?: (fault: Fault) => Told | null
  /** Called when the answer has been given, whatever it was. */
  readonly onEnd?: () => void
}

/** A reply, and the way to say that the caller wants no answer any more. */
export interface McpReply extends Reply {
  hangUp(): void
}

export function mcpReply(plan: ReplyPlan): McpReply {
  const { outlet, id } = plan
  let ended = false
  let gone = false
  let listener: (() => void) | null = null

  function end(status: number, headers: HeaderList, body: Json | null, facts: ReplyFacts): void {
    if (ended) return
    ended = true
    plan.onEnd?.()
    outlet.end(status, headers, body, facts)
  }

  function fail(why: Fault, facts: ReplyFacts): void {
    const told = plan.ownWords?.(why) ?? tell(why, id, plan.toolCodec)
    end(told.status, told.headers, told.body, facts)
  }

  return {
    get started() {
      return outlet.started
    },
    get closed() {
      return gone
    },
    answer(answer: Answer, facts) {
      if (ended) return
      if (id === null) {
        end(answer.status, plan.headers?.() ?? [], null, facts)
        return
      }
      try {
        const body = resultBody(id, plan.shape(answer.kind === 'value' ? answer.value : null))
        // A result too deep to be written must not take the process with it, so it is tried before it is sent.
        JSON.stringify(body)
        end(200, plan.headers?.() ?? [], body, facts)
      } catch {
        fail(fault({ code: 'internal_error' }), facts)
      }
    },
    fault: fail,
    // Results of MCP are whole; what comes before them goes through the outlet's messages.
    begin() {},
    write: () => true,
    onDrain() {},
    finish() {
      // The caller has cancelled: no response, only the end of the exchange.
      end(202, [], null, nobody)
    },
    onHangup(next) {
      listener = next
      if (gone) next()
    },
    hangUp() {
      if (gone || ended) return
      gone = true
      plan.onEnd?.()
      listener?.()
      end(202, [], null, nobody)
    },
  }
}
