/** Sessions come and go by the thousand: memory follows, the books stay. @module */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { clock } from '../../src/main.ts'
import { eventually, openVendor, startInside } from '../gateway.ts'

describe('an account that has ended', async () => {
  // The gateway's clock runs ahead of the machine's by as much as a test says.
  let ahead = 0
  const real = clock.now
  clock.now = () => real() + ahead
  const gateway = await startInside({ vendor: await openVendor() })
  const { directory, escrow, store } = gateway.running.gateway
  const inMemory = () => gateway.metric('gatehouse_accounts_in_memory')

  it('leaves memory a minute later, two thousand of them too, and every balance is as it was', async () => {
    const account = await gateway.mintAccount({ limits: [{ unit: 'requests', max: 100_000 }] })
    const parent = await gateway.mintKey({ account })
    await gateway.chat(parent.key, {})
    const before = await inMemory()
    const sessions: { id: string; key: string }[] = []
    const one = async () => {
      while (sessions.length < 2000) {
        const place = sessions.push({ id: '', key: '' }) - 1
        const session = await gateway.mintSession(parent.key, { ttl: 3600, limits: { requests: 5 } })
        sessions[place] = session
        assert.equal((await gateway.chat(session.key, {})).status, 200)
      }
    }
    await Promise.all(Array.from({ length: 16 }, one))
    assert.equal(await inMemory(), before + 2000)
    ahead += 3600_000
    await eventually(async () => (await gateway.chat(sessions[0]?.key ?? '', {})).status === 401)
    await directory.sweep()
    // A moment ago is not long enough.
    assert.equal(await inMemory(), before + 2000)
    ahead += 61_000
    await eventually(async () => (await inMemory()) === before)

    const { standing } = (await gateway.admin('GET', `/keys/${parent.id}`)).json
    assert.equal(standing.spent.requests, 2001)
    const above = (await gateway.admin('GET', `/accounts/${account}`)).json.standing
    assert.deepEqual([above.used.requests, above.held.requests], [2001, 0])
    // What was set aside for the sessions is free again, and theirs is theirs.
    const rows = await store.balances.of(sessions[7]?.id ?? '')
    assert.deepEqual(
      rows.map(({ used, leased }) => [used.requests, leased.requests]),
      [[1, 0]],
    )
    const shown = (await gateway.admin('GET', `/sessions/${sessions[7]?.id}`)).json
    assert.deepEqual([shown.standing.used.requests, shown.standing.remaining.requests], [1, 4])
    assert.equal((await gateway.chat(sessions[7]?.key ?? '', {})).json.error.code, 'invalid_key')
    // Somebody asked for it, so it is there again for another while; asked again it is the same.
    assert.equal(await inMemory(), before + 1)
    await eventually(async () => (await inMemory()) === before)
    assert.equal(escrow.open(), 0)
    assert.equal((await gateway.chat(parent.key, {})).status, 200)
  })

  it('goes with everything below it, and stays while a call of it is at work', async () => {
    const parent = await gateway.mintKey()
    const session = await gateway.mintSession(parent.key)
    const child = await gateway.mintSession(session.key, { limits: { tokens: 5000 } })
    assert.equal((await gateway.chat(child.key, {})).status, 200)
    const account = await directory.load(child.id)
    assert.ok(account !== null)
    const hold = await escrow.hold(account, { usd: 0, tokens: 10, requests: 1, tool_calls: 0 })
    assert.ok('settle' in hold)
    const before = await inMemory()
    await gateway.admin('DELETE', `/keys/${parent.id}`)
    ahead += 61_000
    assert.equal(await directory.sweep(), 0)
    assert.equal(await inMemory(), before)
    hold.settle({ usd: 0, tokens: 0, requests: 0, tool_calls: 0 })
    hold.entry().posted?.()
    // Leaf first: one level with every look.
    await eventually(async () => {
      await directory.sweep()
      return (await inMemory()) === before - 3
    })
    // Whoever still has it may look at it, gets no hold, and everybody who asks gets the same object.
    assert.equal((await escrow.states(account))[0]?.remaining, 5000 - (await escrow.used(account)).tokens)
    const refused = await escrow.hold(account, { usd: 0, tokens: 1, requests: 1, tool_calls: 0 })
    assert.ok('body' in refused && refused.body.code === 'invalid_key')
    assert.equal(await directory.load(child.id), account)
    assert.equal((await directory.load(session.id)) === account.parent, true)
  })

  it('and is made valid again is used as before', async () => {
    const { id, key } = await gateway.mintKey({ limits: [{ unit: 'requests', max: 3 }] })
    assert.equal((await gateway.chat(key, {})).status, 200)
    const before = await inMemory()
    const past = new Date(clock.now() - 120_000).toISOString()
    await gateway.admin('PATCH', `/keys/${id}`, { expires_at: past })
    await eventually(async () => {
      await directory.sweep()
      return (await inMemory()) < before
    })
    await gateway.admin('PATCH', `/keys/${id}`, { expires_at: null })
    const statuses = [1, 2, 3].map(async () => (await gateway.chat(key, {})).status)
    assert.deepEqual((await Promise.all(statuses)).sort(), [200, 200, 429])
  })
})
