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
  readonly shape: (value: unknown, facts: ReplyFacts) => Json
  /** Set for tools/call, whose faults a model can react to. */
  readonly toolCodec: Codec | null
  /** Headers beside the common ones, read when the answer leaves. */
  readonly headers?: () => HeaderList
  /** A fault this door tells in its own way, or null. */
  readonly ownWords?: (fault: Fault) => Told | null
  /** Called when the answer has been given, whatever it was. */
  readonly onEnd?: () => void
}

/** Also says that the caller wants no answer any more. */
export class McpReply implements Reply {
  closed = false
  readonly #plan: ReplyPlan
  #ended = false
  #listener: (() => void) | null = null

  constructor(plan: ReplyPlan) {
    this.#plan = plan
  }

  get started(): boolean {
    return this.#plan.outlet.started
  }

  answer(answer: Answer, facts: ReplyFacts): void {
    if (this.#ended) return
    const { id, headers, shape } = this.#plan
    if (id === null) {
      this.#end(answer.status, headers?.() ?? [], null, facts)
      return
    }
    try {
      const result = shape(answer.kind === 'value' ? answer.value : null, facts)
      this.#end(200, headers?.() ?? [], resultBody(id, result), facts)
    } catch {
      this.fault(fault({ code: 'internal_error' }), facts)
    }
  }

  fault(why: Fault, facts: ReplyFacts): void {
    const { ownWords, id, toolCodec } = this.#plan
    const told = ownWords?.(why) ?? tell(why, id, toolCodec)
    this.#end(told.status, told.headers, told.body, facts)
  }

  // Results of MCP are whole; what comes before them goes through the outlet's messages.
  begin(): void {}
  write(): boolean {
    return true
  }
  onDrain(): void {}

  finish(): void {
    // The caller has cancelled: no response, only the end of the exchange.
    this.#end(202, [], null, nobody)
  }

  onHangup(next: () => void): void {
    this.#listener = next
    if (this.closed) next()
  }

  hangUp(): void {
    if (this.closed || this.#ended) return
    this.closed = true
    this.#plan.onEnd?.()
    this.#listener?.()
    this.#end(202, [], null, nobody)
  }

  #end(status: number, headers: HeaderList, body: Json | null, facts: ReplyFacts): void {
    if (this.#ended) return
    const { outlet, onEnd } = this.#plan
    outlet.end(status, headers, body, facts)
    this.#ended = true
    onEnd?.()
  }
}

export function mcpReply(plan: ReplyPlan): McpReply {
  return new McpReply(plan)
}
