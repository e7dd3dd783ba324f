/** Tool servers over Streamable HTTP, of either era. @module */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { type McpUpstream, startMcpUpstream } from '../upstreams/mcp-server.ts'
import { callTool, openRig, type Rig, textOf, until } from './rig.ts'

for (const era of ['modern', 'legacy'] as const) {
  describe(`a ${era} tool server over HTTP`, () => {
    let upstream: McpUpstream
    let rig: Rig
    before(async () => {
      upstream = await startMcpUpstream({ era })
      rig = openRig()
    })
    after(async () => {
      await rig.close()
      await upstream.close()
    })

    it('is recognised by itself, listed and called', async () => {
      const target = rig.http(upstream)
      assert.deepEqual(target.state().status, 'starting')
      assert.deepEqual(target.tools(), [])
      await target.refresh()
      assert.deepEqual(target.state(), { status: 'healthy', lastFailure: null, era, tools: 7 })
      assert.equal(textOf(await callTool(target, 'echo', { text: 'hello' })), 'hello')
    })

    it('is connected by the first call when nobody has listed it before', async () => {
      assert.equal(textOf(await callTool(rig.http(upstream), 'echo', { text: 'cold' })), 'cold')
    })

    it('reports progress in order, and a failing tool as its result', async () => {
      const target = rig.http(upstream)
      const seen: unknown[] = []
      assert.equal(textOf(await callTool(target, 'steps', {}, { onProgress: (params) => seen.push(params) })), 'done')
      assert.deepEqual(
        seen,
        [1, 2, 3].map((progress) => ({ progress, total: 3, message: `step ${progress}` })),
      )
      const failed = await callTool(target, 'fail')
      assert.ok('result' in failed && failed.result.isError)
    })

    it('is told when a call is cancelled or has taken too long', async () => {
      const target = rig.http(upstream)
      const cancel = new AbortController()
      const waiting = callTool(target, 'slow', { tag: 'cancel' }, { signal: cancel.signal })
      await until('the call has begun', () => upstream.begun.includes('cancel'))
      cancel.abort()
      assert.ok('fault' in (await waiting))
      await until('the server knows', () => upstream.cancelled.includes('cancel'))
      const late = await callTool(target, 'slow', { tag: 'late' }, { timeoutMs: 500 })
      assert.ok('fault' in late)
      assert.equal(late.fault.code, 'upstream_timeout')
      await until('the server knows', () => upstream.cancelled.includes('late'))
      assert.equal(target.state().status === 'error', false)
    })

    it('gets the credential of its row and no header besides what the protocol asks for', async () => {
      const target = rig.http(upstream, { auth: { kind: 'bearer', secret: 'env:TOKEN' } })
      const from = upstream.seen.length
      await callTool(target, 'regional', { region: 'eü' })
      await target.refresh()
      await callTool(target, 'regional', { region: 'eü' }, { meta: { 'com.vendor/k': 1 } })
      const requests = upstream.seen.slice(from)
      for (const { headers } of requests) assert.equal(headers.authorization, 'Bearer value of env:TOKEN')
      const last = requests.filter(({ body }) => body?.method === 'tools/call').at(-1)
      const names = Object.keys(last?.headers ?? {})
        .filter((name) => name.startsWith('mcp-'))
        .sort()
      assert.deepEqual(
        names,
        era === 'modern'
          ? ['mcp-method', 'mcp-name', 'mcp-param-region', 'mcp-protocol-version']
          : ['mcp-protocol-version', 'mcp-session-id'],
      )
      const meta = last?.body?.params?._meta as Record<string, unknown>
      assert.equal(meta['com.vendor/k'], 1)
      assert.equal('io.modelcontextprotocol/clientCapabilities' in meta, era === 'modern')
    })

    it('adds a tool, and the catalogue follows', async () => {
      const target = rig.http(upstream)
      await target.refresh()
      const before = target.tools().length
      await until('the server hears our stream', () =>
        upstream.seen.some(({ method, body }) => method === 'GET' || body?.method === 'subscriptions/listen'),
      )
      // The subscription may be accepted a moment after its request was seen, so the change is made until it is heard.
      let added = 0
      await until('the new tool is listed', async () => {
        if (added < 5) upstream.addTool(`later-${++added}`)
        await new Promise((resolve) => setTimeout(resolve, 200))
        return target.tools().length > before
      })
    })

    it('fails with its own words, capped and harmless', async () => {
      const target = rig.http(upstream)
      await target.refresh()
      upstream.intercept = ({ body }, response) => {
        if (body?.method !== 'tools/call') return false
        const error = { code: -32603, message: `\u001b[31mno\n${'x'.repeat(1000)}` }
        response.writeHead(200, { 'content-type': 'application/json' })
        response.end(JSON.stringify({ jsonrpc: '2.0', id: body.id, error }))
        return true
      }
      const outcome = await callTool(target, 'echo', { text: 'x' })
      upstream.intercept = null
      assert.ok('fault' in outcome && outcome.fault.body.code === 'upstream_error')
      assert.match(outcome.fault.body.why, /^\[31mno x+… \(-32603\)$/)
      assert.ok(outcome.fault.body.why.length < 550)
      assert.equal(target.state().status, 'healthy')
    })

    it('that wants another credential says so without showing its body', async () => {
      const target = rig.http(upstream)
      upstream.intercept = (_seen, response) => {
        response.writeHead(401, { 'content-type': 'text/plain' }).end('secret internals')
        return true
      }
      await target.refresh()
      assert.equal(target.state().status, 'needs_auth')
      const outcome = await callTool(target, 'echo', { text: 'x' })
      upstream.intercept = null
      assert.ok(!JSON.stringify([outcome, target.state()]).includes('secret'))
      await until('it has recovered', async () => {
        await target.refresh()
        return target.state().status === 'healthy'
      })
    })

    it('breaks off an answer, which costs that call alone', async () => {
      const target = rig.http(upstream)
      await target.refresh()
      upstream.intercept = ({ body }, response) => {
        if (body?.method !== 'tools/call') return false
        response.writeHead(200, { 'content-type': 'text/event-stream' })
        response.write(': wait\n\n')
        setImmediate(() => response.destroy())
        return true
      }
      const outcome = await callTool(target, 'echo', { text: 'x' })
      upstream.intercept = null
      assert.ok('fault' in outcome && outcome.fault.code === 'upstream_error')
      assert.equal(textOf(await callTool(target, 'echo', { text: 'again' })), 'again')
    })
  })
}

describe('a legacy tool server that forgets its sessions', () => {
  it('is initialized again without the caller noticing, once for all its calls', async (t) => {
    const upstream = await startMcpUpstream({ era: 'legacy' })
    const rig = openRig()
    t.after(async () => {
      await rig.close()
      await upstream.close()
    })
    const target = rig.http(upstream)
    await target.refresh()
    upstream.forgetSessions()
    const from = upstream.seen.length
    const answers = await Promise.all(['a', 'b', 'c'].map((text) => callTool(target, 'echo', { text })))
    assert.deepEqual(answers.map(textOf), ['a', 'b', 'c'])
    const again = upstream.seen.slice(from).filter(({ body }) => body?.method === 'initialize')
    assert.equal(again.length, 1)
  })
})

describe('a legacy tool server that hangs up before it answers', () => {
  it('is asked again for the rest of the answer', async (t) => {
    const upstream = await startMcpUpstream({ era: 'legacy' })
    const rig = openRig()
    t.after(async () => {
      await rig.close()
      await upstream.close()
    })
    assert.equal(textOf(await callTool(rig.http(upstream), 'hangs-up')), 'after all')
    assert.equal(upstream.seen.filter(({ body }) => body?.method === 'tools/call').length, 1)
    assert.ok(upstream.seen.some(({ method, headers }) => method === 'GET' && headers['last-event-id'] !== undefined))
  })
})

describe('a tool server that changes its era', () => {
  it('is asked anew, without its registration being touched', async (t) => {
    const upstream = await startMcpUpstream({ era: 'dual' })
    const rig = openRig()
    t.after(async () => {
      await rig.close()
      await upstream.close()
    })
    const target = rig.http(upstream)
    await target.refresh()
    assert.equal(target.state().era, 'modern')
    upstream.intercept = ({ headers }, response) => {
      if (headers['mcp-protocol-version'] !== '2026-07-28') return false
      response.writeHead(400, { 'content-type': 'text/plain' }).end('Bad Request')
      return true
    }
    assert.ok('fault' in (await callTool(target, 'echo', { text: 'x' })))
    await until('it speaks the older revision', () => target.state().era === 'legacy')
    assert.equal(textOf(await callTool(target, 'echo', { text: 'old' })), 'old')
  })
})

describe('a modern tool server that changes which parameters travel as headers', () => {
  it('is listed again after its refusal, and the call is made once more', async (t) => {
    const upstream = await startMcpUpstream({ era: 'modern' })
    const rig = openRig()
    t.after(async () => {
      await rig.close()
      await upstream.close()
    })
    const target = rig.http(upstream)
    // Called without having listed: the annotation is not known yet, so the first attempt lacks the header.
    assert.equal(textOf(await callTool(target, 'regional', { region: 'eu' })), 'eu')
    const calls = upstream.seen.filter(({ body }) => body?.method === 'tools/call')
    assert.deepEqual(
      calls.map(({ headers }) => headers['mcp-param-region']),
      [undefined, 'eu'],
    )
  })
})

describe('a tool server that cannot be reached', () => {
  it('is a state with a reason, and costs nobody else anything', async (t) => {
    const upstream = await startMcpUpstream({ era: 'dual' })
    const rig = openRig()
    t.after(async () => {
      await rig.close()
      await upstream.close()
    })
    const target = rig.http(upstream)
    await target.refresh()
    const stopped = await startMcpUpstream({ era: 'dual' })
    await stopped.close()
    const dead = rig.http(stopped)
    await dead.refresh()
    assert.equal(dead.state().status, 'error')
    assert.match(dead.state().lastFailure ?? '', /nothing accepts connections/)
    const outcome = await callTool(dead, 'echo', { text: 'x' })
    assert.ok('fault' in outcome && outcome.fault.code === 'upstream_error')
    assert.equal(textOf(await callTool(target, 'echo', { text: 'lives' })), 'lives')
  })
})
