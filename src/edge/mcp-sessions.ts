/**
 * Sessions of older MCP clients: an unguessable id, good for the credential and the endpoint it was made for and for
 * nothing else. They live in this process and end by DELETE, by idleness or when their credential has too many.
 * @module
 */
import { type Fault, fault } from '../fault.ts'
import type { Gateway } from '../gateway.ts'
import type { RpcId } from '../mcp/wire/jsonrpc.ts'
import type { Codec } from '../mcp/wire/revision.ts'

export interface McpSession {
  readonly id: string
  readonly digest: string
  readonly server: string | null
  readonly codec: Codec
  /** Monotonic ms. */
  usedAt: number
  /** Requests under way by `requestKey`; calling one cancels it. */
  readonly underWay: Map<string, () => void>
  /** Ends the stream of unasked messages, where one is open. */
  endStream: (() => void) | null
}

export interface SessionLimits {
  /** Without a request or an open stream, ms. */
  readonly idleMs: number
  readonly total: number
  readonly perCredential: number
}

export const sessionLimits: SessionLimits = { idleMs: 3_600_000, total: 10_000, perCredential: 100 }

export interface McpSessions {
  /** @returns the session, or an overload fault when the table is full */
  mint(gateway: Gateway, digest: string, server: string | null, codec: Codec): McpSession | Fault
  /** Unknown, expired, of another credential or of another endpoint: all the same null. */
  find(gateway: Gateway, id: string, digest: string, server: string | null): McpSession | null
  end(session: McpSession): void
}

export function createSessions(limits: SessionLimits = sessionLimits): McpSessions {
  // In order of last use, so that the idle ones are at the front.
  const sessions = new Map<string, McpSession>()

  function end(session: McpSession): void {
    if (!sessions.delete(session.id)) return
    session.endStream?.()
    for (const cancel of [...session.underWay.values()]) cancel()
  }

  const busy = (session: McpSession) => session.endStream !== null || session.underWay.size > 0
  const expired = (session: McpSession, now: number) => !busy(session) && now - session.usedAt > limits.idleMs

  function sweep(now: number): void {
    for (const session of sessions.values()) {
      if (now - session.usedAt <= limits.idleMs) break
      if (expired(session, now)) end(session)
    }
  }

  return {
    mint(gateway, digest, server, codec) {
      const now = gateway.clock.mono()
      sweep(now)
      const own = [...sessions.values()].filter((session) => session.digest === digest)
      const oldest = own.find((session) => !busy(session)) ?? own[0]
      if (own.length >= limits.perCredential && oldest !== undefined) end(oldest)
      if (sessions.size >= limits.total) return fault({ code: 'overloaded', retryAfterMs: 60_000 })
      const id = gateway.random(16).toString('hex')
      const session = { id, digest, server, codec, usedAt: now, underWay: new Map(), endStream: null }
      sessions.set(id, session)
      return session
    },
    find(gateway, id, digest, server) {
      const session = sessions.get(id)
      if (session === undefined || session.digest !== digest || session.server !== server) return null
      const now = gateway.clock.mono()
      if (expired(session, now)) {
        end(session)
        return null
      }
      session.usedAt = now
      sessions.delete(id)
      sessions.set(id, session)
      return session
    },
    end,
  }
}

/** The number 1 and the text "1" are different ids. */
export function requestKey(id: RpcId): string {
  return `${typeof id}:${id}`
}
