/** The nouns of tokens: how many an attempt used, by kind, and what counts as tokens without being text. @module */

/** Token counts of one attempt. `source` says who counted. */
export interface Usage {
  /** Everything read, tokens from and to a cache and audio included. */
  readonly input: number
  /** Everything written, reasoning and audio included. */
  readonly output: number
  readonly cacheRead: number
  readonly cacheWrite: number
  /** Of `cacheWrite`: what was written for longer than usual. */
  readonly cacheWriteLong: number
  /** Of `output`. */
  readonly reasoning: number
  /** Of `input`. */
  readonly audioInput: number
  /** Of `output`. */
  readonly audioOutput: number
  readonly source: 'provider' | 'estimated' | 'none'
}

export const noUsage: Usage = Object.freeze({
  input: 0,
  output: 0,
  cacheRead: 0,
  cacheWrite: 0,
  cacheWriteLong: 0,
  reasoning: 0,
  audioInput: 0,
  audioOutput: 0,
  source: 'none',
})

/** A part of a message that is not text, as far as its token count depends on it. */
export type Media =
  /** Sizes in pixels; null where they cannot be told (a remote image, an unknown format). */
  | { readonly kind: 'image'; readonly width: number | null; readonly height: number | null; readonly low: boolean }
  /** null where only the vendor can tell. */
  | { readonly kind: 'audio'; readonly seconds: number | null }
  /** Bytes of text in a text file; null for anything else (PDF, video, an uploaded file's id). */
  | { readonly kind: 'file'; readonly textBytes: number | null }
