/**
 * How a door is declared: every route names its authentication, role, metering and auditing, and the table of all
 * routes is what the server mounts. A route without a declaration does not type-check; test/edge/inventory.test.ts
 * compares the table with the router.
 * @module
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Credential } from '../call.ts'
import { type Fault, fault } from '../fault.ts'
import type { Gateway } from '../gateway.ts'

export interface Route {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'PUT' | 'DELETE' | 'HEAD'
  /** Hono pattern. */
  readonly path: string
  /** Who may knock: nobody in particular, a holder of a key or session, the administrator. */
  readonly auth: 'none' | 'holder' | 'admin'
  /** The dialect faults are told in. */
  readonly dialect: 'openai' | 'mcp' | 'plain'
  /** Takes a hold and writes the ledger. */
  readonly metered: boolean
  /** Leaves an audit or ledger record. */
  readonly audited: boolean
  readonly handle: (exchange: Exchange) => void | Promise<void>
}

/** One HTTP request as a door sees it, past the guard. */
export interface Exchange {
  readonly gateway: Gateway
  readonly incoming: IncomingMessage
  readonly outgoing: ServerResponse
  readonly params: Readonly<Record<string, string>>
  /** As sent, without the query. */
  readonly path: string
  /** Behind the question mark, or empty. */
  readonly search: string
  readonly id: string
  readonly at: number
  readonly startedAt: number
  /** null when none was presented; a malformed one never gets here. */
  readonly credential: Credential | null
  readonly traceparent: string
}

/**
 * Reads a request body whole, up to a cap.
 *
 * @param cap bytes; one more is a 413 fault and the rest is not read
 * @returns the bytes, or a fault (too large, encoded, aborted)
 */
export function readBody(incoming: IncomingMessage, cap: number): Promise<Buffer | Fault> {
  const declared = incoming.headers['content-length']
  if (declared !== undefined && Number(declared) > cap) return Promise.resolve(tooLarge(cap))
  // A compressed body would have to be judged on its decoded form; nobody sends one, so it is refused.
  const encoding = incoming.headers['content-encoding']
  if (encoding !== undefined && encoding !== 'identity') {
    return Promise.resolve(
      fault({
        code: 'invalid_request',
        where: 'content-encoding',
        why: 'compressed bodies are not accepted',
        status: 415,
      }),
    )
  }
  return new Promise((resolve) => {
    const chunks: Buffer[] = []
    let size = 0
    incoming.on('data', (chunk: Buffer) => {
      size += chunk.length
      if (size > cap) {
        incoming.pause()
        resolve(tooLarge(cap))
        return
      }
      chunks.push(chunk)
    })
    incoming.on('end', () => {
      resolve(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks, size))
      // The request lives as long as its answer; what it sent need not.
      chunks.length = 0
    })
    // Behind the end this says nothing new. A request that breaks is closed too, and has no 'error' where nobody asks.
    incoming.on('close', () => resolve(cutShort))
  })
}

const cutShort = fault({ code: 'invalid_request', where: 'body', why: 'the request ended early' })

function tooLarge(cap: number): Fault {
  return fault({ code: 'invalid_request', where: 'body', why: `larger than ${cap} bytes`, status: 413 })
}
