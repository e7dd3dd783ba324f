/**
 * Asking the counting thread: started with the first question, one question at a time, a bounded queue. Whatever goes
 * wrong there, the answer is null and the caller keeps the bound it has.
 * @module
 */
import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import { type Encoding, type Family, longestCounted, type TokenCounter } from '../tokens.ts'
import type { Question, Reply } from './worker.ts'

export interface CounterOptions {
  /** Longest wait for an answer, the queue included, ms. */
  readonly patienceMs?: number
  /** Questions waiting at the same time. */
  readonly maxWaiting?: number
  /** The thread's program; tests put a broken one here. */
  readonly program?: URL
}

interface Job {
  readonly question: Question
  /** Gives the caller its answer, once. */
  settle(reply: Reply): void
  settled: boolean
}

/** An encoding that loads for this long never will. */
const loadingMs = 30_000

export function createTokenCounter(options: CounterOptions = {}): TokenCounter {
  const { patienceMs = 2_000, maxWaiting = 64 } = options
  const program = options.program ?? new URL(`./worker${extname(import.meta.url)}`, import.meta.url)
  const waiting: Job[] = []
  /** Encodings that have answered: from then on slowness is the text's. */
  const warm = new Set<Encoding>()
  let thread: Worker | null = null
  let running: Job | null = null
  let watch: NodeJS.Timeout | null = null
  let closed = false

  function start(): Worker {
    const started = new Worker(program, { resourceLimits: { maxOldGenerationSizeMb: 512 } })
    started.on('message', (reply: Reply) => {
      if (started !== thread || running === null) return
      if (reply !== null) warm.add(running.question.encoding)
      finish(reply)
    })
    const lost = () => {
      if (started === thread) abandon()
    }
    started.on('error', lost)
    started.on('exit', lost)
    return started
  }

  /** The thread is gone or not worth waiting for; the next question gets a new one. */
  function abandon(): void {
    const old = thread
    thread = null
    warm.clear()
    void old?.terminate()
    finish(null)
  }

  function finish(reply: Reply): void {
    if (watch !== null) clearTimeout(watch)
    watch = null
    const done = running
    running = null
    done?.settle(reply)
    next()
  }

  function next(): void {
    if (running !== null) return
    let job = waiting.shift()
    while (job?.settled === true) job = waiting.shift()
    if (job === undefined || closed) {
      // An idle thread must not keep the process alive.
      thread?.unref()
      return
    }
    running = job
    thread ??= start()
    thread.ref()
    watch = setTimeout(abandon, warm.has(job.question.encoding) ? patienceMs : loadingMs)
    thread.postMessage(job.question)
  }

  return {
    count(family: Family, texts: readonly string[]): Promise<number | null> {
      const length = texts.reduce((sum, text) => sum + text.length, 0)
      if (closed || length > longestCounted || waiting.length >= maxWaiting) return Promise.resolve(null)
      return new Promise((resolve) => {
        const job: Job = {
          question: { encoding: family.encoding, texts },
          settled: false,
          settle(reply) {
            if (job.settled) return
            job.settled = true
            clearTimeout(patience)
            resolve(reply === null ? null : raised(family, reply, texts))
          },
        }
        const patience = setTimeout(() => job.settle(null), patienceMs)
        waiting.push(job)
        next()
      })
    },

    async close() {
      closed = true
      const old = thread
      thread = null
      for (const job of waiting.splice(0)) job.settle(null)
      finish(null)
      await old?.terminate()
    },
  }
}

function raised({ margin, digits }: Family, count: number, texts: readonly string[]): number {
  return Math.ceil(count * margin) + (digits ? digitsIn(texts) : 0)
}

function digitsIn(texts: readonly string[]): number {
  let found = 0
  for (const text of texts) {
    for (let i = 0; i < text.length; i++) {
      const unit = text.charCodeAt(i)
      if (unit >= 0x30 && unit <= 0x39) found++
    }
  }
  return found
}
