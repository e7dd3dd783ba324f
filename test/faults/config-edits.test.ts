/** Editing files under a running gateway. @module */
import assert from 'node:assert/strict'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, it } from 'node:test'
import { eventually, type GatewayUnderTest, openVendor, startFails, startGateway } from '../gateway.ts'
import type { Vendor } from '../upstreams/vendor.ts'

describe('an edit while the gateway runs', () => {
  let vendor: Vendor
  let gateway: GatewayUnderTest
  let key: string

  before(async () => {
    vendor = await openVendor()
    gateway = await startGateway({ vendor, routes: 'fast:\n  to: [{ provider: vendor, model: ok }]\n' })
    key = (await gateway.mintKey()).key
  })
  const edit = (text: string) => writeFileSync(join(gateway.home, 'policies/routes.yaml'), text)
  const model = async () => (await gateway.chat(key, { model: 'fast' })).headers.get('x-gatehouse-model')
  const epoch = async () => (await gateway.ask('GET', '/readyz')).json.config.epoch

  it('is live for the next call, while the one at work goes on with what it began with', async () => {
    edit('fast:\n  to: [{ provider: vendor, model: hold }]\n')
    await eventually(async () => (await epoch()) === 2)
    const atWork = gateway.chat(key, { model: 'fast', stream: true })
    await vendor.until((request) => request.model === 'hold')
    edit('fast:\n  to: [{ provider: vendor, model: long-3 }]\n')
    await eventually(async () => (await epoch()) === 3)
    assert.equal(await model(), 'long-3')
    vendor.release()
    assert.match((await atWork).text, /\[DONE\]/)
  })

  it('with a fault is told with file, line and column, and the last good version stays', async () => {
    const before = await epoch()
    edit('fast:\n  to:\n    - { provider: vendor, model: ok, timeout: soon }\n')
    await gateway.logged(/policies\/routes\.yaml:3:\d+ /)
    assert.equal(await model(), 'long-3')
    edit('fast: [')
    await gateway.logged(/policies\/routes\.yaml:1:\d+ /)
    assert.equal(await model(), 'long-3')
    const reload = await gateway.admin('POST', '/reload')
    assert.equal(reload.status, 400)
    assert.match(reload.json.faults[0], /policies\/routes\.yaml:1:\d+/)
    assert.equal(await epoch(), before)
    edit('fast:\n  to: [{ provider: vendor, model: ok }]\n')
    await eventually(async () => (await model()) === 'ok')
    assert.equal((await gateway.admin('POST', '/reload')).json.reloaded, true)
  })

  it('that takes a provider away refuses its calls and needs no restart to bring it back', async () => {
    const path = join(gateway.home, 'registry/providers.yaml')
    const row = `vendor: { base_url: "${vendor.url}/v1", speaks: [openai-chat], credential: none }\n`
    rmSync(join(gateway.home, 'policies/routes.yaml'))
    writeFileSync(path, `other: ${row.slice('vendor: '.length)}`)
    await eventually(async () => (await gateway.chat(key, { model: 'other/ok' })).status === 200)
    assert.equal((await gateway.chat(key, { model: 'vendor/ok' })).json.error.code, 'model_not_found')
    writeFileSync(path, row)
    await eventually(async () => (await gateway.chat(key, { model: 'vendor/ok' })).status === 200)
    assert.equal(vendor.requests.at(-1)?.header('authorization'), undefined)
  })
})

it('a gateway with a faulty configuration does not start, and says where the fault is', async () => {
  const { code, output } = await startFails({ routes: 'fast:\n  to: [{ provider: nobody, model: ok }]\n' })
  assert.equal(code, 1)
  assert.match(output, /policies\/routes\.yaml:2:\d+ .*nobody/)
  assert.ok(!/\n\s+at /.test(output), output)
})
