/** A stage that breaks is a bug, and even then the call is settled, recorded once and told. @module */
import assert from 'node:assert/strict'
import type { AddressInfo } from 'node:net'
import { before, describe, it } from 'node:test'
import { allRoutes, openDoor } from '../../src/edge/server.ts'
import { walk } from '../../src/flow.ts'
import type { Gateway } from '../../src/gateway.ts'
import { atEnd, hello, openVendor, startInside } from '../gateway.ts'

type Inside = Awaited<ReturnType<typeof startInside>>

describe('a call in which a stage throws', () => {
  let inside: Inside
  let key: string

  before(async () => {
    const vendor = await openVendor()
    inside = await startInside({
      vendor,
      // One row for each broken part: what a provider needs is prepared once and kept.
      providers: Object.fromEntries(
        ['vendor', 'spare'].map((name) => [
          name,
          { base_url: `${vendor.url}/v1`, speaks: ['openai-chat'], credential: 'none' },
        ]),
      ),
      models: {
        house: { provider: 'vendor', upstream: 'ok', price: { input: 1, output: 2 } },
        spare: { provider: 'spare', upstream: 'ok', price: { input: 1, output: 2 } },
      },
    })
    key = (await inside.mintKey({ limits: [{ unit: 'usd', max: 5 }] })).key
  })

  /** A second door to the same gateway, with one part of it broken. */
  async function doorWith(broken: Partial<Gateway>): Promise<string> {
    const parts = Object.fromEntries(Object.entries(broken).map(([name, value]) => [name, { value }]))
    const gateway = Object.create(inside.running.gateway, parts) as Gateway
    const { server } = openDoor(gateway, allRoutes(walk), { hosts: new Set(), origins: new Set() })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    atEnd(() => {
      server.closeAllConnections()
      server.close()
    })
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  }
  async function post(url: string): Promise<{ status: number; code: string; id: string | null }> {
    const response = await fetch(`${url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}` },
      body: JSON.stringify({ ...hello, model: 'spare' }),
    })
    const body = (await response.json()) as { error: { code: string } }
    return { status: response.status, code: body.error.code, id: response.headers.get('x-gatehouse-request-id') }
  }
  const breaks = () => {
    throw new Error('broken on purpose')
  }

  for (const [where, broken, attempt] of [
    ['before the hold', { escrow: { free: breaks, hold: breaks, open: () => 0 } }, 0],
    ['after the hold', { egress: { pool: () => ({ dispatch: breaks }) } }, 1],
  ] as const) {
    it(`${where} is an internal_error with one row and no open hold`, async () => {
      const { escrow } = inside.running.gateway
      const parts = { ...broken } as unknown as Partial<Gateway>
      // The facts of the answer are still read from the real one.
      if (parts.escrow !== undefined) Object.assign(parts, { escrow: { ...escrow, hold: breaks } })
      const { status, code, id } = await post(await doorWith(parts))
      assert.deepEqual([status, code], [500, 'internal_error'])
      const rows = (await inside.ledger()).filter((row) => row.call === id)
      assert.deepEqual(
        rows.map((row) => [row.attempt, row.outcome, row.code, row.usd]),
        [[attempt, 'fault', 'internal_error', 0]],
      )
      assert.equal(escrow.open(), 0)
      assert.equal((await inside.chat(key, { model: 'house' })).status, 200)
    })
  }
})
