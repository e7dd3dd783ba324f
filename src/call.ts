/**
 * The nouns of a request's walk: what enters (Call), what is tried (Plan, Attempt) and how it ends (Ending). With
 * account.ts, tool.ts, usage.ts, grant.ts and ledger.ts the words every room speaks in.
 * @module
 */
import type { Amounts, Caller, Credential } from './account.ts'
import type { Fault } from './fault.ts'
import type { RateGrant, RateStanding } from './grant.ts'
import type { Invocation, Tool, ToolPrice } from './tool.ts'
import { type Media, noUsage, type Usage } from './usage.ts'

export * from './account.ts'
export * from './grant.ts'
export * from './ledger.ts'
export * from './tool.ts'
export * from './usage.ts'

/**
 * The way back to the caller; each door of the edge has its own. Exactly one of `answer`, `fault` and `finish` ends it.
 * A stream is `begin`, then `write`s, then `finish`; a fault after `begin` is told inside the stream.
 */
export interface Reply {
  /** Something has been sent, so nothing else can be tried. */
  readonly started: boolean
  /** The caller is gone. */
  readonly closed: boolean
  answer(answer: Answer, facts: ReplyFacts): void
  /** @param tail in a stream: what goes before the fault */
  fault(fault: Fault, facts: ReplyFacts, tail?: Buffer | null): void
  begin(status: number, headers: readonly string[], facts: ReplyFacts): void
  /** @returns false when the caller reads slower than this; wait for `onDrain` */
  write(chunk: Buffer): boolean
  finish(tail: Buffer | null): void
  onDrain(listener: () => void): void
  /** The caller hung up before the end. At most one listener; called at once when it has already happened. */
  onHangup(listener: () => void): void
}

/** What the walk knows about the call by the time it answers; the edge turns it into `x-gatehouse-*` headers. */
export interface ReplyFacts {
  readonly session: string | null
  readonly provider: string | null
  readonly model: string | null
  readonly attempts: number
  /** Micro-dollars, or null where it is not known yet (streams). */
  readonly cost: number | null
  readonly remaining: Partial<Amounts> | null
  /** In words: the tightest limit that is past one of its thresholds, or null. */
  readonly budgetWarning: string | null
  /** Ms spent waiting for the upstream, or null where there was none. */
  readonly upstreamMs: number | null
  readonly upstreamHeaders: readonly string[]
  /** Where the call stands in the rate limits that matched it, or null where none did. */
  readonly rates: RateStanding | null
}

/** A whole answer: upstream's bytes, a value for the door to render, or pieces made as fast as the caller reads them. */
export type Answer =
  | { readonly kind: 'bytes'; readonly status: number; readonly headers: readonly string[]; readonly body: Buffer }
  | { readonly kind: 'value'; readonly status: number; readonly value: unknown }
  | {
      readonly kind: 'pieces'
      readonly status: number
      readonly headers: readonly string[]
      readonly pieces: AsyncIterable<Buffer>
    }

interface Entered {
  /** Request id: `req_` and 26 characters, sortable by time. */
  readonly id: string
  /** Wall clock at entry, ms since the epoch. */
  readonly at: number
  /** Monotonic clock at entry, ms. */
  readonly startedAt: number
  readonly credential: Credential | null
  readonly reply: Reply
  readonly step: string | null
  /** W3C trace context of this call: the caller's trace, or a new one, with a span of ours. */
  readonly traceparent: string
  readonly labels: Readonly<Record<string, string>> | null
}

export const llmKinds = ['chat', 'completion', 'embedding'] as const

/** A model call. */
export interface LlmCall extends Entered {
  readonly kind: (typeof llmKinds)[number]
  /** What the caller sent; the spans tell where in it the gateway may splice. Emptied once a stream has begun. */
  body: Buffer
  readonly facts: LlmFacts
  readonly timeoutMs: number | null
  readonly maxAttempts: number | null
}

/** Bytes [start, end) of a value in the body. */
export interface Span {
  readonly start: number
  readonly end: number
}

/** A member's value in the body. */
export interface NamedSpan extends Span {
  readonly key: string
}

/** An output cap as the caller wrote it. */
export interface OutputCap {
  readonly name: string
  readonly value: number
  readonly span: Span
  /** A second cap under the other name; both are lowered together. */
  readonly also: OutputCap | null
}

