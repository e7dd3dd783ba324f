/** A webhook receiver that behaves as told and checks signatures as Standard Webhooks says. @module */
import { createHmac } from 'node:crypto'
import { createServer, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface Received {
  readonly id: string
  /** By the secret, over id, timestamp and body, with a timestamp of the last five minutes. */
  readonly genuine: boolean
  // biome-ignore lint/suspicious/noExplicitAny: a message of whatever event
  readonly body: any
  /** The status it was answered with; null while it is not. */
  status: number | null
}

export interface Receiver {
  readonly url: string
  /** For `allow_private`. */
  readonly allow: string
  /** Every request, in order. */
  readonly received: readonly Received[]
  /** Ids of acknowledged messages about something, in order. */
  acknowledged(about: (body: Received['body']) => boolean): readonly Received[]
  /** How it answers from now on; `hold` keeps what comes open until it is told otherwise. */
  answer(how: number | 'hold'): void
  down(): Promise<void>
  up(): Promise<void>
  close(): Promise<void>
}

/** @param key the bytes that are signed with */
export async function startReceiver(key: Buffer | string): Promise<Receiver> {
  const received: Received[] = []
  const held: { readonly one: Received; readonly response: ServerResponse }[] = []
  let how: number | 'hold' = 204
  let port = 0
  let server: Server | null = null

  const reply = (one: Received, response: ServerResponse) => {
    if (how === 'hold') {
      held.push({ one, response })
      return
    }
    if (response.destroyed) return
    one.status = how
    response.writeHead(how).end()
  }

  async function up(): Promise<void> {
    const opened = createServer((request, response) => {
      const parts: Buffer[] = []
      request.on('data', (part: Buffer) => parts.push(part))
      request.on('end', () => {
        const text = Buffer.concat(parts).toString()
        const id = String(request.headers['webhook-id'])
        const at = String(request.headers['webhook-timestamp'])
        const signature = createHmac('sha256', key).update(`${id}.${at}.${text}`).digest('base64')
        const fresh = Math.abs(Date.now() / 1000 - Number(at)) < 300
        const genuine = fresh && request.headers['webhook-signature'] === `v1,${signature}`
        const one: Received = { id, genuine, body: JSON.parse(text), status: null }
        received.push(one)
        reply(one, response)
      })
    })
    server = opened
    await new Promise<void>((resolve) => opened.listen(port, '127.0.0.1', resolve))
    port = (opened.address() as AddressInfo).port
  }

  async function down(): Promise<void> {
    const closing = server
    server = null
    if (closing === null) return
    closing.closeAllConnections()
    await new Promise((resolve) => closing.close(resolve))
  }

  await up()
  return {
    get url() {
      return `http://127.0.0.1:${port}/hook`
    },
    get allow() {
      return `127.0.0.1/32:${port}`
    },
    received,
    acknowledged: (about) => received.filter(({ status, body }) => status !== null && status < 300 && about(body)),
    answer(next) {
      how = next
      for (const { one, response } of held.splice(0)) reply(one, response)
    },
    down,
    up,
    close: down,
  }
}
