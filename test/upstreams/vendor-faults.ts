/**
 * What a model name asks the scripted vendor to do. A name is a list of parts joined by `+`, for example
 * `crlf+no-done` or `status-429+retry-after-2+times-1`; the table below is the whole vocabulary.
 * @module
 */

/** Everything that can differ from a plain good answer. */
export interface Behaviour {
  /** The rest applies to the first N requests of this model name only; later ones are answered well. */
  times: number
  // Before the body.
  status: number
  code: string | null
  retryAfter: string | null
  retryAfterMs: string | null
  reset: boolean
  slowHeadersMs: number
  hints: number
  redirect: boolean
  contentType: string | null
  html: boolean
  gzip: boolean
  vendorFields: boolean
  trailers: boolean
  // What the answer says.
  tokens: number | null
  echo: boolean
  toolCall: boolean
  ignoresCap: boolean
  choices: number | null
  usage: 'right' | 'none' | 'zero' | 'string'
  usageNumbers: readonly [number, number] | null
  usageTimes: number
  usageWhere: 'last' | 'finish' | 'every'
  usageSplit: boolean
  cached: number
  reasoning: number
  /** Heard and spoken. */
  audio: readonly [number, number]
  /** Written to a cache, and of that for long. */
  written: readonly [number, number]
  // How a stream goes.
  crlf: boolean
  done: boolean
  finish: boolean
  empty: boolean
  pingsOnly: boolean
  endless: boolean
  errorAfter: number | null
  hugeEvent: number
  badJson: boolean
  slowFirstMs: number
  dripMs: number
  /** Sends this many tokens, then waits for `release()`. */
  holdAfter: number | null
  /** Sends this many tokens, then nothing more, ever. 0 is: headers, then silence. */
  stallAfter: number | null
  /** How the body ends after `cutAt` bytes. */
  cut: 'close' | 'reset' | 'end' | null
  cutAt: number
  splitAt: number
  closeDelimited: boolean
}

/** A plain good answer. */
export function good(): Behaviour {
  return {
    times: Number.POSITIVE_INFINITY,
    status: 200,
    code: null,
    retryAfter: null,
    retryAfterMs: null,
    reset: false,
    slowHeadersMs: 0,
    hints: 0,
    redirect: false,
    contentType: null,
    html: false,
    gzip: false,
    vendorFields: false,
    trailers: false,
    tokens: null,
    echo: false,
    toolCall: false,
    ignoresCap: false,
    choices: null,
    usage: 'right',
    usageNumbers: null,
    usageTimes: 1,
    usageWhere: 'last',
    usageSplit: false,
    cached: 0,
    reasoning: 0,
    audio: [0, 0],
    written: [0, 0],
    crlf: false,
    done: true,
    finish: true,
    empty: false,
    pingsOnly: false,
    endless: false,
    errorAfter: null,
    hugeEvent: 0,
    badJson: false,
    slowFirstMs: 0,
    dripMs: 0,
    holdAfter: null,
    stallAfter: null,
    cut: null,
    cutAt: 0,
    splitAt: 0,
    closeDelimited: false,
  }
}

const forever = 2 ** 31 - 1

type Change = (one: number, two: number, text: string) => Partial<Behaviour>
type Part = readonly [pattern: RegExp, change: Change]

