/** The MCP door against callers who get it wrong or mean it ill. @module */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { type McpUpstream, startMcpUpstream } from '../upstreams/mcp-server.ts'
import { type Answer, type FrontDoor, modernRequest, openFrontDoor } from './front-door.ts'
import { until } from './rig.ts'

let upstream: McpUpstream
let door: FrontDoor
let key: string
let other: string
before(async () => {
  upstream = await startMcpUpstream({ era: 'dual' })
  const gone = await startMcpUpstream({ era: 'dual' })
  await gone.close()
  door = await openFrontDoor({
    tools: { url: upstream.url, allow_private: [upstream.allow] },
    gone: { url: gone.url, allow_private: [gone.allow] },
    crash: {
      command: [process.execPath, fileURLToPath(new URL('../upstreams/mcp-rogue.ts', import.meta.url)), 'crash'],
    },
  })
  await door.healthy('tools', 'crash')
  key = await door.key(['*'])
  other = await door.key(['tools__echo'])
})
after(async () => {
  await door.close()
  await upstream.close()
})

const rpc = (method: string, params: object = {}, id: unknown = 1) => ({ jsonrpc: '2.0', id, method, params })
const initialize = (protocolVersion: string) =>
  JSON.stringify(rpc('initialize', { protocolVersion, capabilities: {}, clientInfo: { name: 't', version: '1' } }))

async function session(who: string, protocolVersion = '2025-11-25', path = '/mcp'): Promise<Record<string, string>> {
  const answer = await door.post(path, who, {}, initialize(protocolVersion))
  assert.equal(answer.json?.result?.protocolVersion, protocolVersion)
  const id = answer.headers.get('mcp-session-id') ?? ''
  assert.match(id, /^[0-9a-f]{32}$/)
  return { 'mcp-session-id': id, 'mcp-protocol-version': protocolVersion }
}

const modern = (method: string, params: Record<string, unknown> = {}, headers: Record<string, string> = {}) => {
  const request = modernRequest(method, params)
  return door.post('/mcp', key, { ...request.headers, ...headers }, request.body)
}
const told = ({ status, json }: Answer) => [status, json?.error?.code]

