/** What a caller meets while its budget runs low: a warning, a cheaper model where the route names one, then a stop. @module */
import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { atEnd, type GatewayUnderTest, openVendor, startGateway } from '../gateway.ts'
import { modernRequest, openFrontDoor } from '../mcp/front-door.ts'
import { startMcpUpstream } from '../upstreams/mcp-server.ts'

describe('a budget that runs low', () => {
  let gateway: GatewayUnderTest
  before(async () => {
    const target = (model: string) => ({ provider: 'vendor', model })
    gateway = await startGateway({
      vendor: await openVendor(),
      routes: {
        thrifty: { to: [target('ok')], when_budget: { below: '40%', to: [target('long-3')] } },
      },
    })
  })
  const requests = (max: number, more: object = {}) => [{ unit: 'requests', max, alert_at: [60, 90], ...more }]
  const chat = async (as: string, model = 'vendor/ok', stream = false) => {
    const { status, headers } = await gateway.chat(as, { model, stream })
    return [status, headers.get('x-gatehouse-model'), headers.get('x-gatehouse-budget-warning')] as const
  }

  it('warns in every answer past the first threshold, streams and refusals too, of the tightest limit on the path', async () => {
    const account = await gateway.mintAccount({ limits: requests(100, { window: 'month', alert_at: [2] }) })
    const { id, key } = await gateway.mintKey({ account, limits: requests(5) })
    const session = await gateway.mintSession(key)
    assert.deepEqual(await chat(session.key), [200, 'ok', null])
    const second = (await chat(session.key))[2]
    assert.match(
      second ?? '',
      new RegExp(`^requests 2% of account ${account} used; resets at \\d{4}-\\d\\d-01T00:00:00.000Z$`),
    )
    await chat(session.key)
    assert.deepEqual(await chat(session.key, 'vendor/ok', true), [
      ...[200, 'ok', `requests 60% of account ${id} used; does not reset`],
    ])
    assert.equal((await chat(session.key))[2], `requests 100% of account ${id} used; does not reset`)
    assert.deepEqual(await chat(session.key), [429, null, `requests 100% of account ${id} used; does not reset`])
  })

  it('goes to the cheaper targets of a route below its mark, and back when there is more again', async () => {
    const { id, key } = await gateway.mintKey({ limits: requests(5, { alert_at: [] }) })
    const other = await gateway.mintKey()
    const models: unknown[] = []
    for (let call = 0; call < 5; call++) models.push((await chat(key, 'thrifty'))[1])
    // Before the fourth call 40% is left, before the fifth 20%.
    assert.deepEqual(models, ['ok', 'ok', 'ok', 'ok', 'long-3'])
    assert.equal((await chat(key, 'thrifty'))[0], 429)
    await gateway.admin('PATCH', `/keys/${id}`, { limits: requests(50) })
    assert.deepEqual((await chat(key, 'thrifty')).slice(0, 2), [200, 'ok'])
    assert.equal((await chat(other.key, 'thrifty'))[1], 'ok')
  })

  it('of tools, or one that only warns, is a reason too where models use it', async () => {
    const warned = await gateway.mintKey({ limits: requests(2, { action: 'warn' }) })
    const tools = await gateway.mintKey({ limits: [{ unit: 'tool_calls', max: 0 }] })
    for (let call = 0; call < 3; call++) await chat(warned.key)
    assert.equal((await chat(warned.key, 'thrifty'))[1], 'long-3')
    assert.equal((await chat(tools.key, 'thrifty'))[1], 'ok')
  })
})

it('a tool result says in its meta that a budget runs low, in both eras', async () => {
  const server = await startMcpUpstream({ era: 'dual' })
  atEnd(() => server.close())
  const door = await openFrontDoor({ tools: { url: server.url, allow_private: [server.allow] } })
  atEnd(() => door.close())
  await door.healthy('tools')
  const key = await door.key(['tools__*'], { limits: [{ unit: 'tool_calls', max: 4, alert_at: [50] }] })
  const { headers, body } = modernRequest('tools/call', { name: 'echo', arguments: { text: 'a' } })
  const call = async () => {
    const answered = await door.post('/mcp/tools', key, headers, body)
    const meta = (answered.json?.result?._meta ?? {}) as Record<string, unknown>
    return [meta['dev.gatehouse/budget-warning'] ?? null, answered.headers.get('x-gatehouse-budget-warning')]
  }
  assert.deepEqual(await call(), [null, null])
  const [meta, header] = await call()
  assert.match(String(meta), /^tool_calls 50% of account k_\w+ used; does not reset$/)
  assert.equal(meta, header)

  const client = new Client({ name: 'test-client', version: '1.0.0' })
  const requestInit = { headers: { authorization: `Bearer ${key}` } }
  await client.connect(new StreamableHTTPClientTransport(new URL(`${door.url}/mcp/tools`), { requestInit }) as never)
  const result = await client.callTool({ name: 'echo', arguments: { text: 'a' } })
  await client.close()
  assert.match(String(result._meta?.['dev.gatehouse/budget-warning']), /^tool_calls 75% of account k_/)
})
