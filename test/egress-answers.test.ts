import assert from 'node:assert/strict'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { type AddressInfo, createServer as createSocketServer } from 'node:net'
import { describe, it } from 'node:test'
import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib'
import { Fault } from '../src/fault.ts'
import { caps, closers, type Handler, isAnswer, isFault, ok, open, sentinel, to } from './egress-sentinel.ts'

describe('a redirect', () => {
  it('is an ordinary answer unless following was asked for', async () => {
    const server = await sentinel(to(302, 'http://169.254.169.254/latest'))
    const answer = isAnswer(await open({ allowPrivate: [server.allow] }).fetch({ url: server.url, ...caps }))
    assert.equal(answer.status, 302)
  })

  it('into a private place is refused, whatever its status', async () => {
    const inside = await sentinel(ok)
    for (const status of [301, 302, 303, 307, 308]) {
      const server = await sentinel(to(status, inside.url))
      const egress = open({ allowPrivate: [server.allow] })
      isFault(await egress.fetch({ url: server.url, maxRedirects: 3, ...caps }), 'upstream_error', /not allowed/)
    }
    assert.equal(inside.accepts, 0)
  })

  it('is followed three times and not a fourth', async () => {
    const server = await sentinel((request, response) => {
      const hops = Number(request.url?.slice(1))
      if (hops === 0) response.end('there')
      else response.writeHead(302, { location: `/${hops - 1}` }).end()
    })
    const egress = open({ allowPrivate: [server.allow] })
    const answer = isAnswer(await egress.fetch({ url: `${server.url}/3`, maxRedirects: 3, ...caps }))
    assert.equal(answer.body.toString(), 'there')
    assert.equal(answer.url, `${server.url}/0`)
    isFault(await egress.fetch({ url: `${server.url}/4`, maxRedirects: 3, ...caps }), 'upstream_error', /too many/)
    isFault(await egress.fetch({ url: `${server.url}/20`, maxRedirects: 20, ...caps }), 'upstream_error', /too many/)
    isFault(await egress.fetch({ url: `${server.url}/2`, maxRedirects: 1, ...caps }), 'upstream_error', /too many/)
  })

  it('to another origin takes no credential along, one within the origin does', async () => {
    const other = await sentinel(ok)
    const server = await sentinel((request, response) => {
      if (request.url === '/stay') response.writeHead(302, { location: '/' }).end()
      else if (request.url === '/go') response.writeHead(302, { location: other.url }).end()
      else response.end('home')
    })
    const egress = open({ allowPrivate: [server.allow, other.allow] })
    const headers = [
      'authorization',
      'Bearer canary',
      'Cookie',
      'a=canary',
      'x-api-key',
      'canary',
      'accept',
      'text/plain',
    ]
    isAnswer(await egress.fetch({ url: `${server.url}/stay`, headers, maxRedirects: 1, ...caps }))
    assert.equal(server.requests.at(-1)?.headers.authorization, 'Bearer canary')
    isAnswer(await egress.fetch({ url: `${server.url}/go`, headers, maxRedirects: 1, ...caps }))
    const seen = other.requests[0]
    assert.doesNotMatch(String(seen?.rawHeaders), /canary/)
    assert.equal(seen?.headers.accept, 'text/plain')
  })

  it('of a POST is not followed', async () => {
    const other = await sentinel(ok)
    for (const status of [301, 302, 303, 307, 308]) {
      const server = await sentinel(to(status, other.url))
      const egress = open({ allowPrivate: [server.allow, other.allow] })
      const answer = isAnswer(
        await egress.fetch({ url: server.url, method: 'POST', body: 'x', maxRedirects: 3, ...caps }),
      )
      assert.equal(answer.status, status)
    }
    assert.equal(other.accepts, 0)
  })

  it('to another scheme or to nothing sensible is refused', async () => {
    for (const location of ['file:///etc/passwd', 'ftp://x/', 'http://', 'http://user:pass@1.1.1.1/']) {
      const server = await sentinel(to(302, location))
      const answer = await open({ allowPrivate: [server.allow] }).fetch({ url: server.url, maxRedirects: 3, ...caps })
      assert.ok(answer instanceof Fault, location)
    }
  })
})

