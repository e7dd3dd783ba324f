/** What a user does with a gateway over HTTP, for tests. @module */
import assert from 'node:assert/strict'
import { connect } from 'node:net'

export const adminKey = 'admin-key-of-the-tests-0123456789'

export interface Minted {
  readonly id: string
  readonly key: string
}

export interface Answered {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  /** The parsed body; an empty object when it is no JSON. */
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape
  readonly json: any
}

export interface AskOptions {
  readonly key?: string | undefined
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string>> | undefined
  readonly signal?: AbortSignal | undefined
}

/** What a user of a gateway does, whether it is a process or not. */
export interface Client {
  readonly url: string
  readonly port: number
  readonly home: string
  readonly adminKey: string
  /** One request; a body that is no string or Buffer is sent as JSON. */
  ask(method: string, path: string, options?: AskOptions): Promise<Answered>
  admin(method: string, path: string, body?: unknown): Promise<Answered>
  chat(key: string, body: object, headers?: Readonly<Record<string, string>>): Promise<Answered>
  mintAccount(body?: object): Promise<string>
  /** A key, under a new organization unless `account` says otherwise. */
  mintKey(body?: object): Promise<Minted>
  mintSession(key: string, body?: object): Promise<Minted>
  /** Value of a metric without labels. */
  metric(name: string): Promise<number>
  /** Every row of the ledger, dollars in micro-dollars so that they can be added up. */
  // biome-ignore lint/suspicious/noExplicitAny: rows as the admin API gives them
  ledger(): Promise<any[]>
}

/** @param url asked for each time: it changes with a restart */
export function clientOf(url: () => string, home: string): Client {
  const client: Client = {
    get url() {
      return url()
    },
    get port() {
      return Number(new URL(url()).port)
    },
    home,
    adminKey,
    async ask(method, path, { key, body, headers, signal } = {}) {
      const plain = typeof body === 'string' || body instanceof Uint8Array
      const response = await fetch(`${url()}${path}`, {
        method,
        headers: {
          ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          ...headers,
        },
        ...(body === undefined ? {} : { body: (plain ? body : JSON.stringify(body)) as string }),
        ...(signal === undefined ? {} : { signal }),
      })
      const text = await response.text()
      return { status: response.status, headers: response.headers, text, json: parse(text) }
    },
    admin: (method, path, body) => client.ask(method, `/admin/v1${path}`, { key: adminKey, body }),
    chat: (key, body, headers) =>
      client.ask('POST', '/v1/chat/completions', { key, body: { ...hello, ...body }, headers }),
    async mintAccount(body = {}) {
      return created(await client.admin('POST', '/accounts', { name: 'test', ...body })).id
    },
    async mintKey(body = {}) {
      const account = 'account' in body ? {} : { account: await client.mintAccount() }
      return created(await client.admin('POST', '/keys', { ...account, ...body }))
    },
    async mintSession(key, body = {}) {
      return created(await client.ask('POST', '/v1/sessions', { key, body }))
    },
    async metric(name) {
      const { text } = await client.ask('GET', '/metrics')
      return Number(new RegExp(`^${name} (.+)$`, 'm').exec(text)?.[1] ?? Number.NaN)
    },
    async ledger() {
      const rows: { id: string }[] = []
      for (;;) {
        const last = rows.at(-1)?.id
        const page = await client.admin('GET', `/ledger?limit=1000${last === undefined ? '' : `&after=${last}`}`)
        for (const row of page.json.data) rows.push({ ...row, usd: Math.round(Number(row.usd) * 1e6) })
        if (page.json.data.length < 1000) return rows
      }
    },
  }
  return client
}

function created(answered: Answered): Minted {
  assert.equal(answered.status, 201, answered.text)
  return answered.json
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return {}
  }
}

/** The smallest chat, to which a test adds what it is about. */
export const hello = { model: 'vendor/ok', messages: [{ role: 'user', content: 'hello there' }] }

/** Sends bytes as they are and reads until the other side closes. */
export function exchangeRaw(port: number, bytes: string | Buffer): Promise<string> {
  return new Promise((resolve) => {
    const parts: Buffer[] = []
    const socket = connect(port, '127.0.0.1', () => socket.write(bytes))
    socket.on('data', (part) => parts.push(part))
    socket.on('error', () => {})
    socket.on('close', () => resolve(Buffer.concat(parts).toString()))
  })
}

/** Waits until something becomes true; the file's time limit is the only limit. */
export async function eventually(what: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await what())) await new Promise((resolve) => setTimeout(resolve, 10))
}
