/** The process is killed without warning, and nothing that was answered is lost. @module */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { type GatewayUnderTest, openVendor, startGateway } from '../gateway.ts'
import type { Vendor } from '../upstreams/vendor.ts'

const rounds = 10
const callers = 16

it('a gateway that is killed under load has, after each restart, every answered call exactly once', async () => {
  const vendor: Vendor = await openVendor()
  const gateway: GatewayUnderTest = await startGateway({
    vendor,
    models: { house: { provider: 'vendor', upstream: 'drip-1', price: { input: 1, output: 2 } } },
  })
  const key = await gateway.mintKey({ limits: [{ unit: 'usd', max: '900' }] })
  const session = await gateway.mintSession(key.key, { limits: { requests: 1_000_000 } })
  const ended = await gateway.mintSession(key.key)
  await gateway.ask('DELETE', `/v1/sessions/${ended.id}`, { key: key.key })
  const answered: string[] = []

  /** Calls until the gateway is gone; a whole answer, or a stream up to its [DONE], is an answered call. */
  async function caller(number: number): Promise<void> {
    for (let i = 0; ; i++) {
      try {
        const stream = (number + i) % 2 === 0
        const { status, headers, text } = await gateway.chat(session.key, { model: 'house', stream })
        if (status === 200 && (!stream || text.includes('[DONE]')))
          answered.push(headers.get('x-gatehouse-request-id') ?? '')
      } catch {
        return
      }
    }
  }

  for (let round = 1; round <= rounds; round++) {
    const before = answered.length
    const load = Promise.all(Array.from({ length: callers }, (_, number) => caller(number)))
    // Killed at another moment each time: after so many answers, with others in flight.
    const seen = vendor.requests.length
    await vendor.until(() => answered.length >= before + 10 * round && vendor.requests.length > seen)
    await gateway.kill9()
    await load
    await gateway.restart()

    const rows = (await gateway.ledger()).filter((row) => row.kind === 'chat')
    const times = new Map<string, number>()
    for (const row of rows) times.set(row.call, (times.get(row.call) ?? 0) + 1)
    for (const id of answered) assert.equal(times.get(id), 1, `round ${round}: ${id}`)
    const { standing } = (await gateway.admin('GET', `/keys/${key.id}`)).json
    const sum = (unit: 'usd' | 'tokens' | 'requests') => rows.reduce((total, row) => total + row[unit], 0)
    assert.equal(Math.round(Number(standing.spent.usd) * 1e6), sum('usd'))
    assert.deepEqual([standing.spent.tokens, standing.spent.requests], [sum('tokens'), sum('requests')])
    const current = await gateway.ask('GET', '/v1/sessions/current', { key: session.key })
    assert.equal(current.json.used.requests, sum('requests'))
    assert.equal((await gateway.chat(ended.key, { model: 'house' })).status, 401)
    assert.equal(await gateway.metric('gatehouse_open_holds'), 0)
  }
  assert.ok(answered.length >= rounds * 10)
})
