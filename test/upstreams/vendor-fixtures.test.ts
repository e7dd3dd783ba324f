import assert from 'node:assert/strict'
import { after, afterEach, before, describe, it } from 'node:test'
import OpenAI from 'openai'
import { startVendor, type Vendor } from './vendor.ts'
import { fixtureRows, readFixture } from './vendor-fixtures.ts'

const rows = fixtureRows((row) => row.provider === 'openai' && row.endpoint === '/v1/chat/completions')
const skip = rows.length === 0 ? 'the recordings are not on this machine' : false
const messages = [{ role: 'user' as const, content: 'hello' }]

let vendor: Vendor
before(async () => {
  vendor = await startVendor()
})
after(() => vendor.close())
afterEach(() => vendor.reset())

describe('recorded exchanges', () => {
  it('are served with the bytes and the status they had', { skip }, async () => {
    const failed = rows.find((row) => row.status >= 400)
    const streamed = rows.find((row) => row.streaming && row.status === 200)
    for (const row of [failed, streamed]) {
      assert.ok(row !== undefined)
      assert.ok(vendor.replay('recorded', row.file))
      const answer = await fetch(`${vendor.url}/v1/chat/completions`, {
        method: 'POST',
        body: JSON.stringify({ model: 'recorded', messages }),
      })
      assert.equal(answer.status, row.status)
      assert.deepEqual(Buffer.from(await answer.arrayBuffer()), readFixture(row.file)?.body)
    }
  })

  it('are understood by the SDK of the provider, also byte by byte', { skip }, async () => {
    const client = new OpenAI({ apiKey: 'sk-test', baseURL: `${vendor.url}/v1`, maxRetries: 0 })
    const streams = rows.filter((row) => row.streaming && row.status === 200).slice(0, 10)
    for (const row of streams) {
      for (const model of ['recorded', 'split-5']) {
        vendor.replay(model, row.file)
        let chunks = 0
        for await (const _ of await client.chat.completions.create({ model, messages, stream: true })) chunks += 1
        assert.ok(chunks > 0, row.file)
      }
    }
  })

  it('are absent cleanly', () => {
    assert.equal(vendor.replay('recorded', 'nowhere/none.json'), false)
  })
})
