/** The table of older clients' sessions: expiry, caps, binding. @module */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { describe, it } from 'node:test'
import { createSessions, type McpSession } from '../../src/edge/mcp-sessions.ts'
import { Fault } from '../../src/fault.ts'
import type { Gateway } from '../../src/gateway.ts'
import { codecs } from '../../src/mcp/wire/revision.ts'

function table(limits = { idleMs: 1000, total: 5, perCredential: 3 }) {
  let now = 0
  const gateway = { clock: { now: () => now, mono: () => now }, random: randomBytes } as unknown as Gateway
  const sessions = createSessions(limits)
  return {
    sessions,
    pass: (ms: number) => {
      now += ms
    },
    mint: (digest: string) => sessions.mint(gateway, digest, null, codecs['2025-11-25']) as McpSession,
    find: (id: string, digest: string, server: string | null = null) => sessions.find(gateway, id, digest, server),
  }
}

describe('a session', () => {
  it('has an id of 128 random bits and is found by its own credential and endpoint only', () => {
    const { mint, find } = table()
    const { id } = mint('a')
    assert.match(id, /^[0-9a-f]{32}$/)
    assert.ok(find(id, 'a'))
    assert.equal(find(id, 'b'), null)
    assert.equal(find(id, 'a', 'server'), null)
  })

  it('ends when it was idle for too long, but not while something runs in it', () => {
    const { mint, find, pass } = table()
    const idle = mint('a')
    const busy = mint('a')
    busy.underWay.set('number:1', () => {})
    pass(900)
    assert.ok(find(idle.id, 'a'))
    pass(1001)
    assert.equal(find(idle.id, 'a'), null)
    assert.ok(find(busy.id, 'a'))
  })

  it('makes room for a new one of the same credential, idle and oldest first, and cancels what ran in it', () => {
    const { mint, find } = table()
    const [first, second, third] = [mint('a'), mint('a'), mint('a')]
    let cancelled = 0
    first.underWay.set('number:1', () => cancelled++)
    mint('a')
    assert.ok(find(first.id, 'a'))
    assert.equal(find(second.id, 'a'), null)
    for (const one of [third]) one.underWay.set('number:1', () => cancelled++)
    const rest = mint('a')
    rest.underWay.set('number:1', () => cancelled++)
    mint('a')
    assert.equal(cancelled, 1)
  })

  it('is refused when the table is full of others, until those expire', () => {
    const { mint, pass } = table()
    for (const digest of ['a', 'b', 'c', 'd', 'e']) mint(digest)
    const refused: unknown = mint('f')
    assert.ok(refused instanceof Fault && refused.code === 'overloaded')
    pass(1001)
    assert.ok(!((mint('f') as unknown) instanceof Fault))
  })
})