/** What policy, budget and the byte lane need to know of a model call's body. */
export interface LlmFacts {
  readonly model: string
  readonly modelSpan: Span
  readonly stream: boolean
  /** The caller asked for the usage event of a stream. */
  readonly wantsUsage: boolean
  readonly streamOptionsSpan: Span | null
  readonly streamOptions: Readonly<Record<string, unknown>> | null
  readonly cap: OutputCap | null
  /** Where no cap is set: the members that say so with a null, by name. */
  readonly unsetCaps: readonly NamedSpan[]
  /** Answers asked for (`n`, `best_of`), 1 when absent. */
  readonly choices: number
  /** Upper bound of text tokens: no tokenizer makes more tokens than bytes. Without the data of media parts. */
  readonly textBytes: number
  /** Images, audio and files, which count by rules of their own (tokens.ts). */
  readonly media: readonly Media[]
  /** Tools offered: some vendors add words of their own for each. */
  readonly tools: number
  /** The answer may be spoken. */
  readonly speaks: boolean
  /** Length of the body. */
  readonly bytes: number
  /** Just behind the opening brace: where a member can be inserted. */
  readonly bodyStart: number
}

export interface ModelListCall extends Entered {
  readonly kind: 'model-list'
  /** One model by id, or null for all. */
  readonly model: string | null
}

/** Protocol exchanges of MCP that touch no tool: handshake, discovery, ping, session end. */
export interface McpProtocolCall extends Entered {
  readonly kind: 'mcp-protocol'
  readonly method: string
  readonly server: string | null
  /** Computes the answer once the caller is known; pure apart from the MCP session table it closes over. */
  readonly answer: (caller: Caller) => Answer | Fault
}

export interface ToolListCall extends Entered {
  readonly kind: 'tool-list'
  /** One server's endpoint, or null for the aggregate. */
  readonly server: string | null
}

export interface ToolCall extends Entered {
  readonly kind: 'tool-call'
  readonly server: string | null
  /** As the caller wrote it: outward on the aggregate, the server's own on its endpoint. */
  readonly name: string
  readonly args: Readonly<Record<string, unknown>>
  readonly meta: Readonly<Record<string, unknown>>
  readonly signal: AbortSignal
  readonly onProgress: Invocation['onProgress']
  /**
   * What the door still has to compare once the tool is known and allowed (headers its schema asks for). Asked after
   * the decision, so that a tool the caller may not see is not told apart from an unknown one.
   */
  readonly verify?: ((tool: Tool) => Fault | null) | undefined
}

/** What a holder does with sessions. `body` is parsed strictly but not validated. */
export interface SessionCall extends Entered {
  readonly kind: 'session'
  readonly operation: 'mint' | 'read' | 'top-up' | 'revoke' | 'trace'
  readonly session: string | null
  readonly body: unknown
}

/** What an administrator can ask for. */
export const adminOperations = [
  'accounts.create',
  'accounts.list',
  'accounts.read',
  'accounts.update',
  'accounts.revoke',
  'keys.create',
  'keys.list',
  'keys.read',
  'keys.update',
  'keys.revoke',
  'sessions.list',
  'sessions.read',
  'sessions.revoke',
  'servers.list',
  'servers.read',
  'usage',
  'ledger',
  'audit',
  'reload',
] as const
export type AdminOperation = (typeof adminOperations)[number]

export interface AdminCall extends Entered {
  readonly kind: 'admin'
  readonly operation: AdminOperation
  /** Id in the path. */
  readonly subject: string | null
  readonly query: Readonly<Record<string, string>>
  readonly body: unknown
}

/** A request that could not be read. Whoever sent it is told why, once it is known who that is. */
export interface UnreadableCall extends Entered {
  readonly kind: 'unreadable'
  readonly flaw: Fault
}

export type Call =
  | UnreadableCall
  | LlmCall
  | ModelListCall
  | McpProtocolCall
  | ToolListCall
  | ToolCall
  | SessionCall
  | AdminCall
export type CallKind = Call['kind']