describe('a caller of the current revision', () => {
  it('is told what is served, with its request id and nothing to be kept', async () => {
    const answer = await modern('server/discover')
    const result = answer.json?.result ?? {}
    assert.deepEqual(result.supportedVersions, ['2026-07-28'])
    assert.deepEqual(result.capabilities, { tools: {} })
    assert.deepEqual([result.resultType, result.ttlMs, result.cacheScope], ['complete', 0, 'private'])
    assert.match(answer.headers.get('x-gatehouse-request-id') ?? '', /^req_/)
    assert.equal(answer.headers.get('cache-control'), 'no-store')
    assert.equal(answer.headers.get('mcp-session-id'), null)
  })

  it('needs a key, and learns how to send one', async () => {
    const request = modernRequest('tools/list')
    for (const who of [null, 'sk-gate-nobody_0000', 'token']) {
      const answer = await door.post('/mcp', who, request.headers, request.body)
      assert.equal(answer.status, 401)
      assert.match(answer.headers.get('www-authenticate') ?? '', /^Bearer /)
    }
    for (const method of ['GET', 'DELETE'])
      assert.equal((await fetch(`${door.url}/mcp`, { method, headers: { accept: 'text/event-stream' } })).status, 401)
  })

  it('is refused when a header says something else than the body', async () => {
    const call = { name: 'tools__echo', arguments: { text: 'x' } }
    assert.deepEqual(told(await modern('tools/call', call, { 'mcp-name': 'tools__fail' })), [400, -32020])
    assert.deepEqual(told(await modern('tools/call', call, { 'mcp-method': 'tools/list' })), [400, -32020])
    assert.deepEqual(told(await modern('tools/call', call, { 'mcp-protocol-version': '2025-11-25' })), [400, -32020])
    assert.deepEqual(told(await modern('tools/list', {}, { 'mcp-protocol-version': '2031-01-01' })), [400, -32020])
  })

  it('finds no method that its revision does not have', async () => {
    for (const method of ['ping', 'initialize', 'resources/list', 'logging/setLevel', 'tools/call ', 'constructor'])
      assert.deepEqual(
        told(
          await modern(method, {}, { 'mcp-method': method.trim() === method ? method : '=?base64?dG9vbHMvY2FsbCA=?=' }),
        ),
        [404, -32601],
      )
  })

  it('is refused for a parameter whose header is missing or differs, and only when it may use the tool', async () => {
    const call = { name: 'tools__regional', arguments: { region: 'eu' } }
    assert.deepEqual(told(await modern('tools/call', call)), [400, -32020])
    assert.deepEqual(told(await modern('tools/call', call, { 'mcp-param-region': 'us' })), [400, -32020])
    assert.equal((await modern('tools/call', call, { 'mcp-param-region': 'eu' })).status, 200)
    const request = modernRequest('tools/call', call)
    const stranger = await door.post('/mcp', other, request.headers, request.body)
    assert.equal(stranger.json?.error?.message, 'Unknown tool: tools__regional')
  })

  it('gets errors for calls that are none', async () => {
    assert.deepEqual(told(await modern('tools/call', { name: 'tools__none' })), [200, -32602])
    assert.deepEqual(told(await modern('tools/call', { name: 'echo' })), [200, -32602])
    assert.deepEqual(told(await modern('tools/call', { name: 'tools__echo', arguments: [] })), [200, -32602])
    assert.deepEqual(told(await modern('tools/list', { cursor: 'made-up' })), [200, -32602])
    assert.deepEqual(told(await modern('tools/list', { cursor: '' })), [200, -32602])
  })

  it('sees an unregistered server as what does not exist', async () => {
    const request = modernRequest('tools/list')
    assert.equal((await door.post('/mcp/nowhere', key, request.headers, request.body)).status, 404)
    assert.equal((await door.post('/mcp/constructor', key, request.headers, request.body)).status, 404)
  })

  it('has no other verb than POST', async () => {
    for (const method of ['GET', 'DELETE']) {
      const headers = {
        authorization: `Bearer ${key}`,
        'mcp-protocol-version': '2026-07-28',
        accept: 'text/event-stream',
      }
      const response = await fetch(`${door.url}/mcp`, { method, headers })
      assert.equal(response.status, 405)
      assert.equal(response.headers.get('allow'), 'POST')
    }
  })

  it('cancels by hanging up', async () => {
    const tag = randomUUID()
    const request = modernRequest('tools/call', { name: 'tools__slow', arguments: { tag } })
    const hangUp = new AbortController()
    const waiting = fetch(`${door.url}/mcp`, {
      method: 'POST',
      headers: { ...request.headers, 'content-type': 'application/json', authorization: `Bearer ${key}` },
      body: request.body,
      signal: hangUp.signal,
    })
    await until('the call has begun', () => upstream.begun.includes(tag))
    hangUp.abort()
    await assert.rejects(waiting)
    await until('the upstream knows', () => upstream.cancelled.includes(tag))
  })

  it('passes none of its headers on to the upstream', async () => {
    const from = upstream.seen.length
    await modern(
      'tools/call',
      { name: 'tools__echo', arguments: { text: 'x' } },
      {
        cookie: 'canary=1',
        'x-api-key': key,
        'mcp-session-id': 'canary',
        'mcp-param-canary': '1',
        'last-event-id': 'canary',
        'x-forwarded-for': 'canary',
      },
    )
    const sent = JSON.stringify(upstream.seen.slice(from))
    assert.ok(sent.includes('tools/call'))
    assert.ok(!sent.includes('canary') && !sent.includes(key))
  })
})

