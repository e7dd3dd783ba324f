import assert from 'node:assert/strict'
import { request } from 'node:http'
import { after, afterEach, before, describe, it } from 'node:test'
import { gunzipSync } from 'node:zlib'
import OpenAI, { APIConnectionError, APIError, RateLimitError } from 'openai'
import { startVendor, type Vendor } from './vendor.ts'
import { text, tokens } from './vendor-answers.ts'
import { behaviour } from './vendor-faults.ts'

const messages = [{ role: 'user' as const, content: 'tell me a story' }]

let vendor: Vendor
let client: OpenAI

before(async () => {
  vendor = await startVendor({ models: ['ok', 'echo'] })
  client = new OpenAI({ apiKey: 'sk-test', baseURL: `${vendor.url}/v1`, maxRetries: 0 })
})
after(() => vendor.close())
afterEach(() => vendor.reset())

/** What a streaming caller sees: the text, the last finish reason and the usage. */
async function stream(model: string, more: Partial<OpenAI.ChatCompletionCreateParamsStreaming> = {}) {
  const chunks = await client.chat.completions.create({
    model,
    messages,
    stream: true,
    stream_options: { include_usage: true },
    ...more,
  })
  const seen = { text: '', finish: null as string | null, usage: null as OpenAI.CompletionUsage | null, usages: 0 }
  for await (const chunk of chunks) {
    seen.text += chunk.choices[0]?.delta.content ?? ''
    seen.finish = chunk.choices[0]?.finish_reason ?? seen.finish
    if (chunk.usage !== null && chunk.usage !== undefined) {
      seen.usage = chunk.usage
      seen.usages += 1
    }
  }
  return seen
}

interface Raw {
  readonly status: number
  readonly headers: readonly string[]
  readonly parts: readonly Buffer[]
  readonly body: Buffer
  /** The body ended as HTTP says it must. */
  readonly complete: boolean
}

/** The answer as bytes, read to its end, however it ends. */
function raw(model: string, body: object = {}): Promise<Raw> {
  return new Promise((resolve, reject) => {
    const sent = request(`${vendor.url}/v1/chat/completions`, { method: 'POST', agent: false }, (incoming) => {
      const parts: Buffer[] = []
      incoming.on('data', (part: Buffer) => parts.push(part))
      incoming.on('error', () => {})
      incoming.on('close', () =>
        resolve({
          status: incoming.statusCode ?? 0,
          headers: incoming.rawHeaders,
          parts,
          body: Buffer.concat(parts),
          complete: incoming.complete,
        }),
      )
    })
    sent.on('error', reject)
    sent.end(JSON.stringify({ model, messages, ...body }))
  })
}

const streamed = { stream: true, stream_options: { include_usage: true } }

