/** Feeds bytes of an answer through the passthrough lane and keeps what its caller would get. @module */
import type { Attempt, Ending, LlmCall, Reply } from '../../src/call.ts'
import { readBody } from '../../src/dialects/openai-chat/body.ts'
import { Fault } from '../../src/fault.ts'
import { laneOf } from '../../src/translate/lane.ts'

export interface Heard {
  readonly ending: Ending
  /** What the caller has when everything is over: the stream with its tail, or the whole body. */
  readonly bytes: Buffer
  readonly began: boolean
}

export interface Fed {
  readonly status?: number
  readonly headers?: Readonly<Record<string, string>>
  readonly chunks: readonly Buffer[]
  /** Members of the request beside the model. */
  readonly asked?: object
  readonly kind?: LlmCall['kind']
}

const attempt: Attempt = {
  target: { provider: 'vendor', model: 'm', timeoutMs: null },
  hold: { usd: 0, tokens: 0, requests: 1, tool_calls: 0 },
  cap: null,
  slices: null,
  toolPrice: null,
}
const facts = {
  ...{ session: null, provider: 'vendor', model: 'm', attempts: 1, cost: null, remaining: null, upstreamMs: null },
  upstreamHeaders: [],
  rates: null,
  budgetWarning: null,
}

export function hear({ status = 200, headers, chunks, asked = {}, kind = 'chat' }: Fed): Heard {
  const body = Buffer.from(JSON.stringify({ model: 'm', ...asked }))
  const read = readBody(body, kind)
  if (read instanceof Fault) throw new Error(JSON.stringify(read.body))
  const said: Buffer[] = []
  let started = false
  const reply = {
    get started() {
      return started
    },
    closed: false,
    begin: () => {
      started = true
    },
    write: (chunk: Buffer) => {
      said.push(Buffer.from(chunk))
      return true
    },
  } as unknown as Reply
  const call = { kind, body, facts: read, reply } as unknown as LlmCall
  const lane = laneOf({ now: () => 0, mono: () => 0 }, call, attempt, facts)
  lane.head(status, headers ?? { 'content-type': 'text/event-stream', 'transfer-encoding': 'chunked' })
  for (const chunk of chunks) if (lane.data(chunk) === 'stop') break
  const ending = lane.end()
  if (ending.tail !== null) said.push(ending.tail)
  if (ending.answer?.kind === 'bytes') said.push(ending.answer.body)
  return { ending, bytes: Buffer.concat(said), began: started }
}
