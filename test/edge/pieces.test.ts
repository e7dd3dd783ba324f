/** Answers in pieces: made as fast as the caller reads, and no further once it is gone. @module */
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { after, before, describe, it } from 'node:test'
import { HttpReply, nobody } from '../../src/edge/reply.ts'
import { eventually } from '../gateway.ts'

describe('an answer in pieces', () => {
  let made = 0
  let ended = 0
  async function* pieces(count: number, fails: boolean) {
    try {
      for (let n = 0; n < count; n++) {
        made++
        yield Buffer.alloc(64 * 1024, 'x')
      }
      if (fails) throw new Error('the store is gone')
    } finally {
      ended++
    }
  }
  const server = createServer((incoming, outgoing) => {
    const [, count, fails] = (incoming.url ?? '').split('/')
    const reply = new HttpReply({ outgoing, id: 'req', traceparent: '', startedAt: 0, mono: () => 0 })
    reply.answer({ kind: 'pieces', status: 200, headers: [], pieces: pieces(Number(count), fails === 'fails') }, nobody)
  })
  let url: string
  before(async () => {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  })
  after(() => server.close())

  it('arrives whole', async () => {
    const text = await (await fetch(`${url}/40`)).text()
    assert.equal(text.length, 40 * 64 * 1024)
  })

  it('waits for a caller that does not read, and stops when it hangs up', async () => {
    made = 0
    ended = 0
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1', () => {
      // A gigabyte, of which a caller that reads nothing gets what fits the sockets' buffers.
      socket.write('GET /16384 HTTP/1.1\r\nHost: localhost\r\n\r\n')
    })
    socket.pause()
    await eventually(() => made > 0)
    socket.destroy()
    await eventually(() => ended === 1)
    assert.ok(made < 2000, `${made} pieces were made`)
  })

  it('is cut where it fails, so that it does not look complete', async () => {
    const answer = await fetch(`${url}/3/fails`)
    await assert.rejects(answer.text())
  })
})
