/** Counting in a thread: exact where the encoding is public, an upper bound elsewhere, and never in anybody's way. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { pathToFileURL } from 'node:url'
import fc from 'fast-check'
import { countTokens as cl100k } from 'gpt-tokenizer/encoding/cl100k_base'
import { countTokens as o200k } from 'gpt-tokenizer/encoding/o200k_base'
import { createTokenCounter } from '../../src/tokens/counter.ts'
import { familyOf } from '../../src/tokens.ts'

const plain = { disallowedSpecial: new Set<string>() }
const gpt = familyOf('gpt-4o')
const older = familyOf('gpt-4-turbo')
const stranger = familyOf('some-model-of-theirs')

/** Loading an encoding takes long on a busy machine; these tests are about something else. */
const patient = { patienceMs: 60_000 }

const samples: Readonly<Record<string, string>> = {
  prose: 'The gates open slowly, and quietly the rest of the household follows them home. '.repeat(20),
  code: 'export const sum = (xs: readonly number[]) =>\n  xs.reduce((a, b) => a + b, 0) // 100% plain\n'.repeat(20),
  emoji: '🙂🏳️‍🌈👩‍👩‍👧‍👦🇳🇴 ok 👍🏽'.repeat(20),
  cjk: '網關緩緩打開，其餘的人安靜地跟隨回家。東京都庁の門が開く。'.repeat(20),
  base64: Buffer.from(Array.from({ length: 600 }, (_, i) => (i * 7919) % 256)).toString('base64'),
  digits: '31415926535897932384626433832795028841971 '.repeat(20),
  spaces: ' \t\n\r'.repeat(300),
  repeated: 'a'.repeat(8000),
  special: '<|endoftext|><|im_start|>system<|im_end|>',
  empty: '',
}

describe('the token counter', () => {
  const counter = createTokenCounter(patient)
  after(() => counter.close())

  it("counts OpenAI's encodings exactly, special tokens as the text they are", async () => {
    for (const [name, text] of Object.entries(samples)) {
      assert.equal(await counter.count(gpt, [text]), o200k(text, plain), name)
      assert.equal(await counter.count(older, [text, text]), 2 * cl100k(text, plain), name)
    }
  })

  it('raises the count for families whose encoding is not public, and never above what bytes allow by much', async () => {
    for (const [name, text] of Object.entries(samples)) {
      const counted = (await counter.count(stranger, [text])) as number
      assert.ok(counted >= 2 * cl100k(text, plain), name)
    }
    // Every digit may be a token.
    const digits = samples.digits as string
    assert.ok(((await counter.count(familyOf('qwen3-32b'), [digits])) as number) >= digits.replaceAll(' ', '').length)
  })

  it('answers many questions at once, each its own', async () => {
    const texts = Array.from({ length: 40 }, (_, i) => 'word '.repeat(i))
    const counts = await Promise.all(texts.map((text) => counter.count(gpt, [text])))
    assert.deepEqual(
      counts,
      texts.map((text) => o200k(text, plain)),
    )
  })

  it('lets everything else go on meanwhile', async () => {
    let turns = 0
    let counting = true
    const others = (async () => {
      while (counting) {
        await new Promise(setImmediate)
        turns++
      }
    })()
    const text = Array.from({ length: 40_000 }, (_, i) => `${i.toString(36)} `).join('')
    assert.ok(((await counter.count(gpt, [text])) as number) > 40_000)
    counting = false
    await others
    assert.ok(turns > 10, String(turns))
  })

  it('leaves texts alone that are too long', async () => {
    assert.equal(await counter.count(gpt, ['x'.repeat(300_000), 'y'.repeat(300_000)]), null)
  })
})

describe('a text has at least as many bytes as tokens', () => {
  const bytes = (text: string) => Buffer.byteLength(text)
  const texts = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 400 }),
    fc.string({ unit: 'grapheme', maxLength: 400 }),
    fc.string({ unit: fc.constantFrom(...Object.values(samples).flatMap((text) => [...text])), maxLength: 400 }),
    fc.base64String({ maxLength: 400 }),
    fc.json(),
    fc.constantFrom(...Object.values(samples)),
  )
  it('whatever the text', () => {
    fc.assert(
      fc.property(texts, (text) => {
        assert.ok(bytes(text) >= o200k(text, plain))
        assert.ok(bytes(text) >= cl100k(text, plain))
      }),
      { numRuns: 2000 },
    )
  })
})

describe('a counting thread that fails', () => {
  const folder = mkdtempSync(join(tmpdir(), 'gatehouse-counter-'))
  after(() => rmSync(folder, { recursive: true, force: true }))
  const program = (name: string, text: string) => {
    const path = join(folder, `${name}.mjs`)
    writeFileSync(path, `import { parentPort } from 'node:worker_threads'\n${text}\n`)
    return pathToFileURL(path)
  }

  it('and crashes is no answer, and a new one serves the next question', async () => {
    const text =
      "parentPort.on('message', ({ texts }) => { if (texts[0] === 'crash') process.exit(1); parentPort.postMessage(5) })"
    const counter = createTokenCounter({ ...patient, program: program('crash', text) })
    const answers = await Promise.all(['crash', 'ok', 'crash', 'ok'].map((word) => counter.count(gpt, [word])))
    assert.deepEqual(answers, [null, 5, null, 5])
    await counter.close()
  })

  it('and does not even start is no answer', async () => {
    const counter = createTokenCounter({ ...patient, program: program('broken', 'throw new Error()') })
    assert.deepEqual([await counter.count(gpt, ['a']), await counter.count(gpt, ['b'])], [null, null])
    await counter.close()
  })

  it('and never answers costs the asker its patience and no more', async () => {
    const text = "parentPort.on('message', ({ texts }) => { if (texts[0] !== 'stuck') parentPort.postMessage(1) })"
    const counter = createTokenCounter({ patienceMs: 400, program: program('stuck', text) })
    // The first question may still be loading when patience ends; ask until it is there.
    while ((await counter.count(gpt, ['warm'])) === null);
    const answers = await Promise.all(['stuck', 'waits behind it'].map((word) => counter.count(gpt, [word])))
    assert.deepEqual(answers, [null, null])
    // The stuck thread was put away.
    while ((await counter.count(gpt, ['again'])) === null);
    await counter.close()
  })

  it('is not asked more than it can queue', async () => {
    const counter = createTokenCounter({
      ...patient,
      maxWaiting: 2,
      program: program('silent', "parentPort.on('message', () => {})"),
    })
    const asked = ['running', 'one', 'two', 'refused'].map((word) => counter.count(gpt, [word]))
    assert.equal(await asked[3], null)
    await counter.close()
    assert.deepEqual(await Promise.all(asked), [null, null, null, null])
    assert.equal(await counter.count(gpt, ['closed']), null)
  })
})
