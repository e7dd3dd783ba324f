/** Real listeners and real egress for the egress tests; everything opened here closes when the test file ends. @module */
import assert from 'node:assert/strict'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, afterEach } from 'node:test'
import { createEgress, type Egress, type EgressOptions, type EgressResponse } from '../src/egress.ts'
import { explain, Fault } from '../src/fault.ts'

export type Handler = (request: IncomingMessage, response: ServerResponse) => void

export interface Sentinel {
  readonly url: string
  readonly port: number
  readonly allow: string
  readonly requests: IncomingMessage[]
  accepts: number
}

export const closers: (() => Promise<unknown>)[] = []
after(() => Promise.all(closers.map((close) => close())))

/** A real listener that counts every connection it accepts. */
export async function sentinel(handler: Handler, host = '127.0.0.1'): Promise<Sentinel> {
  const requests: IncomingMessage[] = []
  const server = createServer((request, response) => {
    requests.push(request)
    handler(request, response)
  })
  await new Promise<void>((resolve) => server.listen(0, host, resolve))
  const { port } = server.address() as AddressInfo
  const literal = host.includes(':') ? `[${host}]` : host
  const made: Sentinel = {
    url: `http://${literal}:${port}`,
    port,
    allow: `${literal}/${host.includes(':') ? 128 : 32}:${port}`,
    requests,
    accepts: 0,
  }
  server.on('connection', () => {
    made.accepts += 1
  })
  closers.push(
    () =>
      new Promise((resolve) => {
        server.close(resolve)
        server.closeAllConnections()
      }),
  )
  return made
}

const opened: Egress[] = []
export function open(options: Partial<EgressOptions> = {}): Egress {
  const egress = createEgress({ allowPrivate: [], ...options })
  opened.push(egress)
  return egress
}
afterEach(() => Promise.all(opened.splice(0).map((egress) => egress.close())))

export const answers =
  (...addresses: string[]) =>
  async () =>
    addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }))

export function isFault(value: EgressResponse | Fault, code: string, why?: RegExp): Fault {
  assert.ok(value instanceof Fault, 'expected a fault')
  assert.equal(value.code, code)
  if (why !== undefined) assert.match(explain(value.body), why)
  return value
}

export function isAnswer(value: EgressResponse | Fault): EgressResponse {
  assert.ok(!(value instanceof Fault), value instanceof Fault ? explain(value.body) : '')
  return value
}

export const caps = { maxBytes: 1000, timeoutMs: 5000 }
export const ok: Handler = (_request, response) => response.end('secret canary')
export const to =
  (status: number, location: string): Handler =>
  (_request, response) =>
    response.writeHead(status, { location }).end('canary')
