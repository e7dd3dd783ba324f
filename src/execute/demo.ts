/**
 * The built-in demo model: deterministic, says what it is, and calls tools when it is asked to, so that everything runs
 * without a provider key. It answers in OpenAI's wire format, through the same lane as any provider.
 * @module
 */
import { createHash } from 'node:crypto'
import type { Ending, LlmCall } from '../call.ts'
import type { Fault } from '../fault.ts'
import type { Gateway } from '../gateway.ts'
import type { Leg } from './dispatch.ts'

interface Request {
  readonly messages?: readonly { readonly role?: string; readonly content?: unknown }[]
  readonly prompt?: unknown
  readonly input?: unknown
  readonly tools?: readonly { readonly function?: { readonly name?: string } }[]
  readonly tool_choice?: unknown
  readonly max_tokens?: number
  readonly max_completion_tokens?: number
  readonly encoding_format?: string
  readonly dimensions?: number
}

interface Said {
  readonly words: readonly string[]
  readonly tool: { readonly name: string; readonly args: string } | null
  readonly finish: 'stop' | 'length' | 'tool_calls'
  readonly usage: { readonly prompt_tokens: number; readonly completion_tokens: number; readonly total_tokens: number }
}

const notice = "I am Gatehouse's built-in demo model, not a real one."
const json = { 'content-type': 'application/json' }

/** @param body what a provider would have been sent */
export async function demo(gateway: Gateway, leg: Leg, body: Buffer): Promise<Ending> {
  const { call, lane } = leg
  const request = JSON.parse(body.toString()) as Request
  if (call.kind === 'embedding') {
    lane.head(200, json)
    lane.data(Buffer.from(JSON.stringify(embeddings(request))))
    return lane.end()
  }
  const said = say(request, call.kind)
  const id = `demo-${createHash('sha256').update(body).digest('hex').slice(0, 24)}`
  if (call.facts.stream) return stream(gateway, leg, parts(call, id, said))
  lane.head(200, json)
  lane.data(Buffer.from(JSON.stringify(whole(call, id, said))))
  return lane.end()
}

function say(request: Request, kind: LlmCall['kind']): Said {
  const asked = kind === 'chat' ? lastText(request) : String(request.prompt ?? '')
  const tool = kind === 'chat' ? toolFor(request, asked) : null
  const text = tool === null ? reply(request, asked) : ''
  const all = text.match(/\S+\s*/g) ?? []
  const cap = request.max_completion_tokens ?? request.max_tokens ?? Number.POSITIVE_INFINITY
  const words = all.slice(0, cap)
  const prompt = tokens(JSON.stringify(request.messages ?? request.prompt ?? ''))
  const completion = tool === null ? words.length : tokens(tool.args) + 1
  return {
    words,
    tool,
    finish: tool !== null ? 'tool_calls' : words.length < all.length ? 'length' : 'stop',
    usage: { prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion },
  }
}

function reply(request: Request, asked: string): string {
  const last = request.messages?.at(-1)
  if (last?.role === 'tool') return `${notice} The tool answered: ${textOf(last.content).slice(0, 500)}`
  return `${notice} You said: ${asked.slice(0, 500)}`
}

/** A tool is called when the request forces one or its name stands in the last user message; JSON behind it are the arguments. */
function toolFor(request: Request, asked: string): Said['tool'] {
  const names = (request.tools ?? []).map((tool) => tool.function?.name).filter((name) => name !== undefined)
  const forced = (request.tool_choice as { function?: { name?: string } } | undefined)?.function?.name
  if (request.tool_choice === 'none' || request.messages?.at(-1)?.role === 'tool') return null
  const name =
    forced ??
    names.find((known) => asked.includes(known)) ??
    (request.tool_choice === 'required' ? names[0] : undefined)
  if (name === undefined) return null
  const start = asked.indexOf('{', Math.max(0, asked.indexOf(name)))
  const given = start === -1 ? '{}' : asked.slice(start, asked.lastIndexOf('}') + 1)
  try {
    return { name, args: JSON.stringify(JSON.parse(given)) }
  } catch {
    return { name, args: '{}' }
  }
}

