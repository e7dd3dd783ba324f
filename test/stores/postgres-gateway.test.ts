/** Gateways over one Postgres database, through the front door. @module */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { before, it } from 'node:test'
import pg from 'pg'
import { verify } from '../../src/record/verify.ts'
import { openSnapshot } from '../../src/stores/open-snapshot.ts'
import { eventually, type GatewayUnderTest, openVendor, startGateway } from '../gateway.ts'
import { describePostgres, type PostgresUnderTest, password, startPostgres } from '../services/postgres.ts'
import type { Vendor } from '../upstreams/vendor.ts'

/** One for all: keys of one gateway are read by the other. */
const masterKey = createHash('sha256').update('of this test').digest('base64')

describePostgres('gateways over Postgres', () => {
  let server: PostgresUnderTest
  let vendor: Vendor
  before(async () => {
    server = await startPostgres({ fsync: true })
    vendor = await openVendor()
  })

  const open = (url: string): Promise<GatewayUnderTest> =>
    startGateway({
      vendor,
      models: { house: { provider: 'vendor', upstream: 'ok', price: { input: 1, output: 2 } } },
      env: { DATABASE_URL: url, GATEHOUSE_MASTER_KEY: masterKey },
    })

  it('keep what was spent over a kill, and no password in the log', async () => {
    const gateway = await open(await server.create())
    const key = await gateway.mintKey({ limits: [{ unit: 'usd', max: 5 }] })
    for (let call = 0; call < 3; call++) assert.equal((await gateway.chat(key.key, { model: 'house' })).status, 200)
    const spent = async () => Number((await gateway.admin('GET', `/keys/${key.id}`)).json.standing.spent.usd)
    const before = await spent()
    assert.ok(before > 0)
    await gateway.kill9()
    await gateway.restart()
    assert.equal(await spent(), before)
    for (const secret of [password, encodeURIComponent(password)]) assert.equal(gateway.log().includes(secret), false)
  })

  it('share the budget of a key: together they answer no more calls than it has', async () => {
    const url = await server.create()
    const gateways = [await open(url), await open(url)] as const
    const key = await gateways[0].mintKey({ limits: [{ unit: 'requests', max: 20 }] })
    const answers = await Promise.all(
      Array.from({ length: 40 }, (_, i) => gateways[(i % 2) as 0 | 1].chat(key.key, { model: 'house' })),
    )
    const answered = answers.filter(({ status }) => status === 200).length
    assert.ok(answered <= 20, `${answered} of 20`)
    // What one of them had set aside and not used comes back to the other.
    let last = answered
    await eventually(async () => {
      for (const gateway of gateways) if ((await gateway.chat(key.key, { model: 'house' })).status === 200) last++
      return last >= 20
    })
    assert.equal(last, 20)
    const rows = (await gateways[1].ledger()).filter((row) => row.account === key.id && row.outcome === 'answered')
    assert.equal(rows.length, 20)
  })

  it('can be verified while they run, and a changed row is named', async () => {
    const url = await server.create()
    const gateways = [await open(url), await open(url)] as const
    const key = await gateways[0].mintKey({ limits: [{ unit: 'usd', max: 5, window: 'day' }] })
    await Promise.all(gateways.map((gateway) => gateway.chat(key.key, { model: 'house' })))
    const clean = async () => {
      const snapshot = await openSnapshot(url)
      return verify(snapshot, null).finally(() => snapshot.close())
    }
    await eventually(async () => (await clean()).fault === null)
    assert.ok((await clean()).rows >= 2)
    const client = new pg.Client(url)
    await client.connect()
    const { rows } = await client.query('update ledger set usd = usd + 1 where usd > 0 returning id')
    await client.end()
    const { fault } = await clean()
    assert.ok(fault !== null && JSON.stringify(rows).includes(String((fault as { id?: string }).id)))
  })

  it('refuse what they cannot book while the database is gone, and go on by themselves', async () => {
    const gateway = await open(await server.create())
    const key = await gateway.mintKey({ limits: [{ unit: 'usd', max: 5 }] })
    assert.equal((await gateway.chat(key.key, { model: 'house' })).status, 200)
    await server.kill9()
    const refused = await gateway.chat(key.key, { model: 'house' })
    assert.deepEqual([refused.status, refused.json.error.code], [503, 'store_unavailable'])
    await eventually(async () => (await gateway.ask('GET', '/readyz')).status === 503)
    await server.start()
    await eventually(async () => (await gateway.ask('GET', '/readyz')).status === 200)
    assert.equal((await gateway.chat(key.key, { model: 'house' })).status, 200)
  })
})