describe('the scripted vendor as a good provider', () => {
  it('answers a chat with usage that matches the text', async () => {
    const reply = await client.chat.completions.create({ model: 'ok', messages })
    assert.equal(reply.choices[0]?.message.content, text())
    assert.equal(reply.choices[0]?.finish_reason, 'stop')
    assert.equal(reply.usage?.prompt_tokens, 4)
    assert.equal(reply.usage?.completion_tokens, tokens().length)
    assert.equal(reply.usage?.total_tokens, 4 + tokens().length)
  })

  it('answers under the name of a real model', async () => {
    const reply = await client.chat.completions.create({ model: 'gpt-5-mini', messages })
    assert.equal(reply.model, 'gpt-5-mini')
  })

  it('streams the same text, and usage only to those who ask', async () => {
    const asked = await stream('ok')
    assert.deepEqual([asked.text, asked.finish, asked.usage?.completion_tokens], [text(), 'stop', tokens().length])
    const silent = await stream('ok', { stream_options: null })
    assert.deepEqual([silent.text, silent.usage], [text(), null])
  })

  it('satisfies the strict streaming helper of the SDK', async () => {
    const final = await client.chat.completions.stream({ model: 'ok', messages }).finalChatCompletion()
    assert.equal(final.choices[0]?.message.content, text())
  })

  it('keeps to max_tokens and max_completion_tokens, and says so', async () => {
    for (const cap of [{ max_tokens: 3 }, { max_completion_tokens: 3 }]) {
      const reply = await client.chat.completions.create({ model: 'ok', messages, ...cap })
      assert.equal(reply.choices[0]?.message.content, text(3))
      assert.equal(reply.choices[0]?.finish_reason, 'length')
      assert.equal(reply.usage?.completion_tokens, 3)
    }
    assert.equal((await stream('ok', { max_tokens: 3 })).finish, 'length')
    assert.equal((await stream('ignores-cap', { max_tokens: 3 })).text, text())
  })

  it('gives n answers and counts them all', async () => {
    const reply = await client.chat.completions.create({ model: 'long-5', messages, n: 3 })
    assert.deepEqual([reply.choices.length, reply.usage?.completion_tokens], [3, 15])
    const unasked = await client.chat.completions.create({ model: 'n-choices', messages })
    assert.equal(unasked.choices.length, 2)
  })

  it('calls the tool it was offered, whole and in pieces', async () => {
    const parameters = { type: 'object', properties: { city: { type: 'string' } } }
    const tools = [{ type: 'function' as const, function: { name: 'forecast', parameters } }]
    const whole = await client.chat.completions.create({ model: 'tool-call', messages, tools })
    const pieces = await client.chat.completions.stream({ model: 'tool-call', messages, tools }).finalChatCompletion()
    for (const reply of [whole, pieces]) {
      const [call] = reply.choices[0]?.message.tool_calls ?? []
      assert.ok(call?.type === 'function')
      assert.deepEqual([call.function.name, call.function.arguments], ['forecast', '{"city":"Oslo"}'])
      assert.equal(reply.choices[0]?.finish_reason, 'tool_calls')
    }
  })

  it('answers plain completions, whole and streamed', async () => {
    const reply = await client.completions.create({ model: 'ok', prompt: 'tell me' })
    assert.deepEqual([reply.choices[0]?.text, reply.usage?.prompt_tokens], [text(), 2])
    let seen = ''
    for await (const chunk of await client.completions.create({ model: 'ok', prompt: 'tell me', stream: true }))
      seen += chunk.choices[0]?.text ?? ''
    assert.equal(seen, text())
  })

  it('gives the same embedding as floats and as base64', async () => {
    const input = ['one two', 'three']
    const floats = await client.embeddings.create({ model: 'ok', input, encoding_format: 'float' })
    const packed = await client.embeddings.create({ model: 'ok', input })
    assert.match(vendor.requests[1]?.body.toString() ?? '', /"encoding_format":"base64"/)
    assert.deepEqual(packed.data, floats.data)
    assert.equal(floats.usage.prompt_tokens, 3)
    assert.notDeepEqual(floats.data[0]?.embedding, floats.data[1]?.embedding)
  })

  it('lists its models', async () => {
    const list = await client.models.list()
    assert.deepEqual(
      list.data.map((model) => model.id),
      ['ok', 'echo'],
    )
  })

  it('refuses what is no request', async () => {
    const answer = await fetch(`${vendor.url}/v1/chat/completions`, { method: 'POST', body: '{"model":' })
    assert.equal(answer.status, 400)
    await answer.body?.cancel()
  })
})

describe('what the scripted vendor remembers', () => {
  it('keeps each request as raw bytes and returns them as an echo', async () => {
    const body = Buffer.from('{ "model":"echo",  "x":1.0, "messages":[{"role":"user","content":"h\\u00e9 🙂"}] }')
    const answer = await fetch(`${vendor.url}/v1/chat/completions?a=b`, { method: 'POST', body })
    const reply = (await answer.json()) as OpenAI.ChatCompletion
    assert.equal(reply.choices[0]?.message.content, body.toString())
    const [kept] = vendor.requests
    assert.deepEqual(kept?.body, body)
    assert.deepEqual([kept?.method, kept?.path, kept?.model], ['POST', '/v1/chat/completions?a=b', 'echo'])
    assert.equal(kept?.header('Content-Length'), String(body.length))
  })

  it('tells when a caller hung up, and stops sending', async () => {
    const chunks = await client.chat.completions.create({ model: 'endless', messages, stream: true })
    for await (const _ of chunks) break
    const left = await vendor.until((request) => request.over)
    assert.ok(left.aborted)
    assert.ok(left.bytesSent > 0)
  })

  it('does not call its own cut a hang-up', async () => {
    await raw('cut-100', streamed)
    const cut = await vendor.until((request) => request.over)
    assert.deepEqual([cut.aborted, cut.bytesSent], [false, 100])
  })

  it('misbehaves a given number of times, then answers', async () => {
    await assert.rejects(client.chat.completions.create({ model: 'status-500+times-1', messages }), APIError)
    const reply = await client.chat.completions.create({ model: 'status-500+times-1', messages })
    assert.equal(reply.choices[0]?.message.content, text())
  })

  it('does what a script says', async () => {
    vendor.script('primary', (_, count) => (count === 0 ? 'status-503' : 'long-1'))
    vendor.script('own', (_request, _count, response) => {
      response.writeHead(418).end()
      return undefined
    })
    assert.equal((await raw('primary')).status, 503)
    assert.equal((await raw('primary')).status, 200)
    assert.equal((await raw('own')).status, 418)
  })

  it('refuses a misspelt behaviour', () => {
    assert.throws(() => behaviour('crlf+no-dnoe'), /no-dnoe/)
  })
})

