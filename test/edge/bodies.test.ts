/** Bodies: how large, how coded, how complete. @module */
import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { before, describe, it } from 'node:test'
import { gzipSync } from 'node:zlib'
import { allRoutes, openDoor } from '../../src/edge/server.ts'
import { walk } from '../../src/flow.ts'
import { eventually, type GatewayUnderTest, hello, openVendor, startGateway, startInside } from '../gateway.ts'
import type { Vendor } from '../upstreams/vendor.ts'

const cap = 64 * 1024

describe('a body', () => {
  let vendor: Vendor
  let gateway: GatewayUnderTest
  let key: { id: string; key: string }

  before(async () => {
    vendor = await openVendor()
    gateway = await startGateway({ vendor, limits: { body_bytes: cap } })
    key = await gateway.mintKey({ limits: [{ unit: 'requests', max: 100 }] })
  })
  const head = (lines: string) =>
    `POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ${key.key}\r\n${lines}\r\n\r\n`

  /** Sends a head, then pieces for as long as the gateway listens. @returns the answer and how much went out */
  function flood(lines: string, piece: Buffer, most: number): Promise<{ text: string; sent: number }> {
    return new Promise((resolve) => {
      const socket = connect(gateway.port, '127.0.0.1')
      let text = ''
      let sent = 0
      socket.on('data', (part) => {
        text += part.toString()
      })
      socket.on('error', () => {})
      socket.on('close', () => resolve({ text, sent }))
      const more = () => {
        while (sent < most && !socket.destroyed) {
          sent += piece.length
          if (!socket.write(piece)) return void socket.once('drain', more)
        }
      }
      socket.write(head(lines))
      more()
    })
  }

  it('at the cap is taken, one byte more is 413', async () => {
    const body = (size: number) => {
      const text = JSON.stringify({ ...hello, model: 'vendor/ok', pad: '' })
      return text.replace('"pad":""', `"pad":"${'x'.repeat(size - text.length)}"`)
    }
    assert.equal((await gateway.ask('POST', '/v1/chat/completions', { key: key.key, body: body(cap) })).status, 200)
    const { status, json } = await gateway.ask('POST', '/v1/chat/completions', { key: key.key, body: body(cap + 1) })
    assert.deepEqual([status, json.error.code], [413, 'invalid_request'])
  })

  it('that declares or sends far too much is 413, is not buffered, and holds no budget', async () => {
    const asked = vendor.requests.length
    const before = await gateway.metric('process_resident_memory_bytes')
    const declared = await flood('content-length: 10737418240', Buffer.alloc(0), 0)
    assert.match(declared.text, /^HTTP\/1\.1 413 /)
    const chunk = Buffer.from(`10000\r\n${'x'.repeat(65_536)}\r\n`)
    const endless = await flood('transfer-encoding: chunked', chunk, 10_000_000_000)
    assert.ok(endless.sent < 64 * 1024 * 1024, `it took ${endless.sent} bytes`)
    assert.match(endless.text, /^HTTP\/1\.1 413 /)
    const lying = await flood(`content-length: ${100 * 1024 * 1024}`, Buffer.alloc(65_536, 'x'), 100 * 1024 * 1024)
    assert.match(lying.text, /^HTTP\/1\.1 413 /)
    assert.ok((await gateway.metric('process_resident_memory_bytes')) - before < 64 * 1024 * 1024)
    assert.equal(vendor.requests.length, asked)
    const { standing } = (await gateway.admin('GET', `/keys/${key.id}`)).json
    assert.equal(standing.held.requests, 0)
  })

  it('of a stranger is not read', async () => {
    const { text } = await new Promise<{ text: string }>((resolve) => {
      const socket = connect(gateway.port, '127.0.0.1')
      let text = ''
      socket.on('data', (part) => {
        text += part.toString()
        socket.destroy()
        resolve({ text })
      })
      socket.write('POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n')
    })
    assert.match(text, /^HTTP\/1\.1 401 /)
  })

  it('that is compressed is 415', async () => {
    const body = gzipSync(JSON.stringify(hello))
    const headers = { 'content-encoding': 'gzip' }
    const { status } = await gateway.ask('POST', '/v1/chat/completions', { key: key.key, body, headers })
    assert.equal(status, 415)
  })

  it('that is no JSON object with a model is 400, and names what is wrong', async () => {
    const wrong: [string | Buffer, string][] = [
      ['', 'body'],
      ['{', 'body'],
      ['[]', 'body'],
      ['null', 'body'],
      ['"model"', 'body'],
      ['{"model":"x"} {"model":"y"}', 'body'],
      ['\ufeff{"model":"x"}', 'body'],
      [Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d]), 'body'],
      ['{}', 'model'],
      ['{"model":7}', 'model'],
      [JSON.stringify({ model: 'x'.repeat(300) }), 'model'],
      ['{"model":"x","stream":"yes"}', 'stream'],
      ['{"model":"x","max_tokens":-1}', 'max_tokens'],
      ['{"model":"x","max_tokens":1.5}', 'max_tokens'],
      ['{"model":"x","n":0}', 'n'],
      ['{"model":"x","n":1e9}', 'n'],
      ['{"model":"x","stream_options":7}', 'stream_options'],
      [`{"model":"x","deep":${'['.repeat(5000)}${']'.repeat(5000)}}`, 'body'],
    ]
    for (const [body, where] of wrong) {
      const { status, json } = await gateway.ask('POST', '/v1/chat/completions', { key: key.key, body })
      assert.deepEqual([status, json.error?.param], [400, where], body.toString().slice(0, 60))
    }
    assert.equal((await gateway.ask('GET', '/readyz')).status, 200)
  })

  it('that ends early reaches no vendor and holds nothing', async () => {
    const asked = vendor.requests.length
    const socket = connect(gateway.port, '127.0.0.1', () => {
      socket.write(`${head('content-length: 500')}{"model":"vendor/ok","messages":[`)
    })
    await eventually(async () => (await gateway.metric('gatehouse_in_flight')) === 1)
    socket.destroy()
    await eventually(async () => (await gateway.metric('gatehouse_in_flight')) === 0)
    await eventually(async () => (await gateway.ledger()).at(-1)?.kind === 'unreadable')
    assert.equal(vendor.requests.length, asked)
    assert.equal(await gateway.metric('gatehouse_open_holds'), 0)
  })

  it('can be followed by the next request on the same connection', async () => {
    const json = JSON.stringify(hello)
    const one = `${head(`content-type: application/json\r\ncontent-length: ${json.length}`)}${json}`
    const seen: string = await new Promise((resolve) => {
      let text = ''
      const socket = connect(gateway.port, '127.0.0.1', () => socket.write(one + one))
      socket.on('data', (part) => {
        text += part.toString()
        if (text.match(/"total_tokens":14/g)?.length !== 2) return
        socket.destroy()
        resolve(text)
      })
    })
    assert.equal(seen.match(/HTTP\/1\.1 200 /g)?.length, 2)
  })
})

it('a request head that drips is given up within 15 seconds, and a body within two minutes', async () => {
  const { running } = await startInside({ vendor: await openVendor() })
  const { server } = openDoor(running.gateway, allRoutes(walk), { hosts: new Set(), origins: new Set() })
  const { connectionsCheckingInterval } = server as unknown as { connectionsCheckingInterval: number }
  assert.ok(server.headersTimeout > 0 && server.headersTimeout + connectionsCheckingInterval <= 15_000)
  assert.ok(server.requestTimeout > 0 && server.requestTimeout <= 120_000)
})
