/** The nouns of tools: what a server offers, how one is called, what comes back. Types only. @module */
import type { Fault } from './fault.ts'

/** A registered tool. `definition` is what its server said, verbatim, unknown fields included. */
export interface Tool {
  readonly server: string
  /** The name its server knows. */
  readonly name: string
  /** `<server>__<name>`: the name on the aggregated endpoint. */
  readonly outward: string
  readonly definition: Readonly<Record<string, unknown>>
}

/** What a call of a tool costs, in micro-dollars. */
export interface ToolPrice {
  /** Each call, where its server does not say what it cost. */
  readonly call: number
  /** The most its server may say a call cost; null: its word is not taken. */
  readonly reported: number | null
}

export const serverStatuses = ['starting', 'healthy', 'unstable', 'needs_auth', 'error', 'disabled'] as const
export interface ServerState {
  readonly status: (typeof serverStatuses)[number]
  /** Safe to show: no secret, no upstream body. */
  readonly lastFailure: string | null
  readonly era: 'modern' | 'legacy' | null
  readonly tools: number
}

/** One call of one tool at its server. */
export interface Invocation {
  readonly callId: string
  readonly tool: Tool
  readonly args: Readonly<Record<string, unknown>>
  /** `_meta` of the request without the reserved protocol keys. */
  readonly meta: Readonly<Record<string, unknown>>
  readonly timeoutMs: number
  /** Aborted when the caller cancels; the server is told. */
  readonly signal: AbortSignal
  /** Called for each progress notification of this call, with its params minus the token. */
  readonly onProgress: ((params: Record<string, unknown>) => void) | null
}

/** A tool result as its server gave it (a CallToolResult object, unknown fields included), or why there is none. */
export type ToolOutcome = { readonly result: Readonly<Record<string, unknown>> } | { readonly fault: Fault }

/** A tool server of any kind. Listing never waits: `tools()` is the last known catalogue. */
export interface Target {
  readonly id: string
  readonly kind: string
  state(): ServerState
  tools(): readonly Tool[]
  /** Connects where needed and reads the catalogue again. Never throws: a failure is a state. */
  refresh(): Promise<void>
  call(invocation: Invocation): Promise<ToolOutcome>
  close(): Promise<void>
}
