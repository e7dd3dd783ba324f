/** Rate limits as callers meet them: headers and refusals through the SDK, whatever the call is and however it ends. @module */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import OpenAI, { RateLimitError } from 'openai'
import { durationText } from '../../src/edge/rate-headers.ts'
import { familyOf } from '../../src/tokens.ts'
import { type Client, eventually, type GatewayOptions, hello, openVendor, startInside } from '../gateway.ts'
import type { Vendor } from '../upstreams/vendor.ts'

type Inside = Awaited<ReturnType<typeof startInside>>

async function opened(rates: object, more: GatewayOptions = {}): Promise<{ vendor: Vendor; gateway: Inside }> {
  const vendor = await openVendor()
  const limits = { rates, default_max_output: 100 }
  return { vendor, gateway: await startInside({ vendor, limits, ...more }) }
}
const sdk = (gateway: Client, key: string, maxRetries = 0) =>
  new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: key, maxRetries })
const atWork = (gateway: Inside) => gateway.running.gateway.rates.atWork()
const messages = [{ role: 'user' as const, content: 'say hello' }]
const statuses = (answers: readonly { status: number }[]) => answers.map(({ status }) => status)

describe('a rate limit on a key', () => {
  it('tells the OpenAI SDK where it stands, refuses what is too much, and lets its retry through', async () => {
    const { gateway, vendor } = await opened({ keys: { per: 'key', requests: 2, tokens: 10_000, window: '1s' } })
    const { key } = await gateway.mintKey()
    const client = sdk(gateway, key)
    const first = await client.chat.completions.create({ model: 'vendor/ok', messages }).withResponse()
    const header = (name: string) => first.response.headers.get(`x-ratelimit-${name}`)
    assert.deepEqual([header('limit-requests'), header('remaining-requests')], ['2', '1'])
    assert.equal(header('limit-tokens'), '10000')
    assert.ok(Number(header('remaining-tokens')) > 9_000)
    assert.match(String(header('reset-requests')), /^([0-9]+ms|1s)$/)

    const stream = await client.chat.completions.create({ model: 'vendor/ok', messages, stream: true }).withResponse()
    assert.equal(stream.response.headers.get('x-ratelimit-remaining-requests'), '0')
    for await (const _ of stream.data);
    const refused = await client.chat.completions.create({ model: 'vendor/ok', messages }).catch((error) => error)
    assert.ok(refused instanceof RateLimitError)
    assert.equal(refused.code, 'rate_limited')
    assert.match(refused.message, /limit keys: 2 requests in 1s for key k_/)
    assert.equal(refused.headers?.get('retry-after'), '1')
    assert.equal(refused.headers?.get('x-should-retry'), null)
    assert.equal(refused.headers?.get('x-ratelimit-remaining-requests'), '0')
    // The wait it is told is enough: the SDK's first retry passes.
    const again = await sdk(gateway, key, 1).chat.completions.create({ model: 'vendor/ok', messages })
    assert.equal(again.choices.length, 1)
    assert.equal(vendor.requests.length, 3)
    const { text } = await gateway.ask('GET', '/metrics')
    assert.match(text, /gatehouse_rate_limited_total\{scope="key"\} 2/)
  })

  it('counts its sessions with it, and no other key', async () => {
    const { gateway } = await opened({ keys: { per: 'key', requests: 3, window: '1h' } })
    const { key } = await gateway.mintKey()
    const session = await gateway.mintSession(key)
    const child = await gateway.mintSession(session.key)
    const answers = []
    for (const one of [key, session.key, child.key, child.key, key]) answers.push(await gateway.chat(one, {}))
    assert.deepEqual(statuses(answers), [200, 200, 200, 429, 429])
    const other = (await gateway.mintKey()).key
    assert.equal((await gateway.chat(other, {})).status, 200)
    assert.ok(Number(answers[3]?.headers.get('retry-after')) > 3500)
  })

  it('sends no such header where nothing is limited', async () => {
    const { gateway } = await opened({})
    const { key } = await gateway.mintKey()
    const { headers } = await gateway.chat(key, {})
    assert.deepEqual(
      [...headers.keys()].filter((name) => name.startsWith('x-ratelimit')),
      [],
    )
  })
})

