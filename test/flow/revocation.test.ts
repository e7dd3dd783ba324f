/** What is at work ends when its key does: streams with an error event, tools by being cancelled, everything settled. @module */
import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import OpenAI from 'openai'
import { atEnd, eventually, type GatewayUnderTest, hello, openVendor, startGateway } from '../gateway.ts'
import { modernRequest, openFrontDoor } from '../mcp/front-door.ts'
import { startMcpUpstream } from '../upstreams/mcp-server.ts'
import type { Vendor } from '../upstreams/vendor.ts'

describe('a key that ends while calls are at work', () => {
  let vendor: Vendor
  let gateway: GatewayUnderTest

  before(async () => {
    vendor = await openVendor()
    const row = (upstream: string) => ({ provider: 'vendor', upstream, price: { input: 1, output: 2 } })
    gateway = await startGateway({
      vendor,
      models: { steady: row('endless+drip-20') },
      routes: {
        spare: { strategy: 'fallback', to: ['slow-headers', 'ok'].map((model) => ({ provider: 'vendor', model })) },
      },
    })
  })
  const rows = async (account: string) => (await gateway.ledger()).filter((row) => row.account === account)

  /** A stream that is read to its end. */
  async function open(as: string, heard: () => void = () => {}): Promise<{ said: number; error: unknown }> {
    const client = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: as, maxRetries: 0 })
    let said = 0
    try {
      const messages = [{ role: 'user' as const, content: 'hello there' }]
      const stream = await client.chat.completions.create({ model: 'steady', messages, stream: true })
      for await (const chunk of stream) if (chunk.choices[0]?.delta.content && ++said === 1) heard()
      return { said, error: null }
    } catch (error) {
      return { said, error }
    }
  }

  it('ends fifty open streams with an error event, settles each, and leaves no hold', async () => {
    const key = await gateway.mintKey({ limits: [{ unit: 'tokens', max: 1_000_000 }] })
    const sessions = await Promise.all(Array.from({ length: 10 }, () => gateway.mintSession(key.key)))
    const other = await gateway.mintKey({ limits: [{ unit: 'tokens', max: 1_000_000 }] })
    let heard = 0
    let strangerOver = false
    const stranger = open(other.key).finally(() => {
      strangerOver = true
    })
    const streams = Array.from({ length: 50 }, (_, i) =>
      open((i < 10 ? key : (sessions[i % 10] ?? key)).key, () => {
        heard++
      }),
    )
    await eventually(() => heard === 50)
    assert.equal((await gateway.admin('DELETE', `/keys/${key.id}`)).status, 200)
    for (const { said, error } of await Promise.all(streams)) {
      assert.ok(said > 0)
      assert.ok(error instanceof OpenAI.APIError)
      assert.deepEqual([error.code, error.type], ['invalid_key', 'authentication_error'])
      assert.match(error.message, /stopped being valid while this call was at work/)
    }
    const booked = (await Promise.all([key, ...sessions].map(({ id }) => rows(id)))).flat()
    const chats = booked.filter((row) => row.kind === 'chat')
    assert.equal(chats.length, 50)
    for (const row of chats) {
      assert.deepEqual([row.outcome, row.code, row.usage_source], ['truncated', 'invalid_key', 'estimated'])
      assert.ok(row.output > 0 && row.usd > 0)
    }
    // Only the one of somebody else goes on.
    assert.equal(strangerOver, false)
    assert.equal(await gateway.metric('gatehouse_open_holds'), 1)
    await gateway.admin('DELETE', `/keys/${other.id}`)
    await stranger
    assert.equal(await gateway.metric('gatehouse_open_holds'), 0)
    await eventually(() => vendor.requests.every(({ over }) => over))
  })

  it('is noticed when its time is up, or is set to the past, and when an account above it goes', async () => {
    const account = await gateway.mintAccount()
    const [key, late] = [await gateway.mintKey({ account }), await gateway.mintKey({ account })]
    const session = await gateway.mintSession(key.key, { ttl: 1 })
    const { said, error } = await open(session.key)
    assert.ok(said > 0 && error instanceof OpenAI.APIError && error.code === 'invalid_key', String(error))
    const past = new Date(Date.now() - 1000).toISOString()
    const expired = open(key.key, () => void gateway.admin('PATCH', `/keys/${key.id}`, { expires_at: past }))
    assert.ok((await expired).error instanceof OpenAI.APIError)
    const gone = open(late.key, () => void gateway.admin('DELETE', `/accounts/${account}`))
    assert.ok((await gone).error instanceof OpenAI.APIError)
    assert.equal(await gateway.metric('gatehouse_open_holds'), 0)
  })

  it('ends a call that nobody has answered yet, and no other target is tried', async () => {
    const key = await gateway.mintKey()
    const call = gateway.chat(key.key, { model: 'spare' })
    await vendor.until((request) => request.model === 'slow-headers')
    const asked = vendor.requests.length
    await gateway.admin('DELETE', `/keys/${key.id}`)
    const { status, json } = await call
    assert.deepEqual([status, json.error.code], [401, 'invalid_key'])
    assert.equal(vendor.requests.length, asked)
    const [row] = await rows(key.id)
    // It had left, so the question counts.
    assert.deepEqual([row.outcome, row.code, row.usage_source], ['fault', 'invalid_key', 'estimated'])
    assert.ok(row.input > 0 && row.output === 0)
  })

  it('is a session that ends itself', async () => {
    const key = await gateway.mintKey()
    const session = await gateway.mintSession(key.key)
    const streams = [1, 2, 3].map(() => open(session.key))
    await eventually(
      () => vendor.requests.filter(({ model, over }) => model === 'endless+drip-20' && !over).length >= 3,
    )
    assert.equal((await gateway.ask('DELETE', '/v1/sessions/current', { key: session.key })).status, 200)
    for (const { error } of await Promise.all(streams)) assert.ok(error instanceof OpenAI.APIError)
    assert.equal((await gateway.chat(session.key, hello)).status, 401)
  })
})

it('a session that ends cancels its tool calls at their server, and they are told and charged', async () => {
  const server = await startMcpUpstream({ era: 'dual' })
  atEnd(() => server.close())
  const door = await openFrontDoor({ tools: { url: server.url, allow_private: [server.allow] } })
  atEnd(() => door.close())
  await door.healthy('tools')
  const key = await door.key(['tools__*'])
  const mint = await door.post('/v1/sessions', key, {}, '{"limits":{"tool_calls":3}}')
  const session = JSON.parse(mint.text) as { id: string; key: string }
  const call = (tag: string) => {
    const { headers, body } = modernRequest('tools/call', { name: 'slow', arguments: { tag } })
    return door.post('/mcp/tools', session.key, headers, body)
  }
  const calls = ['one', 'two'].map(call)
  await eventually(() => server.begun.length === 2)
  await fetch(`${door.url}/v1/sessions/${session.id}`, {
    method: 'DELETE',
    headers: { authorization: `Bearer ${key}` },
  })
  for (const { text } of await Promise.all(calls)) assert.match(text, /"code":"invalid_key"/)
  await eventually(() => server.cancelled.length === 2)
  const { data } = (await door.admin('GET', '/ledger')) as { data: Record<string, unknown>[] }
  assert.deepEqual(
    data
      .filter(({ kind, account }) => kind === 'tool-call' && account === session.id)
      .map(({ outcome, code, tool_calls }) => [outcome, code, tool_calls]),
    [
      ['fault', 'invalid_key', 1],
      ['fault', 'invalid_key', 1],
    ],
  )
  assert.equal(door.running.gateway.escrow.open(), 0)
})