describe('an answer', () => {
  const serve = async (handler: Handler, more: object = {}) => {
    const server = await sentinel(handler)
    return open({ allowPrivate: [server.allow] }).fetch({ url: server.url, ...caps, ...more })
  }

  it('within the cap comes whole, one byte more is a fault, and cut where a beginning is of use', async () => {
    const send = (size: number) => (_: IncomingMessage, response: ServerResponse) =>
      response.end(Buffer.alloc(size, 'a'))
    assert.equal(isAnswer(await serve(send(1000))).body.length, 1000)
    isFault(await serve(send(1001)), 'upstream_error', /longer than 1000 bytes/)
    const cut = isAnswer(await serve(send(5000), { overflow: 'cut' }))
    assert.equal(cut.body.length, 1000)
    assert.equal(cut.cut, true)
  })

  it('without end stops at the cap', async () => {
    const endless: Handler = (_request, response) => {
      const more = () => {
        while (!response.destroyed && response.write(Buffer.alloc(65_536)));
      }
      response.on('drain', more)
      more()
    }
    isFault(await serve(endless, { maxBytes: 200_000 }), 'upstream_error', /longer/)
  })

  it('that is compressed is capped by its decoded size', async () => {
    for (const [encoding, pack] of [
      ['gzip', gzipSync],
      ['br', brotliCompressSync],
      ['deflate', deflateSync],
    ] as const) {
      const send =
        (body: Buffer): Handler =>
        (_request, response) =>
          response.writeHead(200, { 'content-encoding': encoding }).end(pack(body))
      assert.equal(isAnswer(await serve(send(Buffer.from('hello')))).body.toString(), 'hello')
      const bomb = Buffer.alloc(20_000_000)
      assert.ok(pack(bomb).length < 100_000)
      isFault(await serve(send(bomb), { maxBytes: 1_000_000 }), 'upstream_error', /longer/)
    }
  })

  it('in several or unknown encodings is refused', async () => {
    for (const encoding of ['gzip, gzip', 'gzip, br', 'zstd', 'compress', 'x']) {
      isFault(
        await serve((_request, response) =>
          response.writeHead(200, { 'content-encoding': encoding }).end(gzipSync('x')),
        ),
        'upstream_error',
        /encoding/,
      )
    }
  })

  it('is asked for uncompressed', async () => {
    const server = await sentinel(ok)
    isAnswer(await open({ allowPrivate: [server.allow] }).fetch({ url: server.url, ...caps }))
    assert.equal(server.requests[0]?.headers['accept-encoding'], 'identity')
  })

  it('that breaks off, in its encoding or in its length, is truncated and not complete', async () => {
    const half = gzipSync('a'.repeat(500)).subarray(0, 12)
    isFault(
      await serve((_request, response) => response.writeHead(200, { 'content-encoding': 'gzip' }).end(half)),
      'upstream_truncated',
    )
    isFault(
      await serve((_request, response) => {
        response.writeHead(200, { 'content-length': '100' })
        response.write('canary', () => response.destroy())
      }),
      'upstream_truncated',
    )
  })

  it('that does not come or does not end in time is a timeout', async () => {
    isFault(await serve(() => {}, { timeoutMs: 100 }), 'upstream_timeout')
    isFault(await serve((_request, response) => response.write('x'), { timeoutMs: 100 }), 'upstream_timeout')
  })

  it('is not waited for once the caller cancels', async () => {
    const controller = new AbortController()
    const pending = serve(() => controller.abort(), { signal: controller.signal })
    isFault(await pending, 'upstream_error', /cancelled/)
    isFault(await serve(ok, { signal: AbortSignal.abort() }), 'upstream_error', /cancelled/)
  })

  it('has no cookies, and repeated headers joined', async () => {
    const answer = isAnswer(
      await serve((_request, response) => {
        response.setHeader('set-cookie', ['a=1', 'b=2'])
        response.setHeader('X-Two', ['1', '2'])
        response.end()
      }),
    )
    assert.equal(answer.headers['set-cookie'], undefined)
    assert.equal(answer.headers['x-two'], '1, 2')
  })

  it('that is no HTTP is told without repeating it', async () => {
    const raw = createSocketServer((socket) => socket.on('error', () => {}).end('SSH-2.0-canary\r\n'))
    await new Promise<void>((resolve) => raw.listen(0, '127.0.0.1', resolve))
    closers.push(() => new Promise((resolve) => raw.close(resolve)))
    const { port } = raw.address() as AddressInfo
    const egress = open({ allowPrivate: [`127.0.0.1/32:${port}`] })
    const fault = isFault(await egress.fetch({ url: `http://127.0.0.1:${port}`, ...caps }), 'upstream_error')
    assert.doesNotMatch(JSON.stringify(fault.body), /canary/)
  })
})
