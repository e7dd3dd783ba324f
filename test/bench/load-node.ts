/**
 * The load generator in Node, for machines without a C compiler: same arguments, same checks, same output as load.c.
 * @module
 */
import { connect, type Socket } from 'node:net'
import { quantile } from './measure.ts'

const [port = '', path = '', model = '', connections = '1', requests = '1', rate = '0', ...headers] =
  process.argv.slice(2)
const total = Number(requests)
const perSecond = Number(rate)
const padding = 'benchmark words '.repeat(87)
const latencies: number[] = []
const idle: Line[] = []
let sent = 0
let failed = 0
let failure = ''
let scheduled = false

interface Line {
  readonly socket: Socket
  serial: number
  due: number
  received: string
}

const start = performance.now()

function due(index: number): number {
  return perSecond > 0 ? start + (index * 1000) / perSecond : performance.now()
}

function begin(): void {
  while (sent < total) {
    const at = due(sent)
    const wait = at - performance.now()
    if (wait > 0) {
      if (scheduled) return
      scheduled = true
      setTimeout(() => {
        scheduled = false
        begin()
      }, wait)
      return
    }
    const line = idle.shift()
    if (line === undefined) return
    send(line, at)
  }
}

function send(line: Line, at: number): void {
  line.serial = sent++
  line.due = at
  line.received = ''
  const serial = String(line.serial).padStart(8, '0')
  const body =
    `{"model":"${model}","messages":[{"role":"system","content":"${padding}"},` +
    `{"role":"user","content":"marker-${serial}"}],"max_tokens":64,"temperature":0.2,"user":"end-${serial}"}`
  const lines = ['host: 127.0.0.1', 'content-type: application/json', ...headers, `content-length: ${body.length}`]
  line.socket.write(`POST ${path} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n${body}`)
}

function receive(line: Line, data: Buffer): void {
  line.received += data.toString('latin1')
  const end = line.received.indexOf('\r\n\r\n')
  if (end === -1) return
  const length = /\r\ncontent-length: *(\d+)/i.exec(line.received.slice(0, end))?.[1]
  const complete =
    length === undefined ? line.received.endsWith('0\r\n\r\n') : line.received.length >= end + 4 + Number(length)
  if (!complete) return
  const good =
    line.received.startsWith('HTTP/1.1 200') && line.received.includes(`marker-${String(line.serial).padStart(8, '0')}`)
  if (!good) {
    failed += 1
    failure ||= line.received.slice(0, 300)
  }
  latencies.push((performance.now() - line.due) * 1000)
  idle.push(line)
  if (latencies.length === total) report()
  else begin()
}

const lines: Line[] = []

function report(): void {
  for (const line of lines) line.socket.destroy()
  const seconds = (performance.now() - start) / 1000
  const [p50us, p99us] = [quantile(latencies, 0.5), quantile(latencies, 0.99)]
  process.stdout.write(`${JSON.stringify({ completed: latencies.length, failed, seconds, p50us, p99us, failure })}\n`)
}

for (let index = 0; index < Number(connections); index++) {
  const socket = connect({ host: '127.0.0.1', port: Number(port), noDelay: true })
  const line: Line = { socket, serial: 0, due: 0, received: '' }
  lines.push(line)
  socket.on('connect', () => {
    idle.push(line)
    begin()
  })
  socket.on('data', (data) => receive(line, data))
  socket.on('error', (error) => {
    process.stderr.write(`${error}\n`)
    process.exit(2)
  })
}
