/** Streams go at the caller's pace: at once when it reads, not at all when it does not, and no further when it is gone. @module */
import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { before, describe, it } from 'node:test'
import { eventually, type GatewayUnderTest, hello, openVendor, startGateway } from '../gateway.ts'
import type { Vendor } from '../upstreams/vendor.ts'

describe('a stream in motion', () => {
  let vendor: Vendor
  let gateway: GatewayUnderTest
  let key: string

  before(async () => {
    vendor = await openVendor()
    gateway = await startGateway({ vendor })
    key = (await gateway.mintKey()).key
  })

  function open(body: object, as = key): Socket {
    const json = JSON.stringify({ ...hello, stream: true, ...body })
    const head = `POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ${as}\r\n`
    const socket = connect(gateway.port, '127.0.0.1')
    socket.on('error', () => {})
    socket.write(`${head}content-type: application/json\r\ncontent-length: ${Buffer.byteLength(json)}\r\n\r\n${json}`)
    return socket
  }
  function collect(socket: Socket): { text(): string; ended(): boolean } {
    const parts: Buffer[] = []
    let over = false
    socket.on('data', (part) => parts.push(part))
    socket.on('close', () => {
      over = true
    })
    return { text: () => Buffer.concat(parts).toString(), ended: () => over }
  }
  const lastRow = async () => (await gateway.ledger()).at(-1)

  it('reaches the caller before the vendor has said more', async () => {
    const socket = open({ model: 'vendor/hold' })
    const seen = collect(socket)
    await eventually(() => seen.text().includes('Gates'))
    assert.ok(!seen.text().includes('slowly'))
    vendor.release()
    await eventually(() => seen.text().includes('[DONE]'))
    socket.destroy()
  })

  it('keeps its last bytes back until the ledger has the call', async () => {
    const socket = open({ model: 'vendor/ok' })
    const seen = collect(socket)
    await eventually(() => seen.text().includes('[DONE]'))
    const id = /x-gatehouse-request-id: (\S+)/i.exec(seen.text())?.[1]
    assert.equal((await lastRow())?.id, id)
    socket.destroy()
  })

  it('stops at the vendor when the caller hangs up, and is charged for what came', async () => {
    const socket = open({ model: 'vendor/endless+drip-5' })
    const seen = collect(socket)
    await eventually(() => seen.text().includes('slowly'))
    socket.destroy()
    await vendor.until((request) => request.model === 'endless+drip-5' && request.aborted)
    await eventually(async () => (await lastRow())?.outcome === 'hangup')
    const row = await lastRow()
    assert.ok(row.output >= 3 && row.input > 0, JSON.stringify(row))
    assert.equal(await gateway.metric('gatehouse_open_holds'), 0)
  })

  it('stops at the vendor when the caller hangs up before the first byte', async () => {
    for (const [model, stream] of [
      ['slow-headers', false],
      ['stall', true],
      ['slow-first-60000', false],
    ] as const) {
      const socket = open({ model: `vendor/${model}`, stream })
      await vendor.until((request) => request.model === model)
      socket.destroy()
      await vendor.until((request) => request.model === model && request.aborted)
      await eventually(async () => (await lastRow())?.upstream_model === model)
      const row = await lastRow()
      assert.equal(row.outcome, 'hangup', model)
      assert.ok(row.tokens > 0, model)
    }
    assert.equal(await gateway.metric('gatehouse_open_holds'), 0)
  })

  it('frees the held budget of a caller that hangs up', async () => {
    const session = await gateway.mintSession(key, { limits: { tokens: 5000 } })
    const socket = open({ model: 'vendor/endless+drip-5', max_tokens: 4000 }, session.key)
    const seen = collect(socket)
    await eventually(() => seen.text().includes('slowly'))
    const during = await gateway.ask('GET', '/v1/sessions/current', { key: session.key })
    // A slice of the cap, not the whole of it.
    assert.ok(during.json.held.tokens >= 256 && during.json.held.tokens < 4000, during.text)
    socket.destroy()
    const current = async () => (await gateway.ask('GET', '/v1/sessions/current', { key: session.key })).json
    await eventually(async () => (await current()).held.tokens === 0)
    assert.ok((await current()).used.tokens > 0)
  })

  it('is refused with overloaded past the most that may be at work, before anything is held', async () => {
    const small = await startGateway({ vendor, limits: { max_in_flight: 2 } })
    const own = (await small.mintKey()).key
    const calls = [1, 2].map(() => small.chat(own, { model: 'vendor/hold-1' }))
    await eventually(() => vendor.requests.filter(({ model }) => model === 'hold-1').length === 2)
    const { status, headers, json } = await small.chat(own, {})
    assert.deepEqual([status, json.error.code], [503, 'overloaded'])
    assert.ok(Number(headers.get('retry-after')) > 0)
    vendor.release()
    for (const call of calls) assert.equal((await call).status, 200)
    assert.equal((await small.chat(own, {})).status, 200)
  })

  it('fills no memory when the vendor is fast and the caller does not read', async () => {
    const before = await gateway.metric('process_resident_memory_bytes')
    const sockets = Array.from({ length: 4 }, () => open({ model: 'vendor/endless+long-9' }).pause())
    const fast = () => vendor.requests.filter((request) => request.model === 'endless+long-9')
    const sent = () => fast().reduce((sum, request) => sum + request.bytesSent, 0)
    // The vendor is stuck when it has sent nothing more for as long as many of its writes take.
    let last = -1
    let same = 0
    await eventually(() => {
      same = sent() === last ? same + 1 : 0
      last = sent()
      return fast().length === 4 && last > 0 && same >= 30
    })
    const grown = (await gateway.metric('process_resident_memory_bytes')) - before
    assert.ok(grown < 64 * 1024 * 1024, `grown by ${grown} bytes, the vendor sent ${last}`)
    assert.ok(fast().every((request) => !request.over))
    for (const socket of sockets) socket.destroy()
    await eventually(() => fast().every((request) => request.aborted))
  })

  it('goes on when a slow caller reads again, and loses nothing', async () => {
    const socket = open({ model: 'vendor/long-40000' })
    socket.pause()
    await vendor.until((request) => request.model === 'long-40000' && request.bytesSent > 1_000_000)
    const seen = collect(socket)
    socket.resume()
    await eventually(() => seen.text().includes('[DONE]'))
    assert.equal(seen.text().match(/"delta":\{"content":"[^"]/g)?.length, 40_000)
    socket.destroy()
  })
})