describe('a body', () => {
  const send = (body: string, headers = {}) => door.post('/mcp', key, headers, body)
  it('with a key twice, also when it is escaped or nested, is refused and goes nowhere', async () => {
    const { headers } = modernRequest('tools/call', { name: 'tools__echo' })
    const from = upstream.seen.length
    const meta =
      '"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}'
    for (const params of [
      `"name":"tools__echo","name":"tools__fail",${meta}`,
      `"name":"tools__echo","na\\u006de":"tools__fail",${meta}`,
      `"name":"tools__echo","arguments":{"text":"a","text":"b"},${meta}`,
      `"name":"tools__echo","arguments":{"text":9007199254740993},${meta}`,
    ])
      assert.deepEqual(
        told(await send(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{${params}}}`, headers)),
        [400, -32700],
      )
    assert.equal(upstream.seen.length, from)
  })

  it('that is no JSON, no message or no JSON by its type is refused', async () => {
    assert.deepEqual(told(await send('{')), [400, -32700])
    assert.deepEqual(told(await send('"text"')), [400, -32600])
    assert.deepEqual(told(await send('{"jsonrpc":"2.0","id":1}')), [400, -32600])
    assert.equal((await send('{}', { 'content-type': 'text/plain' })).status, 415)
    assert.equal((await send(`"${'x'.repeat(5 * 1024 * 1024)}"`)).status, 413)
  })
})

for (const revision of ['2025-11-25', '2025-06-18', '2025-03-26']) {
  describe(`a session of revision ${revision}`, () => {
    it('lists and calls without fields of the current revision', async () => {
      const headers = await session(key, revision)
      const list = await door.post('/mcp', key, headers, JSON.stringify(rpc('tools/list')))
      const result = list.json?.result ?? {}
      assert.ok((result.tools as unknown[]).length >= 5)
      assert.ok(!('resultType' in result) && !('ttlMs' in result) && !('cacheScope' in result))
      const params = { name: 'tools__echo', arguments: { text: 'hi' } }
      const call = await door.post('/mcp', key, headers, JSON.stringify(rpc('tools/call', params)))
      assert.deepEqual(call.json?.result, { content: [{ type: 'text', text: 'hi' }] })
      const ping = await door.post('/mcp', key, headers, JSON.stringify(rpc('ping')))
      assert.deepEqual(ping.json, { jsonrpc: '2.0', id: 1, result: {} })
      const unknown = await door.post('/mcp', key, headers, JSON.stringify(rpc('prompts/list')))
      assert.deepEqual(told(unknown), [200, -32601])
    })

    it('is of no use to another key, to another endpoint, to an unknown id or to nobody', async () => {
      const headers = await session(key, revision)
      const list = JSON.stringify(rpc('tools/list'))
      assert.equal((await door.post('/mcp', other, headers, list)).status, 404)
      assert.equal((await door.post('/mcp/tools', key, headers, list)).status, 404)
      assert.equal((await door.post('/mcp', key, { ...headers, 'mcp-session-id': '0'.repeat(32) }, list)).status, 404)
      assert.equal((await door.post('/mcp', null, headers, list)).status, 401)
      assert.equal((await door.post('/mcp', key, {}, list)).status, 400)
      const stolen = await fetch(`${door.url}/mcp`, {
        method: 'DELETE',
        headers: { ...headers, authorization: `Bearer ${other}` },
      })
      assert.equal(stolen.status, 404)
      assert.equal((await door.post('/mcp', key, headers, list)).status, 200)
    })

    it('cannot be used to cancel what another session runs', async () => {
      const mine = await session(key, revision)
      const theirs = await session(other, revision)
      const tag = randomUUID()
      const call = JSON.stringify(rpc('tools/call', { name: 'tools__slow', arguments: { tag } }, 'shared'))
      const waiting = door.post('/mcp', key, mine, call)
      await until('the call has begun', () => upstream.begun.includes(tag))
      const cancel = JSON.stringify({
        jsonrpc: '2.0',
        method: 'notifications/cancelled',
        params: { requestId: 'shared' },
      })
      assert.equal((await door.post('/mcp', other, theirs, cancel)).status, 202)
      assert.ok(!upstream.cancelled.includes(tag))
      assert.equal((await door.post('/mcp', key, mine, cancel)).status, 202)
      await until('the upstream knows', () => upstream.cancelled.includes(tag))
      const ended = await waiting
      assert.deepEqual([ended.status, ended.text], [202, ''])
    })

    it('does not lose a call because its connection broke', async () => {
      const headers = await session(key, revision)
      const tag = randomUUID()
      const hangUp = new AbortController()
      const waiting = fetch(`${door.url}/mcp`, {
        method: 'POST',
        headers: { ...headers, 'content-type': 'application/json', authorization: `Bearer ${key}` },
        body: JSON.stringify(rpc('tools/call', { name: 'tools__slow', arguments: { tag } }, 5)),
        signal: hangUp.signal,
      })
      await until('the call has begun', () => upstream.begun.includes(tag))
      hangUp.abort()
      await assert.rejects(waiting)
      // The next exchange takes longer than telling the upstream would.
      await door.post(
        '/mcp',
        key,
        headers,
        JSON.stringify(rpc('tools/call', { name: 'tools__echo', arguments: { text: 'x' } }, 6)),
      )
      assert.ok(!upstream.cancelled.includes(tag))
      const cancel = { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 5 } }
      await door.post('/mcp', key, headers, JSON.stringify(cancel))
      await until('the upstream knows', () => upstream.cancelled.includes(tag))
    })

    it(`${revision === '2025-03-26' ? 'takes' : 'refuses'} a batch`, async () => {
      const headers = await session(other, revision)
      const batch = JSON.stringify([
        rpc('tools/call', { name: 'tools__echo', arguments: { text: 'a' } }, 1),
        rpc('tools/call', { name: 'tools__fail', arguments: {} }, 2),
        { jsonrpc: '2.0', method: 'notifications/initialized' },
        rpc('initialize', {}, 3),
        'nonsense',
      ])
      for (const more of [headers, { 'mcp-session-id': headers['mcp-session-id'] as string }]) {
        const answer = await door.post('/mcp', other, more, batch)
        if (revision !== '2025-03-26') {
          assert.equal(answer.status, 400)
          continue
        }
        const byId = new Map((answer.json as unknown as NonNullable<Answer['json']>[]).map((one) => [one.id, one]))
        assert.equal(byId.size, 4)
        assert.deepEqual(byId.get(1)?.result?.content, [{ type: 'text', text: 'a' }])
        // Each element is judged by itself: this key may not call that tool.
        assert.equal(byId.get(2)?.error?.code, -32602)
        assert.equal(byId.get(3)?.error?.code, -32600)
        assert.equal(byId.get(undefined)?.error?.code, -32600)
      }
    })

    it('hears that tools have changed, and nothing after it ended', async () => {
      const headers = await session(key, revision)
      const response = await fetch(`${door.url}/mcp`, {
        headers: { ...headers, authorization: `Bearer ${key}`, accept: 'text/event-stream' },
      })
      assert.equal(response.headers.get('content-type'), 'text/event-stream')
      let heard = ''
      const reading = (async () => {
        for await (const chunk of response.body ?? []) heard += Buffer.from(chunk).toString()
      })()
      upstream.addTool(`new-${revision}`)
      await until('the change is heard', () => heard.includes('notifications/tools/list_changed'))
      const ended = await fetch(`${door.url}/mcp`, {
        method: 'DELETE',
        headers: { ...headers, authorization: `Bearer ${key}` },
      })
      assert.equal(ended.status, 200)
      await reading
      assert.equal((await door.post('/mcp', key, headers, JSON.stringify(rpc('ping')))).status, 404)
    })
  })
}

describe('a server that is down', () => {
  it('costs its own tools only, and is named in the list', async () => {
    const { json } = await modern('tools/list')
    const names = ((json?.result?.tools ?? []) as { name: string }[]).map(({ name }) => name)
    assert.ok(names.includes('tools__echo') && !names.some((name) => name.startsWith('gone__')))
    const meta = json?.result?._meta as Record<string, { server: string; status: string }[]>
    assert.ok(
      meta['dev.gatehouse/unavailable']?.some(({ server, status }) => server === 'gone' && status !== 'healthy'),
    )
  })

  it('that crashes in a call is a result the model can read, and runs again', async () => {
    const answer = await modern('tools/call', { name: 'crash__go' })
    const result = answer.json?.result as {
      isError: boolean
      _meta: Record<string, unknown>
      content: { text: string }[]
    }
    assert.equal(result.isError, true)
    assert.equal(result._meta['dev.gatehouse/code'], 'upstream_error')
    assert.match(result.content[0]?.text ?? '', /crash failed: its process ended/)
    await door.healthy('crash')
    assert.equal((await modern('tools/call', { name: 'crash__env' })).status, 200)
  })
})

describe('a result that is nested too deeply to be written', () => {
  it('is an error for its caller and for nobody else', async () => {
    const deep = `${'['.repeat(50_000)}${']'.repeat(50_000)}`
    upstream.intercept = ({ body }, response) => {
      if (body?.method !== 'tools/call') return false
      response.writeHead(200, { 'content-type': 'application/json' })
      response.end(`{"jsonrpc":"2.0","id":${body.id},"result":{"content":[],"deep":${deep}}}`)
      return true
    }
    const answer = await modern('tools/call', { name: 'tools__echo', arguments: { text: 'x' } })
    upstream.intercept = null
    assert.deepEqual(told(answer), [500, -32603])
    assert.equal((await modern('tools/list')).status, 200)
  })
})

describe('a budget', () => {
  it('that is used up is a result the model can read', async () => {
    const poor = await door.key(['tools__echo'], { limits: [{ unit: 'tool_calls', max: 1 }] })
    const request = modernRequest('tools/call', { name: 'tools__echo', arguments: { text: 'x' } })
    const first = await door.post('/mcp', poor, request.headers, request.body)
    assert.deepEqual(first.json?.result?.content, [{ type: 'text', text: 'x' }])
    const second = await door.post('/mcp', poor, request.headers, request.body)
    assert.equal(second.status, 200)
    assert.equal(second.json?.result?.isError, true)
    const meta = second.json?.result?._meta as Record<string, unknown>
    assert.equal(meta['dev.gatehouse/code'], 'budget_exhausted')
  })
})
