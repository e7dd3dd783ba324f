/**
 * The thread that counts tokens: an encoding takes most of a second to load and a long text some tenths to count, and
 * the thread that serves requests must not wait. Imports nothing of ours, so that it loads alone.
 * @module
 */
import { parentPort } from 'node:worker_threads'

/** One question. */
export interface Question {
  readonly encoding: 'o200k_base' | 'cl100k_base'
  readonly texts: readonly string[]
}

/** null: the encoding could not count it. */
export type Reply = number | null

type Count = (text: string) => number

// A special token's name inside a text is text: it must neither be refused nor count as one.
const plain = { disallowedSpecial: new Set<string>() }

const load: Readonly<Record<Question['encoding'], () => Promise<Count>>> = {
  async o200k_base() {
    const { countTokens } = await import('gpt-tokenizer/encoding/o200k_base')
    return (text) => countTokens(text, plain)
  },
  async cl100k_base() {
    const { countTokens } = await import('gpt-tokenizer/encoding/cl100k_base')
    return (text) => countTokens(text, plain)
  },
}
const loaded = new Map<Question['encoding'], Promise<Count>>()

async function answer({ encoding, texts }: Question): Promise<Reply> {
  try {
    let loading = loaded.get(encoding)
    if (loading === undefined) {
      loading = load[encoding]()
      loaded.set(encoding, loading)
    }
    const count = await loading
    return texts.reduce((sum, text) => sum + count(text), 0)
  } catch {
    return null
  }
}

const port = parentPort
if (port === null) throw new Error('this file is the token counting thread and is started by counter.ts')
port.on('message', (question: Question) => {
  void answer(question).then((reply) => port.postMessage(reply))
})
