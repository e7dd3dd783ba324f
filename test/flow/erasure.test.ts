/** Erasing people through the admin API and the command. @module */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { gatehouse } from '../commands/rig.ts'
import { adminKey, eventually, openVendor, startInside } from '../gateway.ts'

describe('erasing an account', () => {
  it('takes names, labels and notes of everything below it away, and the books still add up', async () => {
    const gateway = await startInside({ vendor: await openVendor() })
    const org = await gateway.mintAccount({ name: 'Ada Lovelace', labels: { mail: 'ada@example.com' } })
    const team = await gateway.mintAccount({ parent: org, name: 'Ada and friends' })
    const key = await gateway.mintKey({ account: team, name: 'key of Ada' })
    const session = await gateway.mintSession(key.key, { labels: { for: 'Ada' } })
    const other = await gateway.mintKey({ name: 'key of Grace' })
    const notes = (who: string) => ({ 'x-gatehouse-step': `asked by ${who}`, 'x-gatehouse-labels': `who=${who}` })
    await gateway.chat(key.key, {}, notes('Ada'))
    await gateway.chat(session.key, {}, notes('Ada'))
    await gateway.chat(other.key, {}, notes('Grace'))
    assert.equal((await gateway.admin('DELETE', `/accounts/${org}?erase=maybe`)).status, 400)
    // At work while it is erased: booked before or after it.
    const late = gateway.chat(key.key, { model: 'vendor/slow-headers' }, notes('Ada'))
    await eventually(async () => (await gateway.metric('gatehouse_open_holds')) > 0)

    const env = { GATEHOUSE_ADMIN_KEY: adminKey, GATEHOUSE_PUBLIC_URL: gateway.url }
    const said = await gatehouse(['accounts', 'erase', org], env)
    assert.equal(said.status, 0, said.err)
    assert.match(said.out, /is revoked since .*; erased: names and labels of 4 accounts, steps and labels of [23] rows/)

    assert.equal((await gateway.chat(session.key, {})).status, 401)
    await late
    for (const path of ['/accounts', '/keys', '/sessions', '/ledger', '/audit?limit=1000']) {
      const { text } = await gateway.admin('GET', path)
      assert.ok(!text.includes('Ada'), `${path}: ${text}`)
    }
    const rows = await gateway.ledger()
    assert.equal(rows.find(({ account }) => account === other.id)?.step, 'asked by Grace')
    assert.ok(
      rows.some(({ account, tokens }) => account === key.id && tokens > 0),
      'what was used stays',
    )
    const { json } = await gateway.admin('GET', `/accounts/${org}`)
    assert.deepEqual([json.name, json.labels], ['erased', {}])

    const verified = await gatehouse(['ledger', 'verify', '--home', gateway.home])
    assert.equal(verified.status, 0, verified.out)
    assert.match(verified.out, /erased +the notes of \d+/)
    await gateway.running.stop(0)
    const file = readFileSync(join(gateway.home, 'data/gatehouse.db'), 'latin1')
    assert.ok(!file.includes('Ada') && !file.includes('ada@example.com'), 'nothing is left in the file')
    assert.ok(file.includes('Grace'))
  })
})