/** What `admit` found: who asks, the thing it may do, or why it may not. */
export interface Admitted {
  readonly caller: Caller
  /** Set for tool calls: the tool that was decided on. */
  readonly tool: Tool | null
  /** Rule id of the decision, for the ledger; null where no rule applies. */
  readonly rule: string | null
  /** The caller is known but may not make this call: why. */
  readonly refusal: Fault | null
  /** What it took of the rate limits; null where none is configured. */
  readonly rates: RateGrant | null
}

/** A model behind a provider, as one try would call it. */
export interface ModelTarget {
  readonly provider: string
  /** The name the provider knows. */
  readonly model: string
  readonly timeoutMs: number | null
}

/** One try. `hold` is what it may cost at most; `cap` the output cap that makes this true, null where none is needed. */
export interface Attempt {
  readonly target: ModelTarget | null
  readonly hold: Amounts
  readonly cap: number | null
  /** How the hold of a stream grows while it runs; null for whole answers, and where nothing has to be held. */
  readonly slices: Slices | null
  /** Set for calls of a tool that is not free: the price when it was held. */
  readonly toolPrice: ToolPrice | null
}

/** A stream is held in slices of output tokens, counted over all its answers together. */
export interface Slices {
  /** Output tokens the first hold covers. */
  readonly first: number
  /** Output tokens the cap allows in all. */
  readonly most: number
  /** What has to be held in addition to go from `from` to `to` output tokens. */
  more(from: number, to: number): Amounts
}

/** A whole answer or stream on its way to the caller: made by `translate`, fed by `execute`. */
export interface Lane {
  head(status: number, headers: Readonly<Record<string, string | string[] | undefined>>): void
  /** @returns `wait` for `ready`, or `stop`: nothing more is wanted, ask for the ending */
  data(chunk: Buffer): 'more' | 'wait' | 'stop'
  /** After `wait`: tells once how it goes on, when the reply has drained and what comes next is paid for. */
  ready(then: (next: 'more' | 'stop') => void): void
  /** Upstream ended cleanly, or `stop` was said. */
  end(): Ending
  /**
   * Upstream failed, the gateway stops the call, or the caller hung up (null).
   *
   * @param sent the request may have left: else it costs nothing
   */
  fail(fault: Fault | null, sent: boolean): Ending
}

export type Trigger = 'error' | 'rate_limit' | 'timeout'

export interface Plan {
  /** In order of preference; one null where no model is involved. */
  readonly targets: readonly (ModelTarget | null)[]
  readonly on: readonly Trigger[]
}

/** Open reservation of one attempt over the whole account path. Resolves exactly once. */
export interface Hold {
  readonly amounts: Readonly<Amounts>
  readonly open: boolean
  /**
   * Takes more on every level or on none.
   *
   * @returns whether it was taken: at once where this process has room, a promise where the store has to be asked;
   * false also once the hold is resolved
   */
  extend(more: Readonly<Amounts>): boolean | Promise<boolean>
  /** Replaces the hold by what was used. @returns false when it had been resolved before (nothing happens) */
  settle(actual: Readonly<Amounts>): boolean
}

/** How an attempt ended. `answer` and `tail` are kept back until the ledger has the call. */
export interface Ending {
  readonly outcome: 'answered' | 'fault' | 'hangup' | 'truncated'
  readonly fault: Fault | null
  readonly usage: Usage
  readonly answer: Answer | null
  /** Last bytes of a stream, sent after the ledger has the call; with a fault, what closes the answers before it is told. */
  readonly tail: Buffer | null
  /** Upstream's HTTP status where there was one. */
  readonly status: number | null
  /** Ms from dispatch to the first byte, or null. */
  readonly firstByteMs: number | null
  /** Ms from dispatch to the end, or null. */
  readonly upstreamMs: number | null
  /** Header name, value, name, value... of upstream that are passed on. */
  readonly upstreamHeaders: readonly string[]
  /** The request may have reached the upstream, so it counts. */
  readonly dispatched: boolean
}

/** An ending with everything that is usual left out. */
export function endingOf(outcome: Ending['outcome'], part: Partial<Ending>): Ending {
  return {
    outcome,
    fault: null,
    usage: noUsage,
    answer: null,
    tail: null,
    status: null,
    firstByteMs: null,
    upstreamMs: null,
    upstreamHeaders: [],
    dispatched: false,
    ...part,
  }
}