function whole(call: LlmCall, id: string, said: Said): unknown {
  const base = { id, created: 0, model: 'demo', usage: said.usage }
  const text = said.words.join('')
  if (call.kind === 'completion') {
    return {
      ...base,
      object: 'text_completion',
      choices: [{ index: 0, text, finish_reason: said.finish, logprobs: null }],
    }
  }
  const message =
    said.tool === null
      ? { role: 'assistant', content: text }
      : { role: 'assistant', content: null, tool_calls: [toolCall(id, said.tool)] }
  return {
    ...base,
    object: 'chat.completion',
    choices: [{ index: 0, message, finish_reason: said.finish, logprobs: null }],
  }
}

function toolCall(id: string, tool: NonNullable<Said['tool']>) {
  return { id: `call_${id.slice(5, 21)}`, type: 'function', function: { name: tool.name, arguments: tool.args } }
}

function parts(call: LlmCall, id: string, said: Said): Buffer[] {
  const isChat = call.kind === 'chat'
  const object = isChat ? 'chat.completion.chunk' : 'text_completion'
  const chunk = (choice: object, finish: string | null) =>
    event({ id, object, created: 0, model: 'demo', choices: [{ index: 0, ...choice, finish_reason: finish }] })
  const parts: Buffer[] = []
  if (isChat) parts.push(chunk({ delta: { role: 'assistant', content: said.tool === null ? '' : null } }, null))
  if (said.tool !== null) parts.push(chunk({ delta: { tool_calls: [{ index: 0, ...toolCall(id, said.tool) }] } }, null))
  for (const word of said.words) parts.push(chunk(isChat ? { delta: { content: word } } : { text: word }, null))
  parts.push(chunk(isChat ? { delta: {} } : { text: '' }, said.finish))
  parts.push(
    event({ id, object, created: 0, model: 'demo', choices: [], usage: said.usage }),
    Buffer.from('data: [DONE]\n\n'),
  )
  return parts
}

/** At the pace of its reader, until it is over, nobody wants more, or it is stopped. */
async function stream(gateway: Gateway, { call, account, lane }: Leg, parts: readonly Buffer[]): Promise<Ending> {
  let stopped: Fault | null = null
  const over = Promise.withResolvers<'over'>()
  const entry = gateway.running.enter((cause) => {
    stopped = cause
    over.resolve('over')
  }, account)
  call.reply.onHangup(() => over.resolve('over'))
  try {
    lane.head(200, { 'content-type': 'text/event-stream' })
    for (const part of parts) {
      if (call.reply.closed || stopped !== null) return lane.fail(stopped, true)
      let next = lane.data(part)
      if (next === 'wait') {
        const ready = new Promise<'more' | 'stop'>((then) => lane.ready(then))
        const heard = await Promise.race([ready, over.promise])
        if (heard !== 'over') next = heard
      }
      if (next === 'stop') break
      await new Promise(setImmediate)
    }
    return lane.end()
  } finally {
    gateway.running.leave(entry)
  }
}

function event(value: unknown): Buffer {
  return Buffer.from(`data: ${JSON.stringify(value)}\n\n`)
}

/** A unit-free fingerprint of the text as a vector: equal texts are equal, nothing more is promised. */
function embeddings(request: Request): unknown {
  const inputs = Array.isArray(request.input) && typeof request.input[0] !== 'number' ? request.input : [request.input]
  const size = Math.min(Math.max(request.dimensions ?? 64, 1), 4096)
  const data = inputs.map((input, index) => {
    const vector = Float32Array.from({ length: size }, (_, at) => fraction(`${at}:${JSON.stringify(input)}`))
    const embedding = request.encoding_format === 'base64' ? Buffer.from(vector.buffer).toString('base64') : [...vector]
    return { object: 'embedding', index, embedding }
  })
  const used = tokens(JSON.stringify(request.input ?? ''))
  return { object: 'list', model: 'demo', data, usage: { prompt_tokens: used, total_tokens: used } }
}

function fraction(text: string): number {
  return createHash('sha256').update(text).digest().readInt32BE() / 2 ** 31
}

function tokens(text: string): number {
  return Math.max(1, Math.ceil(text.length / 4))
}

function lastText(request: Request): string {
  return textOf(request.messages?.findLast((message) => message.role === 'user')?.content)
}

function textOf(content: unknown): string {
  if (typeof content === 'string') return content
  if (!Array.isArray(content)) return ''
  return content.map((part: { text?: unknown }) => (typeof part.text === 'string' ? part.text : '')).join(' ')
}
