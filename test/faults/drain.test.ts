/** Stopping: what is at work ends well, nothing new begins. @module */
import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { describe, it } from 'node:test'
import { eventually, hello, openVendor, startGateway, startInside } from '../gateway.ts'

describe('a gateway that is told to stop', () => {
  it('finishes the stream at work, takes no new connection, is not ready, and exits with 0', async () => {
    const vendor = await openVendor()
    const gateway = await startGateway({ vendor })
    const { key, id } = await gateway.mintKey()
    const body = JSON.stringify({ ...hello, model: 'vendor/hold-3', stream: true })
    const auth = `host: localhost\r\nauthorization: Bearer ${key}\r\n`
    const socket = connect(gateway.port, '127.0.0.1')
    let said = ''
    let closed = false
    socket.on('data', (part) => {
      said += part.toString()
    })
    socket.on('close', () => {
      closed = true
    })
    socket.write(
      `POST /v1/chat/completions HTTP/1.1\r\n${auth}content-type: application/json\r\n` +
        `content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    )
    await eventually(() => said.includes('slowly'))
    const over = gateway.stop()
    await gateway.logged(/"msg":"draining"/)
    // Asked on the connection that is still open; the answers come behind the stream.
    socket.write(`GET /readyz HTTP/1.1\r\n${auth}\r\n`)
    await eventually(
      () =>
        new Promise((resolve) => {
          const refused = connect(gateway.port, '127.0.0.1', () => {
            refused.destroy()
            resolve(false)
          })
          refused.on('error', () => resolve(true))
        }),
    )
    assert.ok(!said.includes('[DONE]'))
    vendor.release()
    assert.equal(await over, 0)
    await eventually(() => closed)
    assert.ok(said.includes('[DONE]'), said)
    assert.match(said, /HTTP\/1\.1 503 [\s\S]*"ready":false[\s\S]*"draining":true/)
    await gateway.restart()
    const rows = (await gateway.ledger()).filter((row) => row.account === id)
    assert.deepEqual([rows.length, rows[0]?.outcome], [1, 'answered'])
  })

  it('tells a stream that outlives its patience that it is cut, and writes its row', async () => {
    const vendor = await openVendor()
    const gateway = await startInside({ vendor })
    const { key } = await gateway.mintKey()
    const call = gateway.chat(key, { model: 'vendor/endless+drip-10', stream: true })
    const whole = gateway.chat(key, { model: 'vendor/slow-headers' })
    await vendor.until((request) => request.model === 'slow-headers')
    await vendor.until((request) => request.model.startsWith('endless') && request.bytesSent > 500)
    await gateway.running.stop(100)
    const { text } = await call
    assert.match(text, /"code":"draining"/)
    assert.ok(!text.includes('[DONE]'))
    assert.deepEqual([(await whole).status, (await whole).json.error.code], [503, 'draining'])
    assert.equal(gateway.running.gateway.escrow.open(), 0)
  })

  it('stops at once when it is told a second time', async () => {
    const vendor = await openVendor()
    const gateway = await startGateway({ vendor })
    const { key } = await gateway.mintKey()
    const call = gateway.chat(key, { model: 'vendor/slow-headers' }).catch(() => 'cut')
    await vendor.until((request) => request.model === 'slow-headers')
    gateway.process.kill('SIGTERM')
    await gateway.logged(/draining; once more/)
    assert.equal(await gateway.stop('SIGTERM'), 1)
    assert.equal(await call, 'cut')
  })
})
