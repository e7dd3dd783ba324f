/**
 * How vendors count tokens: which encoding a model's family uses and by how much ours has to be raised for it, what a
 * message, a tool and a picture add. Everything errs upwards, because budgets are held by it before a call.
 *
 * The margins are bounds by judgement, not truths: only OpenAI's encodings are public in full. What was seen against
 * them: Claude counts English prose and code 15 to 30 % above cl100k, its newest models up to 35 % more again; models
 * with vocabularies of 32,000 fall back to bytes where cl100k has words; many write every digit as a token of its own.
 * @module
 */
import type { LlmCall, LlmFacts, Media } from './call.ts'

export type Encoding = 'o200k_base' | 'cl100k_base'

/** Counts tokens of text off the event loop. */
export interface TokenCounter {
  /**
   * @param texts counted one by one: joined they would make no more
   * @returns an upper bound for the family (exact for OpenAI's), or null when it could not be had in time, or the text
   * is too long: then the length in bytes has to do
   */
  count(family: Family, texts: readonly string[]): Promise<number | null>
  close(): Promise<void>
}

/** How a family of models counts. */
export interface Family {
  readonly encoding: Encoding
  /** What the count in `encoding` is multiplied by. */
  readonly margin: number
  /** Every digit can be a token of its own. */
  readonly digits: boolean
  /** Tokens around a message; around a tool's definition; once for a request; once more when there are tools. */
  readonly perMessage: number
  readonly perTool: number
  readonly fixed: number
  readonly withTools: number
  readonly image: ImageRule
  /** Tokens of a second of sound heard. */
  readonly audioPerSecond: number
}

export type ImageRule =
  /** Fit into 2048 x 2048, then the shorter side to 768, then tiles of 512. OpenAI, "Images and vision". */
  | { readonly by: 'tiles'; readonly base: number; readonly tile: number }
  /** Patches of 32 x 32, at most so many, times a factor. OpenAI, "Images and vision". */
  | { readonly by: 'patches'; readonly most: number; readonly factor: number }
  /** Pixels by a divisor, within bounds: Anthropic (750), and those whose rule nobody tells. */
  | { readonly by: 'area'; readonly divisor: number; readonly least: number; readonly most: number }
  /** Google: 258 a tile of 768 or less, 4128 for the largest picture that is not scaled down. */
  | { readonly by: 'crops'; readonly least: number }

const openai = {
  encoding: 'o200k_base',
  margin: 1,
  digits: false,
  perMessage: 8,
  perTool: 16,
  fixed: 16,
  withTools: 64,
  audioPerSecond: 10,
} as const
const tiles = (base: number, tile: number): ImageRule => ({ by: 'tiles', base, tile })
const patches = (most: number, factor: number): ImageRule => ({ by: 'patches', most, factor })
const others = {
  encoding: 'cl100k_base',
  digits: true,
  perMessage: 16,
  perTool: 32,
  fixed: 64,
  withTools: 256,
  // A picture of any size is 3,000 at least: some models scale small ones up.
  image: { by: 'area', divisor: 196, least: 3_000, most: 16_384 },
  audioPerSecond: 50,
} as const

/** First match wins. Names are matched in lower case, behind any `vendor/` or `region.vendor.` in front. */
const table: readonly (readonly [RegExp, Family])[] = [
  // It says more about itself in front of each conversation than others do.
  [/^gpt-oss/, { ...openai, fixed: 160, perMessage: 12, image: others.image }],
  [/^(gpt-4o-mini|gpt-4o-mini-.*)$/, { ...openai, image: tiles(2833, 5667) }],
  [/^gpt-4\.1-mini/, { ...openai, image: patches(1536, 1.62) }],
  [/^gpt-4\.1-nano/, { ...openai, image: patches(1536, 2.46) }],
  [/^(o4-mini|codex-mini)/, { ...openai, image: patches(1536, 1.72) }],
  [/^gpt-(5|6)[.\d]*-nano/, { ...openai, image: patches(2500, 2.46) }],
  [/^gpt-(5|6)[.\d]*-mini/, { ...openai, image: patches(2500, 1.62) }],
  [/^gpt-5($|-)/, { ...openai, image: tiles(70, 140) }],
  [/^gpt-5\.1/, { ...openai, image: tiles(85, 170) }],
  [/^gpt-[5-9]/, { ...openai, image: patches(10_000, 1.2) }],
  [/^(o1|o3)/, { ...openai, image: tiles(85, 170) }],
  [/^(gpt-4o|gpt-4\.[15]|chatgpt|chat-latest|gpt-(audio|realtime|live|image))/, { ...openai, image: tiles(85, 170) }],
  [
    /^(gpt-4|gpt-3|text-embedding|davinci-002|babbage-002)/,
    { ...openai, encoding: 'cl100k_base', image: tiles(85, 170) },
  ],
  [
    /claude/,
    {
      ...{ ...others, margin: 1.8, fixed: 32, withTools: 600 },
      image: { by: 'area', divisor: 750, least: 0, most: 4_784 },
    },
  ],
  [/^gemini-[3-9]/, { ...others, encoding: 'o200k_base', margin: 1.3, image: { by: 'crops', least: 2_240 } }],
  [/^(gemini|gemma|learnlm)/, { ...others, encoding: 'o200k_base', margin: 1.3, image: { by: 'crops', least: 258 } }],
  [/^(meta-)?llama-?[34]/, { ...others, margin: 1.2 }],
  [/^(qwen|qwq|deepseek|glm|kimi|minimax|grok)/, { ...others, margin: 1.4 }],
  [/^(mistral|mixtral|ministral|magistral|codestral|devstral|pixtral|llama)/, { ...others, margin: 2.5 }],
]
const unknown: Family = { ...others, margin: 2.5 }

