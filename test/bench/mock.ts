/**
 * The upstream of the benchmark: HTTP/1.1 by hand on a socket, so that it costs a fraction of what is measured.
 * The model's name says what to answer: `plain` (a whole reply), `paced-N-MS` (N chunks, one every MS), `idle` (one
 * chunk, then the rest after `POST /release`). Each answer carries the marker of its request; a request whose two
 * markers differ was damaged on the way and gets status 500.
 *
 * `node test/bench/mock.ts`; prints its port.
 * @module
 */
import { createServer, type Socket } from 'node:net'

const headEnd = Buffer.from('\r\n\r\n')
const filler = 'The quick answer of the upstream, as long as an ordinary reply. '.repeat(14)
const waiting = new Set<() => void>()

const server = createServer({ noDelay: true }, (socket) => {
  let pending = Buffer.alloc(0)
  socket.on('error', () => {})
  socket.on('data', (data) => {
    pending = pending.length === 0 ? data : Buffer.concat([pending, data])
    for (;;) {
      const end = pending.indexOf(headEnd)
      if (end === -1) return
      const head = pending.toString('latin1', 0, end)
      const length = Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1] ?? 0)
      if (/\r\ntransfer-encoding:/i.test(head)) return reply(socket, 411, '{"error":{"message":"length required"}}')
      const bodyStart = end + headEnd.length
      if (pending.length < bodyStart + length) return
      const body = pending.toString('latin1', bodyStart, bodyStart + length)
      pending = pending.subarray(bodyStart + length)
      answer(socket, head, body)
    }
  })
})

function answer(socket: Socket, head: string, body: string): void {
  if (head.startsWith('POST /release')) {
    const going = [...waiting]
    waiting.clear()
    for (const go of going) go()
    reply(socket, 200, JSON.stringify({ released: going.length }))
    return
  }
  const marker = /marker-(\d+)/.exec(body)?.[1] ?? ''
  const end = /"end-(\d+)"/.exec(body)?.[1]
  if (marker === '' || marker !== end) {
    reply(socket, 500, '{"error":{"message":"the body was damaged"}}')
    return
  }
  const [, kind = 'plain', count = '1', ms = '0'] =
    /"model": ?"[^"]*?(plain|paced|idle)(?:-(\d+)-(\d+))?"/.exec(body) ?? []
  if (kind === 'paced') paced(socket, marker, Number(count), Number(ms))
  else if (kind === 'idle') idle(socket, marker)
  else whole(socket, marker)
}

function whole(socket: Socket, marker: string): void {
  reply(
    socket,
    200,
    `{"id":"chatcmpl-${marker}","object":"chat.completion","created":1700000000,"model":"upstream-model","choices":` +
      `[{"index":0,"message":{"role":"assistant","content":"marker-${marker} ${filler}","refusal":null},"logprobs":null,` +
      '"finish_reason":"stop"}],"usage":{"prompt_tokens":220,"completion_tokens":60,"total_tokens":280,' +
      '"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}},' +
      '"system_fingerprint":"fp_bench"}',
  )
}

function reply(socket: Socket, status: number, body: string): void {
  const head = `HTTP/1.1 ${status} X\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n`
  socket.write(head + body)
}

const streamHead = 'HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n'

function event(marker: string, delta: string, reason: string): string {
  const data =
    `data: {"id":"chatcmpl-${marker}","object":"chat.completion.chunk","created":1700000000,"model":"upstream-model",` +
    `"choices":[{"index":0,"delta":${delta},"logprobs":null,"finish_reason":${reason}}]}\n\n`
  return framed(data)
}

function framed(data: string): string {
  return `${data.length.toString(16)}\r\n${data}\r\n`
}

function token(marker: string, index: number): string {
  return event(
    marker,
    index === 0 ? `{"role":"assistant","content":"marker-${marker}"}` : '{"content":" word"}',
    'null',
  )
}

function ending(marker: string): string {
  const usage =
    `data: {"id":"chatcmpl-${marker}","object":"chat.completion.chunk","created":1700000000,"model":"upstream-model",` +
    '"choices":[],"usage":{"prompt_tokens":220,"completion_tokens":60,"total_tokens":280}}\n\n'
  return `${event(marker, '{}', '"stop"')}${framed(usage)}${framed('data: [DONE]\n\n')}0\r\n\r\n`
}

function paced(socket: Socket, marker: string, count: number, ms: number): void {
  socket.write(streamHead + token(marker, 0))
  let sent = 1
  const timer = setInterval(() => {
    if (sent < count) socket.write(token(marker, sent++))
    else {
      stop()
      socket.write(ending(marker))
    }
  }, ms)
  const stop = () => {
    clearInterval(timer)
    socket.off('close', stop)
  }
  socket.on('close', stop)
}

function idle(socket: Socket, marker: string): void {
  socket.write(streamHead + token(marker, 0))
  const go = () => {
    socket.off('close', leave)
    socket.write(ending(marker))
  }
  const leave = () => void waiting.delete(go)
  waiting.add(go)
  socket.on('close', leave)
}

server.listen({ port: 0, host: '127.0.0.1', backlog: 8192 }, () => {
  const address = server.address()
  if (typeof address === 'object' && address !== null) process.stdout.write(`${address.port}\n`)
})