describe('what counts', () => {
  it('nothing that was refused does: by policy, by a budget, by another limit', async () => {
    const { gateway } = await opened({
      teams: { per: 'account', kinds: ['organization'], requests: 2, window: '1h' },
      models: { per: 'model', models: ['vendor/busy*'], requests: 1, window: '1h' },
    })
    const account = await gateway.mintAccount()
    const { key } = await gateway.mintKey({ account, models: ['vendor/ok', 'vendor/busy'] })
    const poor = await gateway.mintKey({ account, limits: [{ unit: 'requests', max: 0 }] })
    const asks: readonly (readonly [string, object, number])[] = [
      [key, { model: 'vendor/other' }, 403],
      [poor.key, {}, 429],
      [`${key}x`, {}, 401],
      [key, { model: 'vendor/busy', n: 'many' }, 400],
      [key, { model: 'vendor/busy' }, 200],
      [key, { model: 'vendor/busy' }, 429],
    ]
    for (const [who, body, status] of [...asks, ...asks.slice(0, 4), ...asks.slice(5)]) {
      assert.equal((await gateway.chat(who, body)).status, status, JSON.stringify(body))
    }
    assert.deepEqual(statuses([await gateway.chat(key, {}), await gateway.chat(key, {})]), [200, 429])
  })

  it('what failed upstream does, and what certainly never left does not', async () => {
    const { gateway } = await opened(
      { keys: { per: 'key', requests: 2, window: '1h' } },
      { providers: { vendor: { base_url: 'http://127.0.0.1:1/v1', speaks: ['openai-chat'], credential: 'none' } } },
    )
    const { key } = await gateway.mintKey()
    for (let i = 0; i < 5; i++) assert.equal((await gateway.chat(key, {})).status, 502)
    const broken = await opened({ keys: { per: 'key', requests: 2, window: '1h' } })
    const other = (await broken.gateway.mintKey()).key
    const answers = []
    for (let i = 0; i < 3; i++) answers.push(await broken.gateway.chat(other, { model: 'vendor/status-500' }))
    assert.deepEqual(statuses(answers), [502, 502, 429])
  })

  it('every spelling of a model does at what it means, and a route at the target that is tried', async () => {
    const { gateway, vendor } = await opened(
      { models: { per: 'model', models: ['vendor/ok'], requests: 4, window: '1h' } },
      {
        models: { house: { provider: 'vendor', upstream: 'ok' } },
        routes: {
          fast: { to: [{ provider: 'vendor', model: 'ok' }] },
          both: {
            to: [
              { provider: 'vendor', model: 'ok' },
              { provider: 'vendor', model: 'spare' },
            ],
            on: ['rate_limit'],
          },
          one: {
            to: [
              { provider: 'vendor', model: 'ok' },
              { provider: 'vendor', model: 'spare' },
            ],
            on: ['error'],
          },
        },
      },
    )
    const { key } = await gateway.mintKey()
    const ask = async (model: string) => (await gateway.chat(key, { model })).status
    for (const model of ['vendor/ok', 'house', 'fast', 'vendor/OK']) assert.equal(await ask(model), 200, model)
    for (const model of ['vendor/ok', 'house', 'fast', 'vendor/Ok', 'one']) assert.equal(await ask(model), 429, model)
    const before = vendor.requests.length
    const answer = await gateway.chat(key, { model: 'both' })
    assert.deepEqual([answer.status, answer.headers.get('x-gatehouse-model')], [200, 'spare'])
    assert.deepEqual(
      vendor.requests.slice(before).map(({ model }) => model),
      ['spare'],
    )
  })

  it('a target without room is passed over like one that refuses, and what failed before it is what is told', async () => {
    const to = ['status-500', 'ok'].map((model) => ({ provider: 'vendor', model }))
    const { gateway } = await opened(
      { models: { per: 'model', models: ['vendor/ok'], requests: 1, window: '1h' } },
      { routes: { fast: { to } } },
    )
    const { key } = await gateway.mintKey()
    const answers = [await gateway.chat(key, { model: 'fast' }), await gateway.chat(key, { model: 'fast' })]
    assert.deepEqual(
      answers.map(({ status, json }) => [status, json.error?.code]),
      [
        [200, undefined],
        [502, 'upstream_error'],
      ],
    )
  })

  it('tokens do as they were used, once the call is over', async () => {
    const { gateway } = await opened({ keys: { per: 'key', tokens: 1000, window: '1h' } })
    const { key } = await gateway.mintKey()
    const first = await gateway.chat(key, { max_tokens: 5000 })
    assert.equal(first.headers.get('x-ratelimit-remaining-tokens'), '0')
    const [row] = await gateway.ledger()
    const second = await gateway.chat(key, { max_tokens: 1 })
    const body = JSON.stringify({ ...hello, max_tokens: 1 })
    const bound = body.length + familyOf(hello.model).fixed
    assert.equal(second.headers.get('x-ratelimit-remaining-tokens'), String(1000 - row.tokens - bound - 1))
  })
})

