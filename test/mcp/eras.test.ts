/** Published clients of every era against upstreams of either era, through the front door. @module */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { Client as OldClient } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport as OldTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { type McpUpstream, startMcpUpstream } from '../upstreams/mcp-server.ts'
import { type FrontDoor, openFrontDoor } from './front-door.ts'
import { until } from './rig.ts'

const info = { name: 'test-client', version: '1.0.0' }

interface Peer {
  listTools(): Promise<{ tools: { name: string }[] }>
  callTool(
    params: { name: string; arguments: Record<string, unknown> },
    options?: { signal?: AbortSignal; onprogress?: (progress: object) => void; timeout?: number },
  ): Promise<Record<string, unknown>>
  close(): Promise<void>
}

async function v2(url: string, key: string, mode: 'legacy' | 'auto' | 'pinned'): Promise<Peer> {
  const versionNegotiation = { mode: mode === 'pinned' ? { pin: '2026-07-28' } : mode } as const
  const client = new Client(info, { versionNegotiation })
  const requestInit = { headers: { authorization: `Bearer ${key}` } }
  await client.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit }))
  return {
    listTools: () => client.listTools(),
    callTool: (params, options) => client.callTool(params, options as never) as Promise<Record<string, unknown>>,
    close: () => client.close(),
  }
}

async function v1(url: string, key: string): Promise<Peer> {
  const client = new OldClient(info)
  const transport = new OldTransport(new URL(url), { requestInit: { headers: { authorization: `Bearer ${key}` } } })
  await client.connect(transport as never)
  return {
    listTools: () => client.listTools(),
    callTool: (params, options) =>
      client.callTool(params, undefined, options as never) as Promise<Record<string, unknown>>,
    async close() {
      await transport.terminateSession()
      await client.close()
    },
  }
}

const peers: [string, (url: string, key: string) => Promise<Peer>][] = [
  ['the v1 client', v1],
  ['the v2 client as it comes', (url, key) => v2(url, key, 'legacy')],
  ['the v2 client that asks first', (url, key) => v2(url, key, 'auto')],
  ['the v2 client pinned to 2026-07-28', (url, key) => v2(url, key, 'pinned')],
]

let upstreams: Record<'old' | 'new', McpUpstream>
let door: FrontDoor
let key: string
before(async () => {
  upstreams = { old: await startMcpUpstream({ era: 'legacy' }), new: await startMcpUpstream({ era: 'modern' }) }
  const row = ({ url, allow }: McpUpstream) => ({ url, allow_private: [allow] })
  door = await openFrontDoor({ old: row(upstreams.old), new: row(upstreams.new) })
  await door.healthy('old', 'new')
  key = await door.key(['*'])
})
after(async () => {
  await door.close()
  await upstreams.old.close()
  await upstreams.new.close()
})

for (const [title, connect] of peers) {
  for (const server of ['old', 'new'] as const) {
    describe(`${title} at a ${server === 'old' ? 'legacy' : 'modern'} upstream`, () => {
      it('lists the tools of the server under their own names, and of all servers under outward names', async () => {
        const one = await connect(`${door.url}/mcp/${server}`, key)
        const names = (await one.listTools()).tools.map(({ name }) => name)
        assert.deepEqual(names, ['echo', 'fail', 'hangs-up', 'numbers', 'regional', 'slow', 'steps'])
        await one.close()
        const all = await connect(`${door.url}/mcp`, key)
        const outward = (await all.listTools()).tools.map(({ name }) => name)
        assert.equal(outward.length, 14)
        assert.ok(names.every((name) => outward.includes(`${server}__${name}`)))
        await all.close()
      })

      it('calls a tool, on both endpoints, also one whose parameter travels as a header', async () => {
        const one = await connect(`${door.url}/mcp/${server}`, key)
        await one.listTools()
        const { content } = await one.callTool({ name: 'echo', arguments: { text: 'hi' } })
        assert.deepEqual(content, [{ type: 'text', text: 'hi' }])
        const { content: region } = await one.callTool({ name: 'regional', arguments: { region: 'eü ' } })
        assert.deepEqual(region, [{ type: 'text', text: 'eü ' }])
        await one.close()
        const all = await connect(`${door.url}/mcp`, key)
        const outward = await all.callTool({ name: `${server}__echo`, arguments: { text: 'out' } })
        assert.deepEqual(outward.content, [{ type: 'text', text: 'out' }])
        await all.close()
      })

      it('gets structured content that fits the schema it was shown', async () => {
        const one = await connect(`${door.url}/mcp/${server}`, key)
        const { tools } = await one.listTools()
        const { outputSchema } = tools.find(({ name }) => name === 'numbers') as { outputSchema?: { type: string } }
        const { structuredContent } = await one.callTool({ name: 'numbers', arguments: {} })
        const bare = server === 'new' && !/v1|as it comes/.test(title)
        assert.equal(outputSchema?.type, bare ? 'array' : 'object')
        assert.deepEqual(structuredContent, bare ? [1, 2] : { result: [1, 2] })
        await one.close()
      })

      it('hears progress before the result', async () => {
        const one = await connect(`${door.url}/mcp/${server}`, key)
        const heard: object[] = []
        const result = await one.callTool(
          { name: 'steps', arguments: {} },
          { onprogress: (progress) => heard.push(progress) },
        )
        assert.deepEqual(result.content, [{ type: 'text', text: 'done' }])
        assert.deepEqual(
          heard,
          [1, 2, 3].map((progress) => ({ progress, total: 3, message: `step ${progress}` })),
        )
        await one.close()
      })

      it('cancels a call, and the upstream knows', async () => {
        const one = await connect(`${door.url}/mcp/${server}`, key)
        const upstream = upstreams[server]
        const tag = `${title}-${server}`
        const cancel = new AbortController()
        const waiting = one.callTool({ name: 'slow', arguments: { tag } }, { signal: cancel.signal })
        await until('the call has begun', () => upstream.begun.includes(tag))
        cancel.abort()
        await assert.rejects(waiting)
        await until('the upstream knows', () => upstream.cancelled.includes(tag))
        await one.close()
      })

      it('sees a failing tool as a result and an unknown one as an error', async () => {
        const one = await connect(`${door.url}/mcp/${server}`, key)
        const failed = await one.callTool({ name: 'fail', arguments: {} })
        assert.equal(failed.isError, true)
        await assert.rejects(one.callTool({ name: 'nothing', arguments: {} }), /Unknown tool: nothing/)
        await one.close()
      })
    })
  }
}
