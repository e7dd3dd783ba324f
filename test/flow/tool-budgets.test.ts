/** Tool calls walk the same way as model calls: decided, held, settled, recorded. @module */
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { before, describe, it } from 'node:test'
import { atEnd, eventually, type GatewayUnderTest, openVendor, startGateway } from '../gateway.ts'

const spec = (url: string) => ({
  openapi: '3.1.0',
  info: { title: 'Shop', version: '1' },
  servers: [{ url }],
  paths: {
    '/orders': {
      get: { operationId: 'listOrders', responses: { 200: { description: 'ok' } } },
      delete: { operationId: 'deleteOrders', responses: { 200: { description: 'ok' } } },
    },
    '/transfer': {
      post: {
        operationId: 'transfer',
        requestBody: {
          required: true,
          content: {
            'application/json': {
              schema: { type: 'object', required: ['amount'], properties: { amount: { type: 'number' } } },
            },
          },
        },
        responses: { 200: { description: 'ok' } },
      },
    },
  },
})

describe('a tool call', () => {
  let gateway: GatewayUnderTest
  let key: string
  const asked: string[] = []

  before(async () => {
    const shop = createServer((request, response) => {
      asked.push(`${request.method} ${request.url}`)
      request.resume().on('end', () => response.setHeader('content-type', 'application/json').end('{"done":true}'))
    })
    await new Promise<void>((resolve) => shop.listen(0, '127.0.0.1', resolve))
    atEnd(() => shop.close())
    const { port } = shop.address() as AddressInfo
    const base_url = `http://127.0.0.1:${port}`
    gateway = await startGateway({
      vendor: await openVendor(),
      limits: {
        rates: {
          orders: {
            per: ['key', 'tool'],
            tools: ['shop__list*'],
            labels: { tier: 'trial' },
            tool_calls: 2,
            window: '1h',
          },
        },
      },
      files: {
        'registry/shop.yaml': spec(base_url),
        'registry/servers/shop.yaml': {
          ...{ kind: 'openapi', spec: './registry/shop.yaml', base_url, auth: { kind: 'none' } },
          allow_private: [`127.0.0.1/32:${port}`],
        },
        // Nobody listens on the discard port.
        'registry/servers/closed.yaml': {
          ...{ kind: 'openapi', spec: './registry/shop.yaml', base_url: 'http://127.0.0.1:9', auth: { kind: 'none' } },
          allow_private: ['127.0.0.1/32:9'],
        },
        'policies/tools/clerk.yaml': {
          role: 'clerk',
          allow: [
            { tools: ['shop__list*', 'closed__list*'] },
            { tools: ['shop__transfer'], when: 'args.body.amount <= 100' },
          ],
          deny: [{ tools: ['*delete*'], reason: 'needs a person' }],
        },
      },
    })
    key = (await gateway.mintKey({ roles: ['clerk'] })).key
    await eventually(async () => (await gateway.admin('GET', '/servers/shop')).json.tools?.length === 3)
  })

  async function call(as: string, name: string, args: object = {}) {
    const version = '2026-07-28'
    const meta = {
      'io.modelcontextprotocol/protocolVersion': version,
      'io.modelcontextprotocol/clientCapabilities': {},
    }
    const { json, status, text } = await gateway.ask('POST', '/mcp', {
      key: as,
      headers: {
        accept: 'application/json, text/event-stream',
        'mcp-protocol-version': version,
        'mcp-method': 'tools/call',
        'mcp-name': name,
      },
      body: { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name, arguments: args, _meta: meta } },
    })
    const rpc = json.result ?? json.error ?? JSON.parse(/^data: (.*)$/m.exec(text)?.[1] ?? '{}').result
    return { status, rpc, code: rpc?._meta?.['dev.gatehouse/code'] ?? rpc?.code ?? null }
  }

  it('reaches its server once it is allowed, is counted, and is in the trace', async () => {
    const session = await gateway.mintSession(key, { limits: { tool_calls: 5 } })
    const { rpc } = await call(session.key, 'shop__listOrders')
    assert.notEqual(rpc.isError, true, JSON.stringify(rpc))
    const { json } = await gateway.ask('GET', '/v1/sessions/current/trace', { key: session.key })
    const line = json.calls.find((one: { kind: string }) => one.kind === 'tool-call')
    assert.deepEqual(
      [line.tool, line.outcome, line.tool_calls, line.cost_usd],
      ['shop__listOrders', 'answered', 1, '0'],
    )
    const current = await gateway.ask('GET', '/v1/sessions/current', { key: session.key })
    assert.equal(current.json.remaining.tool_calls, 4)
    assert.equal(current.json.per_tool.shop__listOrders.calls, 1)
  })

  it('past its rate is an error the model can read, with the time to wait, and never reaches the server', async () => {
    const trial = (await gateway.mintKey({ roles: ['clerk'], labels: { tier: 'trial' } })).key
    const session = (await gateway.mintSession(trial)).key
    const before = asked.length
    const codes = []
    for (const who of [trial, session, trial, session]) codes.push((await call(who, 'shop__listOrders')).code)
    assert.deepEqual(codes, [null, null, 'rate_limited', 'rate_limited'])
    assert.equal(asked.length, before + 2)
    const { status, rpc } = await call(trial, 'shop__listOrders')
    assert.deepEqual([status, rpc.isError], [200, true])
    assert.match(rpc.content[0].text, /limit orders: 2 tool calls in 1h for key k_[^ ]+, tool shop__listorders/)
    assert.ok(rpc._meta['dev.gatehouse/retryAfter'] > 3500)
    assert.equal((await call(trial, 'shop__transfer', { body: { amount: 1 } })).code, null)
    assert.equal((await call(key, 'shop__listOrders')).code, null)
    const { text } = await gateway.ask('GET', '/metrics')
    assert.match(text, /gatehouse_rate_limited_total\{scope="key\+tool"\} 3/)
  })

  it('past its budget is an error the model can read, and never reaches the server', async () => {
    const session = await gateway.mintSession(key, { limits: { tool_calls: 2 } })
    const none = await gateway.mintSession(key, { limits: { tool_calls: 0 } })
    const before = asked.length
    await call(session.key, 'shop__listOrders')
    await call(session.key, 'shop__listOrders')
    for (const as of [session, none]) {
      const { rpc, code } = await call(as.key, 'shop__listOrders')
      assert.deepEqual([rpc.isError, code], [true, 'budget_exhausted'], JSON.stringify(rpc))
    }
    assert.equal(asked.length, before + 2)
  })

  it('for exactly N of 60 at once lets exactly N through', async () => {
    const session = await gateway.mintSession(key, { limits: { tool_calls: 11 } })
    const before = asked.length
    const answers = await Promise.all(Array.from({ length: 60 }, () => call(session.key, 'shop__listOrders')))
    assert.equal(asked.length - before, 11)
    assert.equal(answers.filter(({ rpc }) => rpc.isError !== true).length, 11)
    assert.equal(await gateway.metric('gatehouse_open_holds'), 0)
  })

  it('that a rule denies is not charged, and one that could never be allowed looks unknown', async () => {
    const session = await gateway.mintSession(key, { limits: { tool_calls: 3 }, tools: ['shop__*'] })
    const before = asked.length
    const large = await call(session.key, 'shop__transfer', { body: { amount: 5000 } })
    assert.deepEqual([large.rpc.isError, large.code], [true, 'arguments_not_allowed'], JSON.stringify(large.rpc))
    const denied = await call(session.key, 'shop__deleteOrders')
    const unknown = await call(session.key, 'shop__nothing')
    assert.equal(denied.rpc.code, -32602)
    assert.deepEqual([denied.status, denied.rpc.code], [unknown.status, unknown.rpc.code])
    assert.equal(denied.rpc.message.replace('deleteOrders', 'nothing'), unknown.rpc.message)
    assert.equal(asked.length, before)
    const { json } = await gateway.ask('GET', '/v1/sessions/current', { key: session.key })
    assert.equal(json.used.tool_calls, 0)
    assert.equal((await call(session.key, 'shop__transfer', { body: { amount: 50 } })).rpc.isError ?? false, false)
    const bare = await gateway.mintSession(key, { tools: [] })
    assert.equal((await call(bare.key, 'shop__listOrders')).rpc.code, -32602)
  })

  it('that never left costs nothing', async () => {
    const session = await gateway.mintSession(key, { limits: { tool_calls: 5 } })
    assert.equal((await call(session.key, 'closed__listOrders')).code, 'upstream_error')
    const { json: standing } = await gateway.ask('GET', '/v1/sessions/current', { key: session.key })
    assert.deepEqual([standing.used.tool_calls, standing.held.tool_calls], [0, 0])
  })
})