describe('what the scripted vendor gets wrong on request', () => {
  it('answers with the status asked for', async () => {
    for (const status of [400, 401, 403, 404, 422, 500, 503, 529]) {
      await assert.rejects(client.chat.completions.create({ model: `status-${status}`, messages }), { status })
    }
    const model = 'status-400+code-context_length_exceeded'
    await assert.rejects(client.chat.completions.create({ model, messages }), { code: 'context_length_exceeded' })
  })

  it('says when to come back in every way there is', async () => {
    const said = async (model: string) => {
      const error: unknown = await client.chat.completions.create({ model, messages }).then(
        () => null,
        (reason: unknown) => reason,
      )
      assert.ok(error instanceof RateLimitError)
      return error.headers?.get('retry-after') ?? null
    }
    assert.equal(await said('status-429'), null)
    assert.equal(await said('status-429+retry-after-2'), '2')
    assert.equal(await said('status-429+retry-after-1000000000'), '1000000000')
    assert.equal(await said('status-429+retry-after-negative'), '-5')
    assert.equal(await said('status-429+retry-after-garbage'), 'soon')
    assert.ok(Date.parse((await said('status-429+retry-after-date')) ?? '') > 0)
  })

  it('breaks the connection before an answer', async () => {
    await assert.rejects(client.chat.completions.create({ model: 'rst', messages }), APIConnectionError)
  })

  it('cuts a stream at exactly the byte asked for, with and without a proper end of the body', async () => {
    const { body: whole } = await raw('ok', streamed)
    for (const at of [0, 1, 200, whole.length - 1]) {
      const cut = await raw(`cut-${at}`, streamed)
      assert.deepEqual([cut.body.length, cut.complete], [at, false])
      const ended = await raw(`fin-${at}`, streamed)
      assert.deepEqual([ended.body.length, ended.complete], [at, true])
    }
    // A reset may even overtake the headers.
    const reset = await raw('rst-200', streamed).catch(() => null)
    assert.ok(reset === null || (!reset.complete && reset.body.length <= 200))
    assert.equal((await raw(`cut-${whole.length + 1000}`, streamed)).complete, true)
  })

  it('can end a body with the connection alone', async () => {
    const { headers, body } = await raw('close-delimited', streamed)
    assert.ok(!headers.some((item) => /^(transfer-encoding|content-length)$/i.test(item)))
    assert.match(body.toString(), /\[DONE\]\n\n$/)
  })

  it('falls silent after the headers, or after some tokens', async () => {
    for (const [model, expected] of [
      ['stall', ''],
      ['stall-2', text(2)],
    ] as const) {
      const controller = new AbortController()
      let seen = ''
      const chunks = await client.chat.completions.create(
        { model, messages, stream: true },
        { signal: controller.signal },
      )
      const reading = (async () => {
        for await (const chunk of chunks) {
          seen += chunk.choices[0]?.delta.content ?? ''
          if (seen === expected) controller.abort()
        }
      })()
      if (expected === '') controller.abort()
      await reading.catch(() => {})
      assert.equal(seen, expected)
      assert.ok((await vendor.until((request) => request.model === model && request.over)).aborted)
    }
  })

  it('keeps even the headers back', async () => {
    const controller = new AbortController()
    const waiting = client.chat.completions.create({ model: 'slow-headers', messages }, { signal: controller.signal })
    await vendor.until((request) => request.model === 'slow-headers')
    controller.abort()
    await assert.rejects(waiting)
    assert.ok((await vendor.until((request) => request.over)).aborted)
  })

  it('holds a stream until it is released', async () => {
    const chunks = await client.chat.completions.create({ model: 'hold', messages, stream: true })
    let seen = ''
    for await (const chunk of chunks) {
      seen += chunk.choices[0]?.delta.content ?? ''
      if (seen === text(1)) vendor.release()
    }
    assert.equal(seen, text())
  })

  it('reports an error inside a stream that began well', async () => {
    await assert.rejects(stream('error-first'), APIError)
    await assert.rejects(stream('error-after-3'), APIError)
    const { body } = await raw('error-after-3', streamed)
    assert.equal(body.toString().match(/"content":"[^"]/g)?.length, 3)
    assert.doesNotMatch(body.toString(), /\[DONE\]/)
  })

  it('leaves out the end, or the reason, or everything', async () => {
    assert.doesNotMatch((await raw('no-done', streamed)).body.toString(), /\[DONE\]/)
    assert.equal((await stream('no-done')).finish, 'stop')
    assert.equal((await stream('no-finish')).finish, null)
    assert.equal((await raw('empty-stream', streamed)).body.length, 0)
  })

  it('sends pings and nothing else', async () => {
    const answer = await fetch(`${vendor.url}/v1/chat/completions`, {
      method: 'POST',
      body: JSON.stringify({ model: 'pings-only', messages, stream: true }),
    })
    const reader = answer.body?.getReader()
    const first = await reader?.read()
    assert.equal(Buffer.from(first?.value ?? []).toString(), ': ping\n\n')
    await reader?.cancel()
    await vendor.until((request) => request.over)
  })

  it('counts wrongly in every way asked for', async () => {
    assert.equal((await stream('no-usage')).usage, null)
    assert.equal((await stream('zero-usage')).usage?.total_tokens, 0)
    assert.equal((await stream('usage-7-9')).usage?.total_tokens, 16)
    assert.equal(typeof (await stream('usage-string')).usage?.prompt_tokens, 'string')
    assert.equal((await stream('usage-twice')).usages, 2)
    assert.equal((await stream('usage-every')).usage?.completion_tokens, tokens().length)
    assert.equal((await stream('usage-finish')).usages, 1)
    assert.equal((await stream('cached-3')).usage?.prompt_tokens_details?.cached_tokens, 3)
    const whole = await client.chat.completions.create({ model: 'no-usage', messages })
    assert.equal(whole.usage, undefined)
  })

  it('cuts the usage event in two', async () => {
    const { parts, body } = await raw('usage-split', streamed)
    assert.ok(body.includes('"usage":{'))
    assert.ok(!parts.some((part) => part.includes('"usage":{')))
  })

  it('writes every byte by itself, with either line end', async () => {
    assert.equal((await stream('split-1')).text, text())
    const { parts } = await raw('split-1', streamed)
    assert.ok(parts.length > 100)
    assert.equal((await stream('crlf+split-1')).text, text())
    assert.match((await raw('crlf', streamed)).body.toString(), /\r\n\r\n$/)
  })

  it('sends one huge event, or more tokens than anyone asked for', async () => {
    const { body } = await raw('huge-event', streamed)
    assert.ok(body.length > 2 * 1024 * 1024)
    assert.equal((await stream('long-1000')).text, text(1000))
  })

  it('breaks its JSON', async () => {
    await assert.rejects(client.chat.completions.create({ model: 'bad-json', messages }))
    await assert.rejects(stream('bad-json'))
  })

  it('compresses, lies about the type, redirects and answers as a proxy would', async () => {
    const zipped = await raw('gzip')
    assert.match(gunzipSync(zipped.body).toString(), /"chat\.completion"/)
    assert.equal((await stream('gzip')).text, text())
    assert.ok((await raw('wrong-type', streamed)).headers.includes('text/plain'))
    assert.equal((await raw('redirect')).status, 307)
    assert.match((await raw('html+status-502')).body.toString(), /^<html>/)
    assert.equal((await raw('status-204')).body.length, 0)
    assert.equal((await raw('hints-20')).status, 200)
  })

  it('adds fields of its own everywhere', async () => {
    const whole = (await raw('unknown-fields')).body.toString()
    for (const place of ['reply', 'choice', 'message', 'usage']) assert.match(whole, new RegExp(`x_vendor_${place}`))
    assert.match((await raw('unknown-fields', streamed)).body.toString(), /x_vendor_delta/)
  })
})