const parts: readonly Part[] = [
  [/^ok$/, () => ({})],
  [/^times-(\d+)$/, (n) => ({ times: n })],

  [/^status-(\d{3})$/, (n) => ({ status: n })],
  // The `code` inside an error body, such as code-context_length_exceeded.
  [/^code-([a-z_]+)$/, (_n, _m, text) => ({ code: text })],
  [/^retry-after-(\d+)$/, (_n, _m, text) => ({ retryAfter: text })],
  [/^retry-after-date$/, () => ({ retryAfter: new Date(Date.now() + 2000).toUTCString() })],
  [/^retry-after-negative$/, () => ({ retryAfter: '-5' })],
  [/^retry-after-garbage$/, () => ({ retryAfter: 'soon' })],
  [/^retry-after-ms-(\d+)$/, (_n, _m, text) => ({ retryAfterMs: text })],
  // Connection reset before any byte of an answer.
  [/^rst$/, () => ({ reset: true })],
  [/^slow-headers$/, () => ({ slowHeadersMs: forever })],
  [/^slow-headers-(\d+)$/, (n) => ({ slowHeadersMs: n })],
  // N informational answers (102) first.
  [/^hints-(\d+)$/, (n) => ({ hints: n })],
  [/^redirect$/, () => ({ redirect: true })],
  // The right body under the wrong content type; `html` is a page of a proxy in between.
  [/^wrong-type$/, () => ({ contentType: 'text/plain' })],
  [/^html$/, () => ({ html: true })],
  [/^gzip$/, () => ({ gzip: true })],
  [/^unknown-fields$/, () => ({ vendorFields: true })],
  [/^trailers$/, () => ({ trailers: true })],

  [/^long-(\d+)$/, (n) => ({ tokens: n })],
  [/^echo$/, () => ({ echo: true })],
  [/^tool-call$/, () => ({ toolCall: true })],
  [/^ignores-cap$/, () => ({ ignoresCap: true })],
  // More answers than asked for.
  [/^n-choices$/, () => ({ choices: 2 })],
  [/^choices-(\d+)$/, (n) => ({ choices: n })],
  [/^no-usage$/, () => ({ usage: 'none' })],
  [/^zero-usage$/, () => ({ usage: 'zero' })],
  // Counts written as JSON strings.
  [/^usage-string$/, () => ({ usage: 'string' })],
  [/^usage-(\d+)-(\d+)$/, (n, m) => ({ usageNumbers: [n, m] })],
  [/^usage-twice$/, () => ({ usageTimes: 2 })],
  // In the chunk that carries finish_reason; in every chunk, counting up.
  [/^usage-finish$/, () => ({ usageWhere: 'finish' })],
  [/^usage-every$/, () => ({ usageWhere: 'every' })],
  // The usage event reaches the reader in two pieces, cut inside the word "usage".
  [/^usage-split$/, () => ({ usageSplit: true })],
  [/^cached-(\d+)$/, (n) => ({ cached: n })],
  [/^reasoning-(\d+)$/, (n) => ({ reasoning: n })],
  [/^audio-(\d+)-(\d+)$/, (n, m) => ({ audio: [n, m] })],
  [/^written-(\d+)-(\d+)$/, (n, m) => ({ written: [n, m] })],

  [/^crlf$/, () => ({ crlf: true })],
  [/^no-done$/, () => ({ done: false })],
  [/^no-finish$/, () => ({ finish: false })],
  [/^empty-stream$/, () => ({ empty: true })],
  [/^pings-only$/, () => ({ pingsOnly: true })],
  [/^endless$/, () => ({ endless: true })],
  [/^error-first$/, () => ({ errorAfter: 0 })],
  [/^error-after-(\d+)$/, (n) => ({ errorAfter: n })],
  [/^huge-event$/, () => ({ hugeEvent: 2 * 1024 * 1024 })],
  [/^huge-event-(\d+)$/, (n) => ({ hugeEvent: n })],
  // A whole body cut short; in a stream, one event (the third) that is no JSON among good ones.
  [/^bad-json$/, () => ({ badJson: true })],
  [/^slow-first-(\d+)$/, (n) => ({ slowFirstMs: n })],
  [/^drip-(\d+)$/, (n) => ({ dripMs: n })],
  [/^hold$/, () => ({ holdAfter: 1 })],
  [/^hold-(\d+)$/, (n) => ({ holdAfter: n })],
  [/^stall$/, () => ({ stallAfter: 0 })],
  [/^stall-(\d+)$/, (n) => ({ stallAfter: n })],
  // After N bytes of the body: the connection closes; it is reset; or the response ends as if it were complete.
  [/^cut-(\d+)$/, (n) => ({ cut: 'close', cutAt: n })],
  [/^rst-(\d+)$/, (n) => ({ cut: 'reset', cutAt: n })],
  [/^fin-(\d+)$/, (n) => ({ cut: 'end', cutAt: n })],
  [/^split-(\d+)$/, (n) => ({ splitAt: n })],
  // No length and no chunks: the end of the connection is the end of the body.
  [/^close-delimited$/, () => ({ closeDelimited: true })],
]

/**
 * Reads a model name.
 *
 * @returns the behaviour; a name without any known part (a real model's name) is answered well
 * @throws {Error} naming the unknown part, when only some parts are known: a typing error in a test must not pass
 */
export function behaviour(model: string): Behaviour {
  const result = good()
  const unknown: string[] = []
  let known = 0
  for (const part of model.split('+')) {
    const found = parts.find(([pattern]) => pattern.test(part))
    if (found === undefined) {
      unknown.push(part)
      continue
    }
    known += 1
    const [, one = '', two = ''] = found[0].exec(part) ?? []
    Object.assign(result, found[1](Number(one), Number(two), one))
  }
  if (known > 0 && unknown.length > 0) throw new Error(`the scripted vendor does not know "${unknown.join('", "')}"`)
  return result
}