describe('places at work', () => {
  it('are given back after an answer, an abort, an upstream that breaks and a timeout', async () => {
    const { gateway, vendor } = await opened({ keys: { per: 'key', concurrent: 2, requests: 100, window: '1h' } })
    const { key } = await gateway.mintKey()
    const aborts = new AbortController()
    const held = [
      gateway.ask('POST', '/v1/chat/completions', {
        key,
        body: { ...hello, model: 'vendor/hold-2', stream: true },
        signal: aborts.signal,
      }),
      gateway.chat(key, { model: 'vendor/hold-0' }, { 'x-gatehouse-timeout-ms': '300' }),
    ]
    const ends = Promise.allSettled(held)
    await eventually(() => atWork(gateway) === 2)
    const refused = await gateway.chat(key, {})
    assert.deepEqual([refused.status, refused.headers.get('retry-after')], [429, '1'])
    assert.match(refused.text, /2 calls at the same time/)
    aborts.abort()
    const [aborted, late] = await ends
    assert.equal(aborted?.status, 'rejected')
    assert.equal(late?.status === 'fulfilled' && late.value.status, 504)
    await eventually(() => atWork(gateway) === 0)
    vendor.release()
    for (const model of ['reset', 'cut-1', 'status-500', 'ok']) {
      await gateway.ask('POST', '/v1/chat/completions', {
        key,
        body: { ...hello, model: `vendor/${model}`, stream: true },
      })
      await eventually(() => atWork(gateway) === 0)
    }
  })

  it('stay bounded while many ask at once, and all come back', async () => {
    const { gateway, vendor } = await opened({ keys: { per: 'key', concurrent: 3 } })
    const { key } = await gateway.mintKey()
    const asks = Array.from({ length: 30 }, () => gateway.chat(key, { model: 'vendor/hold-0' }))
    const refused = asks.map((ask) => ask.then(({ status }) => status))
    await eventually(() => vendor.requests.length === 3)
    let over = 0
    for (const one of refused) void one.then(() => over++)
    await eventually(() => over === 27)
    vendor.release()
    const all = await Promise.all(refused)
    assert.equal(all.filter((status) => status === 200).length, 3)
    assert.equal(atWork(gateway), 0)
  })
})

it('a loop of refusals of one key takes nothing from the keys beside it', async () => {
  const { gateway } = await opened({
    keys: { per: 'key', requests: 2, window: '1h' },
    org: { per: 'account', kinds: ['organization'], requests: 4, window: '1h' },
  })
  const account = await gateway.mintAccount()
  const loud = (await gateway.mintKey({ account })).key
  const quiet = (await gateway.mintKey({ account })).key
  const loop = await Promise.all(Array.from({ length: 60 }, () => gateway.chat(loud, {})))
  assert.equal(loop.filter(({ status }) => status === 200).length, 2)
  assert.deepEqual(statuses([await gateway.chat(quiet, {}), await gateway.chat(quiet, {})]), [200, 200])
})

it('durations are written as OpenAI writes them', () => {
  const written = [0, 1, 120, 999.2, 1500, 60_000, 360_000, 3_630_000].map(durationText)
  assert.deepEqual(written, ['0ms', '1ms', '120ms', '1s', '1.5s', '1m0s', '6m0s', '1h0m30s'])
})
