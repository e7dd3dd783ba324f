/**
 * A small REST service over an in-memory list of pets, behind an API key. Runs alone (`node examples/petstore/server.ts
 * [port]`) or inside a test.
 * @module
 */
import { readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

interface Pet {
  readonly id: string
  readonly name: string
  readonly tag?: string
}

/** A request as it came in, for tests that assert on it. */
export interface SeenRequest {
  readonly method: string
  /** Path and query as sent. */
  readonly url: string
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: string
}

export interface Petstore {
  readonly url: string
  readonly requests: readonly SeenRequest[]
  close(): Promise<void>
}

const maxBody = 64 * 1024
const apiKey = readFileSync(new URL('./api-key', import.meta.url), 'utf8').trim()

/**
 * @param port 0 for any free one
 * @returns once it listens on 127.0.0.1
 */
export async function startPetstore(port: number): Promise<Petstore> {
  const requests: SeenRequest[] = []
  const pets = new Map<string, Pet>()
  let next = 1
  const add = (name: string, tag?: string): Pet => {
    const pet = { id: String(next++), name, ...(tag !== undefined && { tag }) }
    pets.set(pet.id, pet)
    return pet
  }
  add('Rex', 'dog')
  add('Mia', 'cat')
  add('Kiwi', 'bird')

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await readBody(request)
    const { method = 'GET', url = '/' } = request
    requests.push({ method, url, headers: request.headers, body: body ?? '' })
    if (body === null) return send(response, 413, { error: 'the body is too large' })
    if (request.headers['x-api-key'] !== apiKey) return send(response, 401, { error: 'X-Api-Key is missing or wrong' })
    const { pathname, searchParams } = new URL(url, 'http://petstore')
    if (pathname === '/pets' && method === 'GET') return list(response, searchParams)
    if (pathname === '/pets' && method === 'POST') return create(response, body)
    const id = /^\/pets\/([^/]+)$/.exec(pathname)?.[1]
    const pet = id === undefined ? undefined : pets.get(decodeURIComponent(id))
    if (pet === undefined) return send(response, 404, { error: 'there is no such pet' })
    if (method === 'GET') return send(response, 200, pet)
    if (method !== 'DELETE') return send(response, 405, { error: 'only GET and DELETE' })
    pets.delete(pet.id)
    return send(response, 204)
  }

  function list(response: ServerResponse, query: URLSearchParams): void {
    const limit = Number(query.get('limit') ?? 20)
    if (!Number.isInteger(limit) || limit < 1 || limit > 100) {
      send(response, 400, { error: 'limit must be an integer from 1 to 100' })
      return
    }
    const tag = query.get('tag')
    const found = [...pets.values()].filter((pet) => tag === null || pet.tag === tag)
    send(response, 200, { pets: found.slice(0, limit) })
  }

  function create(response: ServerResponse, body: string): void {
    const given = parse(body)
    if (typeof given?.name !== 'string' || given.name === '' || !['undefined', 'string'].includes(typeof given.tag)) {
      send(response, 400, { error: 'a pet has a name and may have a tag' })
      return
    }
    send(response, 201, add(given.name, given.tag as string | undefined))
  }

  const server = createServer((request, response) => {
    answer(request, response).catch(() => send(response, 400, { error: 'the request cannot be read' }))
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', resolve)
  })
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

/** @returns null when it is longer than the service takes */
async function readBody(request: IncomingMessage): Promise<string | null> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size <= maxBody) chunks.push(chunk)
  }
  return size > maxBody ? null : Buffer.concat(chunks).toString('utf8')
}

function parse(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null
  } catch {
    return null
  }
}

function send(response: ServerResponse, status: number, value?: unknown): void {
  if (response.headersSent) return
  if (value === undefined) {
    response.writeHead(status).end()
    return
  }
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value))
}

if (import.meta.main) {
  const store = await startPetstore(Number(process.argv[2] ?? 8790))
  console.log(`petstore on ${store.url}`)
  const stop = () => void store.close().then(() => process.exit(0))
  process.once('SIGINT', stop)
  process.once('SIGTERM', stop)
}
