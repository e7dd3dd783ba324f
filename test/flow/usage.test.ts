/** What was used and the ledger as a file, through the admin API and the commands. @module */
import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { before, describe, it } from 'node:test'
import { gatehouse } from '../commands/rig.ts'
import { adminKey, openVendor, startInside } from '../gateway.ts'

type Row = Record<string, string | number | null>

describe('usage and export', () => {
  let gateway: Awaited<ReturnType<typeof startInside>>
  let org: string
  let team: string
  let key: { id: string; key: string }
  let other: { id: string; key: string }
  let session: { id: string; key: string }

  before(async () => {
    const price = { input: 1, output: 2 }
    const row = (upstream: string) => ({ provider: 'vendor', upstream, price })
    const models = {
      small: row('usage-10-5'),
      large: row('usage-100-50+cached-40'),
      '=2+5': row('usage-1-1'),
    }
    gateway = await startInside({ vendor: await openVendor(), models })
    org = await gateway.mintAccount()
    team = await gateway.mintAccount({ parent: org })
    key = await gateway.mintKey({ account: team })
    other = await gateway.mintKey()
    session = await gateway.mintSession(key.key)
    const labelled = { 'x-gatehouse-labels': 'run.id=7, team=red' }
    await gateway.chat(key.key, { model: 'small' })
    await gateway.chat(key.key, { model: 'small' }, labelled)
    await gateway.chat(session.key, { model: 'large' }, labelled)
    await gateway.chat(other.key, { model: 'large' }, { 'x-gatehouse-step': '@SUM(A1), "said", - or so' })
    await gateway.chat(other.key, { model: '=2+5' })
  })

  const usage = async (query: string): Promise<Row[]> => {
    const { status, json } = await gateway.admin('GET', `/usage?${query}`)
    assert.equal(status, 200, JSON.stringify(json))
    return json.data
  }
  const asAdmin = (...args: string[]) =>
    gatehouse(args, { GATEHOUSE_ADMIN_KEY: adminKey, GATEHOUSE_PUBLIC_URL: gateway.url })

  it('groups by account and by the nearest key at or above it', async () => {
    const chats = (rows: Row[], name: string) =>
      rows.filter((row) => row.kind === 'chat').map((row) => [row[name], row.calls, row.input])
    assert.deepEqual(
      chats(await usage('group_by=account,kind'), 'account').sort(),
      [
        [key.id, 2, 20],
        [other.id, 2, 101],
        [session.id, 1, 100],
      ].sort(),
    )
    assert.deepEqual(
      chats(await usage('group_by=key,kind'), 'key').sort(),
      [
        [key.id, 3, 120],
        [other.id, 2, 101],
      ].sort(),
    )
  })

  it('tells tokens by kind, dollars and calls', async () => {
    const large = (await usage('group_by=model')).find((row) => row.model === 'large')
    assert.deepEqual(large, {
      model: 'large',
      calls: 2,
      usd: '0.0004',
      tokens: 300,
      input: 200,
      output: 100,
      cache_read: 80,
      cache_write: 0,
      reasoning: 0,
      requests: 2,
      tool_calls: 0,
    })
  })

  it('groups by labels, also with dots in their names, and narrows to a subtree and a time', async () => {
    const runs = await usage(`group_by=label:run.id,model&account=${org}`)
    assert.deepEqual(
      runs.map((row) => [row['label:run.id'], row.model, row.calls]),
      [
        ['7', 'large', 1],
        ['7', 'small', 1],
        [null, 'small', 1],
        [null, null, 1],
      ],
    )
    assert.deepEqual(await usage('group_by=model&account=a_unknown'), [])
    assert.deepEqual(await usage('group_by=model&until=2020-01-01'), [])
    assert.deepEqual(await usage(`group_by=model&since=${new Date(Date.now() + 3_600_000).toISOString()}`), [])
    const sum = (rows: Row[]) => rows.reduce((all, row) => all + Number(row.calls), 0)
    const { length } = await gateway.ledger()
    for (const by of ['session', 'provider', 'tool', 'kind', 'hour', 'day', 'month', 'day,model,key'])
      assert.equal(sum(await usage(`group_by=${by}`)), length, by)
  })

  it('names hours, days and months in the zone that is asked for', async () => {
    const zone = 'Asia/Kathmandu'
    const parts = Object.fromEntries(
      new Intl.DateTimeFormat('en-CA', { timeZone: zone, dateStyle: 'short' })
        .formatToParts(Date.parse((await gateway.ledger())[0].at))
        .map(({ type, value }) => [type, value]),
    )
    const days = await usage(`group_by=day&zone=${zone}`)
    assert.equal(days[0]?.day, `${parts.year}-${parts.month}-${parts.day}`)
    const months = await usage(`group_by=month&zone=${zone}`)
    assert.equal(months[0]?.month, `${parts.year}-${parts.month}`)
    const hours = await usage(`group_by=hour&zone=${zone}`)
    assert.match(String(hours[0]?.hour), /^\d{4}-\d\d-\d\dT\d\d:00\+05:45$/)
  })

  it('refuses what is no group, zone or time', async () => {
    for (const query of [
      ...['group_by=colour', 'group_by=day,hour', 'group_by=model,model', 'group_by=label:', "group_by=label:a'b"],
      ...['group_by=', 'zone=Mars/Base', 'since=yesterday', 'until=x', 'group_by=account,key,model,kind,tool'],
    ])
      assert.equal((await gateway.admin('GET', `/usage?${query}`)).status, 400, query)
  })

  it('prints a table', async () => {
    const { status, out } = await asAdmin('usage', '--group-by', 'model,kind', '--account', org)
    assert.equal(status, 0)
    assert.match(out, /^MODEL +KIND +CALLS +USD +INPUT +OUTPUT/)
    assert.match(out, /\nlarge +chat +1 +0\.0002 +100 +50 +40 +0 +0 +1 +0/)
    assert.equal((await asAdmin('usage', '--group-by', 'colour')).status, 1)
  })

  it('exports every row as CSV, quoted and without formulas', async () => {
    const { status, text, headers } = await gateway.admin('GET', '/ledger?format=csv')
    assert.equal(status, 200)
    assert.match(headers.get('content-type') ?? '', /^text\/csv/)
    const [head, ...lines] = text.trimEnd().split('\r\n')
    assert.match(head ?? '', /^id,call,attempt,at,booked,account,session,kind,model,/)
    assert.equal(lines.length, (await gateway.ledger()).length)
    assert.ok(text.includes(`,'=2+5,`), 'a model name is no formula')
    assert.ok(text.includes(`,"'@SUM(A1), ""said"", - or so",`), 'neither is a step')
    assert.equal((await asAdmin('ledger', 'export')).out, text)
  })

  it('exports JSON and lines of JSON, the same rows as page by page', async () => {
    const { json } = await gateway.admin('GET', '/ledger?limit=1000')
    assert.deepEqual((await gateway.admin('GET', '/ledger?format=json')).json.data, json.data)
    const { text } = await gateway.admin('GET', `/ledger?format=jsonl&account=${org}`)
    const rows = text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Row)
    assert.deepEqual([...new Set(rows.map(({ account }) => account))].sort(), [key.id, session.id].sort())
    assert.equal((await asAdmin('ledger', 'export', '--format', 'jsonl', '--account', org)).out, text)
    const page = (await gateway.admin('GET', `/ledger?limit=2`)).json
    assert.equal(page.next, page.data[1].id)
    assert.equal((await gateway.admin('GET', '/ledger?format=xml')).status, 400)
    assert.equal((await asAdmin('ledger', 'export', '--format', 'xml')).status, 2)
  })

  it('stops reading the ledger when whoever wanted the export is gone, and serves on', async () => {
    const asked = `GET /admin/v1/ledger?format=jsonl HTTP/1.1\r\nHost: localhost:${gateway.port}\r\nAuthorization: Bearer ${adminKey}\r\n\r\n`
    await new Promise<void>((resolve) => {
      const socket = connect(gateway.port, '127.0.0.1', () => socket.write(asked))
      socket.once('data', () => socket.destroy())
      socket.on('close', () => resolve())
    })
    assert.equal((await gateway.admin('GET', '/ledger?limit=1')).status, 200)
  })
})