/** Texts that are longer in all are not counted. Bytes. */
export const longestCounted = 512 * 1024

const known = new Map<string, Family>()

/** @param model the name its provider knows */
export function familyOf(model: string): Family {
  let family = known.get(model)
  if (family === undefined) {
    family = find(model)
    // Callers invent names; what is remembered of them is bounded.
    if (known.size >= 1024) known.clear()
    known.set(model, family)
  }
  return family
}

function find(model: string): Family {
  const name = plainName(model)
  return table.find(([pattern]) => pattern.test(name))?.[1] ?? unknown
}

function plainName(model: string): string {
  const bare = model.toLowerCase().split('/').at(-1) as string
  return bare.replace(/^([a-z]+\.)*(?=[a-z]+[-\d])/, '')
}

/** Models that think before they answer, or may where asked to, by their vendors' naming. */
const thinking =
  /^(o\d|gpt-([5-9]|oss)|claude-(3-7|opus-4|sonnet-4|haiku-4|[a-z]+-[5-9])|gemini-(2\.5|[3-9])|grok-(3-mini|[4-9])|magistral|qwq|qwen3|glm-4\.[5-9]|kimi-k2|minimax-m)|deepseek-(r|v3\.[1-9]|reasoner)|thinking|reason/

/** Whether a model's output may hold tokens that its stream does not show. @param model the name its provider knows */
export function mayThink(model: string): boolean {
  return thinking.test(plainName(model))
}

/** What a request adds besides its texts. */
export function overheadOf(family: Family, messages: number, tools: number): number {
  const forTools = tools === 0 ? 0 : family.withTools + tools * family.perTool
  return family.fixed + messages * family.perMessage + forTools
}

/** Where nobody can tell how long a file or a sound is: a hundred pages, text and picture each; half an hour. */
const unknownFile = 460_000
const unknownSeconds = 1_800

/**
 * Upper bound of what one part counts as. What the vendor has to fetch itself counts as the largest it accepts.
 *
 * @param context tokens the model takes at all, where that is known: no file is more
 */
export function mediaTokens(family: Family, media: Media, context: number | null): number {
  const atMost = context ?? Number.POSITIVE_INFINITY
  switch (media.kind) {
    case 'audio':
      if (media.seconds === null) return Math.min(atMost, unknownSeconds * family.audioPerSecond)
      return Math.ceil(media.seconds * family.audioPerSecond) + 16
    case 'file':
      return media.textBytes ?? Math.min(atMost, unknownFile)
    case 'image':
      return imageTokens(family.image, media.width, media.height, media.low)
  }
}

function imageTokens(rule: ImageRule, width: number | null, height: number | null, low: boolean): number {
  const unsized = width === null || height === null
  switch (rule.by) {
    case 'tiles':
      if (low) return rule.base
      return rule.base + rule.tile * (unsized ? mostTiles : tilesOf(width, height))
    case 'patches': {
      const count = unsized ? rule.most : Math.min(rule.most, Math.ceil(width / 32) * Math.ceil(height / 32))
      return Math.ceil(count * rule.factor)
    }
    case 'area': {
      const count = unsized ? rule.most : Math.ceil((width * height) / rule.divisor)
      return Math.max(rule.least, Math.min(rule.most, count))
    }
    case 'crops':
      return Math.max(rule.least, unsized ? mostCrops * 258 : Math.min(mostCrops, cropsOf(width, height)) * 258)
  }
}

/** 768 x 2048 in squares of 512. */
const mostTiles = 8
/** 3072 x 3072 in squares of 768. */
const mostCrops = 16

function tilesOf(width: number, height: number): number {
  const fit = Math.min(1, 2048 / Math.max(width, height))
  const shrink = Math.min(1, 768 / (Math.min(width, height) * fit))
  const across = (side: number) => Math.max(1, Math.ceil((side * fit * shrink) / 512 - 1e-9))
  return across(width) * across(height)
}

function cropsOf(width: number, height: number): number {
  if (width <= 384 && height <= 384) return 1
  const unit = Math.min(768, Math.max(256, Math.floor(Math.min(width, height) / 1.5)))
  return Math.ceil(width / unit) * Math.ceil(height / unit)
}

/**
 * The most tokens a request can be, at once. No tokenizer makes more tokens than the text has bytes, and the syntax of
 * the body is more than what a vendor puts around each message; what it adds to a request as a whole comes on top.
 *
 * @param context tokens the model takes at all, or null
 */
export function byteBound({ facts, kind }: LlmCall, model: string, context: number | null): number {
  const family = familyOf(model)
  const around = kind === 'chat' ? family.fixed + (facts.tools === 0 ? 0 : family.withTools) : 0
  return facts.textBytes + around + mediaOf(facts, family, context)
}

export function mediaOf({ media }: LlmFacts, family: Family, context: number | null): number {
  return media.reduce((sum, part) => sum + mediaTokens(family, part, context), 0)
}
