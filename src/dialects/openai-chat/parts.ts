/** What in an OpenAI-shaped request counts as tokens: its texts, and its media by their kind. Pure. @module */
import type { LlmFacts, Media } from '../../call.ts'
import { audioPart, filePart, imagePart, type MediaPart } from '../../tokens/media.ts'

type Json = Readonly<Record<string, unknown>>

/** Parts that are words, whatever else they carry. */
const textual = new Set(['text', 'refusal', 'input_text', 'output_text', 'thinking', 'reasoning'])
/** A part of a kind nobody told us of: a bound for one large picture. */
const unknownPart: Media = { kind: 'file', textBytes: 3_000 }

/** The facts that a token count depends on. @param length of the body in bytes */
export function countedFacts(value: Json, length: number): Pick<LlmFacts, 'textBytes' | 'media' | 'tools' | 'speaks'> {
  const media: Media[] = []
  let data = 0
  for (const message of listOf(value.messages)) {
    for (const part of listOf(recordOf(message).content)) {
      const found = mediaOf(part)
      if (found === null) continue
      media.push(found.media)
      data += found.dataLength
    }
  }
  return {
    textBytes: length - data,
    media: media.length === 0 ? none : media,
    tools: listOf(value.tools).length + listOf(value.functions).length,
    speaks: listOf(value.modalities).includes('audio'),
  }
}

const none: readonly Media[] = Object.freeze([])

/** @returns null for a part that is text */
function mediaOf(part: unknown): MediaPart | null {
  if (typeof part !== 'object' || part === null) return null
  const { type, ...rest } = part as Json
  const inner = typeof type === 'string' ? recordOf(rest[type]) : {}
  switch (type) {
    case 'image_url':
    case 'input_image':
    case 'image':
      return imagePart(inner.url ?? rest.image_url, inner.detail ?? rest.detail)
    case 'input_audio':
    case 'audio':
    case 'audio_url':
      return audioPart(inner.data ?? inner.url)
    case 'file':
    case 'input_file':
      return filePart(inner.file_data ?? rest.file_data)
    case 'document':
    case 'video':
    case 'video_url':
      return filePart(inner.url)
    default:
      return typeof type === 'string' && textual.has(type) ? null : { media: unknownPart, dataLength: 0 }
  }
}

/** Members that set something and are never shown to the model. */
const settings = new Set(
  `model stream stream_options max_tokens max_completion_tokens n best_of temperature top_p top_k min_p seed stop user
  safety_identifier presence_penalty frequency_penalty repetition_penalty logprobs top_logprobs logit_bias modalities
  reasoning_effort verbosity service_tier store metadata parallel_tool_calls prompt_cache_key prompt_cache_retention
  encoding_format dimensions echo`.split(/\s+/),
)

/** Texts a tokenizer can count, one by one. */
export interface Texts {
  readonly texts: readonly string[]
  readonly messages: number
}

/**
 * Every text of a request that a vendor may show the model: what is said as it is, everything else (tools, formats,
 * calls of tools) as JSON, because how it is shown is the vendor's affair.
 *
 * @param body has been read before, so it is valid
 */
export function textsOf(body: Buffer): Texts {
  const { messages, prompt, input, ...others } = JSON.parse(body.toString()) as Json
  const texts: string[] = []
  const said = (value: unknown) => texts.push(typeof value === 'string' ? value : JSON.stringify(value))
  for (const message of listOf(messages)) {
    // A role is part of what is put around every message.
    const { content, role: _, ...rest } = recordOf(message)
    if (typeof content === 'string') said(content)
    for (const part of listOf(content)) {
      if (mediaOf(part) === null) said(recordOf(part).text ?? part)
    }
    if (Object.keys(rest).length > 0) said(rest)
  }
  for (const value of [prompt, input]) {
    // A list of numbers is text in tokens; as JSON it counts more than one for each.
    if (Array.isArray(value) && typeof value[0] === 'string') value.forEach(said)
    else if (value !== undefined) said(value)
  }
  const shown = Object.fromEntries(Object.entries(others).filter(([key]) => !settings.has(key)))
  // With its line ends, as some vendors show it.
  if (Object.keys(shown).length > 0) texts.push(JSON.stringify(shown, null, 2))
  return { texts, messages: listOf(messages).length }
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}

function recordOf(value: unknown): Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : {}
}
