/** Tool calls that cost: held before, charged when they left, at the row's price or what the server says. @module */
import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import { atEnd, eventually, type GatewayUnderTest, startGateway } from '../gateway.ts'
import { type McpUpstream, startMcpUpstream } from '../upstreams/mcp-server.ts'

describe('a tool with a price', () => {
  let upstream: McpUpstream
  let gateway: GatewayUnderTest
  let key: string

  before(async () => {
    upstream = await startMcpUpstream({ era: 'legacy' })
    atEnd(() => upstream.close())
    // What `echo` is told is what it says it cost.
    upstream.intercept = ({ body }, response) => {
      const { name, arguments: args } = (body?.params ?? {}) as { name?: string; arguments?: { text: string } }
      if (body?.method !== 'tools/call' || name !== 'echo') return false
      const said = args?.text === 'nothing' ? {} : { _meta: { 'dev.gatehouse/cost-usd': JSON.parse(args?.text ?? '') } }
      const result = { content: [{ type: 'text', text: 'said' }], ...said }
      response.writeHead(200, { 'content-type': 'application/json' })
      response.end(JSON.stringify({ jsonrpc: '2.0', id: body.id, result }))
      return true
    }
    const row = { kind: 'mcp', url: upstream.url, allow_private: [upstream.allow] }
    const price = { call: 0.002, tools: { fail: 0.01 } }
    gateway = await startGateway({
      files: {
        'registry/servers/priced.yaml': { ...row, price },
        'registry/servers/reports.yaml': { ...row, price, reports_cost: { max: 0.05 } },
        'registry/servers/free.yaml': row,
        // Nobody listens on the discard port.
        'registry/servers/closed.yaml': { kind: 'mcp', url: 'http://127.0.0.1:9/mcp', price },
      },
    })
    key = (await gateway.mintKey({ tools: ['*'] })).key
    await eventually(async () => {
      const states = await Promise.all(
        ['priced', 'reports', 'free'].map((id) => gateway.admin('GET', `/servers/${id}`)),
      )
      return states.every(({ json }) => json.tools?.length > 0)
    })
  })

  const session = async (limits: object) => (await gateway.mintSession(key, { limits, tools: ['*'] })).key
  const standing = async (as: string) => (await gateway.ask('GET', '/v1/sessions/current', { key: as })).json
  async function call(as: string, name: string, args: object = {}, signal?: AbortSignal) {
    const version = '2026-07-28'
    const meta = {
      'io.modelcontextprotocol/protocolVersion': version,
      'io.modelcontextprotocol/clientCapabilities': {},
    }
    const { json, text } = await gateway.ask('POST', '/mcp', {
      key: as,
      signal,
      headers: {
        accept: 'application/json, text/event-stream',
        ...{ 'mcp-protocol-version': version, 'mcp-method': 'tools/call', 'mcp-name': name },
      },
      body: { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name, arguments: args, _meta: meta } },
    })
    const result = json.result ?? JSON.parse(/^data: (.*)$/m.exec(text)?.[1] ?? '{}').result
    return { result, code: result?._meta?.['dev.gatehouse/code'] ?? null }
  }
  const usd = async (as: string) => Math.round(Number((await standing(as)).used.usd) * 1e6)

  it('charges it for each call, by tool or by server, a tool that failed included', async () => {
    const child = await session({ usd: 1, tool_calls: 10 })
    await call(child, 'priced__echo', { text: 'nothing' })
    assert.equal(await usd(child), 2000)
    assert.equal((await call(child, 'priced__fail')).result.isError, true)
    assert.equal(await usd(child), 12_000)
    await call(child, 'free__fail')
    assert.equal(await usd(child), 12_000)
    const row = (await gateway.ledger()).findLast(({ tool }) => tool === 'priced__fail')
    assert.deepEqual([row.usd, row.tool_calls], [10_000, 1])
    assert.equal((await standing(child)).used.tool_calls, 3)
  })

  it('is held before the call, so that what does not fit never leaves', async () => {
    const child = await session({ usd: '0.003' })
    const before = upstream.seen.length
    const refused = await call(child, 'priced__fail')
    assert.deepEqual([refused.result.isError, refused.code], [true, 'budget_too_small'])
    assert.equal(upstream.seen.length, before)
    assert.notEqual((await call(child, 'priced__echo', { text: 'nothing' })).result.isError, true)
    assert.equal((await call(child, 'priced__echo', { text: 'nothing' })).code, 'budget_too_small')
    // A free tool needs no dollars.
    const broke = await session({ usd: 0 })
    assert.equal((await call(broke, 'priced__echo', { text: 'nothing' })).code, 'budget_exhausted')
    assert.equal((await call(broke, 'free__fail')).code, null)
  })

  it("takes a server's word where its row says so, within the bound", async () => {
    for (const [said, charged] of [
      ['0.0123', 12_300],
      ['"0.0123"', 12_300],
      ['"0.01230001"', 12_301],
      ['0', 0],
      ['-3', 0],
      ['"-3"', 0],
      ['0.00000001', 1],
      ['999', 50_000],
      ['1e300', 50_000],
      ['"99999999999999"', 50_000],
      ['nothing', 2000],
      ['"a lot"', 2000],
      ['"1e3"', 2000],
      ['null', 2000],
      ['{"usd":1}', 2000],
    ] as const) {
      const child = await session({ usd: 1 })
      await call(child, 'reports__echo', { text: said })
      assert.equal(await usd(child), charged, said)
      // Nobody asked this one.
      const other = await session({ usd: 1 })
      await call(other, 'priced__echo', { text: said })
      assert.equal(await usd(other), 2000, said)
    }
    await gateway.logged(/reported a cost that is no amount/)
  })

  it('that a server reports is held at the bound', async () => {
    const child = await session({ usd: '0.049' })
    assert.equal((await call(child, 'reports__echo', { text: '0' })).code, 'budget_too_small')
    const enough = await session({ usd: '0.05' })
    assert.equal((await call(enough, 'reports__echo', { text: '0.04' })).code, null)
    assert.equal(await usd(enough), 40_000)
    assert.equal(await gateway.metric('gatehouse_open_holds'), 0)
  })

  it('shows what is held while the call is under way, and charges the row when the caller leaves', async () => {
    const child = await session({ usd: 1 })
    const leaving = new AbortController()
    const asked = call(child, 'reports__slow', { tag: 'held' }, leaving.signal).catch(() => null)
    await eventually(() => upstream.begun.includes('held'))
    assert.equal(Number((await standing(child)).held.usd), 0.05)
    leaving.abort()
    await asked
    await eventually(async () => Number((await standing(child)).held.usd) === 0)
    assert.equal(await usd(child), 2000)
  })
})
