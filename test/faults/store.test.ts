/** The disk is full: money fails closed, and comes back without a restart. @module */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { it } from 'node:test'
import { eventually, openVendor, startGateway } from '../gateway.ts'

const prlimit = spawnSync('prlimit', ['--version']).status === 0

it('a gateway that cannot write admits no budgeted call, and recovers by itself', {
  skip: !prlimit && 'no prlimit',
}, async () => {
  const vendor = await openVendor()
  const gateway = await startGateway({
    vendor,
    models: {
      house: { provider: 'vendor', upstream: 'ok', price: { input: 1, output: 2 } },
      slow: { provider: 'vendor', upstream: 'hold', price: { input: 1, output: 2 } },
    },
  })
  const key = await gateway.mintKey({ limits: [{ unit: 'usd', max: 5 }] })
  await gateway.chat(key.key, { model: 'house' })
  const atWork = gateway.chat(key.key, { model: 'slow', stream: true })
  await vendor.until(({ model }) => model === 'hold')
  // No file may grow past its first byte: what a full disk looks like to the database.
  const limit = (bytes: string) => {
    const { status, stderr } = spawnSync('prlimit', ['--pid', String(gateway.process.pid), `--fsize=${bytes}`])
    assert.equal(status, 0, stderr.toString())
  }
  limit('1:unlimited')
  const letGo = setInterval(() => vendor.release(), 5)
  assert.match((await atWork).text, /"code":"store_unavailable"/)
  clearInterval(letGo)
  const first = await gateway.chat(key.key, { model: 'house' })
  assert.deepEqual([first.status, first.json.error.code], [503, 'store_unavailable'])
  assert.ok(Number(first.headers.get('retry-after')) > 0)
  const asked = vendor.requests.length
  for (const stream of [false, true]) {
    const next = await gateway.chat(key.key, { model: 'house', stream })
    assert.deepEqual([next.status, next.json.error.code], [503, 'store_unavailable'])
  }
  assert.equal((await gateway.ask('POST', '/v1/sessions', { key: key.key, body: {} })).status, 503)
  assert.equal(vendor.requests.length, asked)
  assert.equal((await gateway.ask('GET', '/readyz')).status, 503)
  assert.equal((await gateway.ask('GET', '/healthz')).status, 200)

  limit('unlimited:unlimited')
  await eventually(async () => (await gateway.ask('GET', '/readyz')).status === 200)
  assert.equal((await gateway.chat(key.key, { model: 'house' })).status, 200)
  // The call whose row could not be written was paid for, so its row comes.
  const paid = async () => (await gateway.ledger()).filter((row) => row.account === key.id && row.usd > 0)
  await eventually(async () => (await paid()).length === 3)
  assert.deepEqual(
    (await paid()).map(({ model }) => model),
    ['house', 'slow', 'house'],
  )
  const spent = async () => Number((await gateway.admin('GET', `/keys/${key.id}`)).json.standing.spent.usd)
  assert.equal(await spent(), 3 * 0.000026)
  await gateway.restart()
  assert.equal(await spent(), 3 * 0.000026)
  assert.equal(await gateway.metric('gatehouse_open_holds'), 0)
})
