/** The admin plane: what it takes, and what it does not let anybody smuggle in. @module */
import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import { openVendor, startInside } from '../gateway.ts'

describe('the admin plane', () => {
  let gateway: Awaited<ReturnType<typeof startInside>>

  before(async () => {
    gateway = await startInside({ vendor: await openVendor() })
  })

  it('refuses every field it does not know, and the ones a server sets itself', async () => {
    const account = await gateway.mintAccount()
    const made = await gateway.mintKey({ account })
    const smuggled: object[] = [
      ...[
        { is_admin: true },
        { tenant_id: 'x' },
        { spent: -1e9 },
        { parent_id: 'x' },
        { id: 'k_mine' },
        { kind: 'session' },
      ],
      ...[
        { digest: '00' },
        { revoked_at: null },
        { created_at: 0 },
        { used: {} },
        { role: 'admin' },
        { constructor: {} },
      ],
    ]
    for (const extra of smuggled) {
      const body = { account, ...extra }
      assert.equal((await gateway.admin('POST', '/keys', body)).status, 400, JSON.stringify(extra))
      assert.equal((await gateway.admin('PATCH', `/keys/${made.id}`, extra)).status, 400, JSON.stringify(extra))
    }
    for (const text of [
      '{"account":"x","__proto__":{"roles":["admin"]}}',
      '{"account":"x","account":"y"}',
      '{"limits":[{"unit":"usd","max":9007199254740993}]}',
    ])
      assert.equal((await gateway.admin('POST', '/keys', text)).status, 400, text)
    const { json } = await gateway.admin('GET', `/keys/${made.id}`)
    assert.deepEqual([json.kind, json.parent, json.roles, json.revoked_at], ['key', account, [], null])
    assert.deepEqual(Object.keys(json).includes('digest'), false)
  })

  it('refuses amounts that are none', async () => {
    const account = await gateway.mintAccount()
    for (const limit of [
      ...[
        { unit: 'usd', max: -1 },
        { unit: 'usd', max: '0.0000001' },
        { unit: 'usd', max: 'NaN' },
        { unit: 'tokens', max: 1.5 },
      ],
      ...[
        { unit: 'tokens', max: '5' },
        { unit: 'euros', max: 1 },
        { unit: 'usd', max: 1, window: 'year' },
        { unit: 'usd' },
      ],
      ...[
        { unit: 'usd', max: 1, action: 'maybe' },
        { unit: 'usd', max: 1, alert_at: [0] },
        { unit: 'usd', max: '1000000000' },
      ],
    ]) {
      const { status, json } = await gateway.admin('POST', '/keys', { account, limits: [limit] })
      assert.equal(status, 400, JSON.stringify(limit))
      assert.match(json.error.param, /^limits\.0/)
    }
  })

  it('keeps the tree a tree: a parent that is there, no deeper than 32, nothing below keys', async () => {
    const key = await gateway.mintKey()
    for (const account of ['a_missing', key.id, (await gateway.mintSession(key.key)).id, ''])
      assert.equal((await gateway.admin('POST', '/keys', { account })).status, 400, account)
    let parent = await gateway.mintAccount()
    for (let depth = 2; depth <= 32; depth++) parent = await gateway.mintAccount({ parent })
    assert.equal((await gateway.admin('POST', '/accounts', { name: 'deep', parent })).status, 400)
    assert.equal((await gateway.admin('POST', '/keys', { account: parent })).status, 400)
  })

  it('shows a key once, when it is made', async () => {
    const made = await gateway.mintKey({ name: 'agents', roles: ['demo'], labels: { team: 'red' } })
    const secret = made.key.slice(-20)
    for (const path of ['/keys', `/keys/${made.id}`, '/accounts', '/audit?limit=1000', '/ledger']) {
      const { status, text } = await gateway.admin('GET', path)
      assert.equal(status, 200)
      assert.ok(!text.includes(secret), path)
    }
    const listed = (await gateway.admin('GET', '/keys?limit=1000')).json.data.find(
      (row: { id: string }) => row.id === made.id,
    )
    assert.deepEqual([listed.name, listed.roles, listed.labels], ['agents', ['demo'], { team: 'red' }])
  })

  it('writes down who did what, allowed or not', async () => {
    const { key, id } = await gateway.mintKey()
    await gateway.ask('POST', '/admin/v1/keys', { key, body: { account: 'x' } })
    await gateway.ask('GET', '/v1/models', { key: 'not-an-admin-key-but-long-enough' })
    const rows = (await gateway.admin('GET', '/audit?limit=1000')).json.data
    const last = rows.slice(-3).map((row: Record<string, unknown>) => [row.actor, row.action, row.allowed])
    assert.deepEqual(last[0], ['admin', 'keys.create', true])
    assert.equal(last[1][1], 'keys.create')
    assert.equal(last[1][2], false)
    assert.deepEqual(last[2], ['anonymous', 'model-list', false])
    assert.equal(last[1][0], id, 'a holder who tries is named')
  })

  it('answers unknown things with 404 and wrong questions with 400', async () => {
    for (const path of ['/keys/k_none', '/accounts/a_none', '/sessions/s_none', '/servers/none'])
      assert.equal((await gateway.admin('GET', path)).status, 404, path)
    const { id } = await gateway.mintKey()
    assert.equal((await gateway.admin('GET', `/accounts/${id}`)).status, 404)
    for (const path of [
      '/keys?limit=0',
      '/ledger?limit=1001',
      '/audit?limit=x',
      '/usage?group_by=colour',
      '/usage?since=yesterday',
    ])
      assert.equal((await gateway.admin('GET', path)).status, 400, path)
  })

  it('lists in pages', async () => {
    const parent = await gateway.mintAccount()
    for (let i = 0; i < 5; i++) await gateway.mintAccount({ parent })
    const seen: string[] = []
    for (let after = ''; ; ) {
      const { json } = await gateway.admin('GET', `/accounts?parent=${parent}&limit=2${after}`)
      seen.push(...json.data.map((row: { id: string }) => row.id))
      if (json.next === null) break
      after = `&after=${json.next}`
    }
    assert.equal(new Set(seen).size, 5)
  })
})
