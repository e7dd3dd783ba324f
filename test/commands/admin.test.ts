/** The commands that ask a running gateway. @module */
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, before, describe, it } from 'node:test'
import type { Running } from '../../src/main.ts'
import { adminKey, gatehouse, openHome, startGateway } from './rig.ts'

let home: ReturnType<typeof openHome>
let gateway: Running
before(async () => {
  home = openHome({ 'registry/models.yaml': '{}\n', 'policies/routes.yaml': '{}\n' })
  gateway = await startGateway(home.path)
})
after(async () => {
  await gateway.stop()
  home.remove()
})

const asAdmin = (...args: string[]) =>
  gatehouse(args, { GATEHOUSE_ADMIN_KEY: adminKey, GATEHOUSE_PUBLIC_URL: gateway.url })

async function json<T>(...args: string[]): Promise<T> {
  const { status, out, err } = await asAdmin(...args, '--json')
  assert.equal(status, 0, err)
  return JSON.parse(out) as T
}

interface Row {
  readonly id: string
  readonly key: string
  readonly parent: string | null
  readonly roles: readonly string[]
  readonly limits: readonly object[]
  readonly tools: readonly string[] | null
  readonly labels: object
  readonly revoked_at: string | null
}

describe('accounts, keys and sessions from a terminal', () => {
  it('makes an account and a key that works, and shows, lists and revokes it', async () => {
    const account = await json<Row>(
      'accounts',
      'create',
      '--name',
      'acme',
      '--limit',
      'usd=5.25/day',
      '--label',
      'a=b=c',
    )
    assert.deepEqual(account.limits, [
      { unit: 'usd', max: '5.25', window: 'day', zone: 'UTC', action: 'stop', alert_at: [70, 90] },
    ])
    assert.deepEqual(account.labels, { a: 'b=c' })

    const globs = ['--tool', 'petstore__get*', '--tool', 'petstore__list*']
    const key = await json<Row>('keys', 'create', '--account', account.id, '--role', 'demo', ...globs)
    assert.deepEqual([key.parent, key.roles], [account.id, ['demo']])
    assert.deepEqual(key.tools, ['petstore__get*', 'petstore__list*'])

    const minted = await fetch(`${gateway.url}/v1/sessions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key.key}`, 'content-type': 'application/json' },
      body: '{"limits": {"tool_calls": 3}}',
    })
    const session = (await minted.json()) as Row
    const sessions = await json<Row[]>('sessions', 'list', '--parent', key.id)
    assert.deepEqual(
      sessions.map(({ id }) => id),
      [session.id],
    )

    const shown = await asAdmin('sessions', 'show', session.id)
    assert.match(shown.out, /tool_calls +3 +0 +0 +3 +never/)
    assert.match(shown.out, /usd +5\.25 +0 +0 +5\.25 +\d{4}-/)
    assert.ok(!shown.out.includes(key.key.slice(-38)), 'no secret is shown again')

    const listed = await asAdmin('keys', 'list', '--account', account.id)
    assert.match(listed.out, /^ID +KIND +NAME +UNDER +ROLES +LIMITS +STATE\n/)
    assert.match(listed.out, new RegExp(`${key.id} +key +key +${account.id} +demo +- +live`))

    const holder = await gatehouse(['keys', 'list', '--url', gateway.url], { GATEHOUSE_ADMIN_KEY: key.key })
    assert.equal(holder.status, 4)
    assert.match(holder.err, /This needs the admin key/)

    const revoked = await asAdmin('keys', 'revoke', key.id)
    assert.match(revoked.out, new RegExp(`^${key.id} is revoked since `))
    const refused = await fetch(`${gateway.url}/v1/models`, { headers: { authorization: `Bearer ${session.key}` } })
    assert.equal(refused.status, 401)
    assert.notEqual((await json<Row>('keys', 'show', key.id)).revoked_at, null)
  })

  it('takes a limit with its time zone, its thresholds, and one that only warns', async () => {
    const limits = ['usd=5/day@Europe/Berlin,alert=80,95', 'tokens=100/month,warn', 'requests=7,warn,alert=100,150']
    const account = await json<Row>('accounts', 'create', '--name', 'z', ...limits.flatMap((text) => ['--limit', text]))
    assert.deepEqual(account.limits, [
      { unit: 'usd', max: '5', window: 'day', zone: 'Europe/Berlin', action: 'stop', alert_at: [80, 95] },
      { unit: 'tokens', max: 100, window: 'month', zone: 'UTC', action: 'warn', alert_at: [70, 90] },
      { unit: 'requests', max: 7, window: 'total', zone: 'UTC', action: 'warn', alert_at: [100, 150] },
    ])
    const key = await json<Row>('keys', 'create', '--account', account.id, '--limit', 'tool_calls=3/week@Asia/Tokyo')
    assert.equal((key.limits[0] as { zone: string }).zone, 'Asia/Tokyo')
    const shown = await asAdmin('accounts', 'show', account.id)
    assert.match(shown.out, /usd=5\/day@Europe\/Berlin tokens=100\/month,warn requests=7,warn/)
  })

  it('says what the gateway refuses, with exit status 1', async () => {
    const said = await asAdmin('keys', 'create', '--account', 'a_nobody')
    assert.equal(said.status, 1)
    assert.match(said.err, /^gatehouse: account: no such account to put it under \(invalid_request\)\n$/)
    assert.equal((await asAdmin('sessions', 'show', 'a/../../b')).status, 1)
  })

  it('refuses a limit it cannot read, with exit status 2', async () => {
    const limits = ['usd', 'euro=5', 'usd=5/fortnight', 'usd=5@Europe/Berlin', 'usd=5,alert=', 'usd=5,stop']
    const made = limits.map((limit) => asAdmin('accounts', 'create', '--name', 'x', '--limit', limit))
    for (const said of await Promise.all(made)) {
      assert.equal(said.status, 2)
      assert.match(said.err, /UNIT=MAX/)
    }
  })
})

describe('tool servers from a terminal', () => {
  it('lists them with their status, and one with its tools', async () => {
    const [listed, one, whole, nobody] = await Promise.all([
      asAdmin('registry', 'list'),
      asAdmin('registry', 'inspect', 'petstore'),
      json<{ definitions: { name: string }[] }>('registry', 'inspect', 'petstore'),
      asAdmin('registry', 'inspect', 'nobody'),
    ])
    assert.match(listed.out, /petstore +openapi +healthy +- +4 +-\n$/)
    assert.match(one.out, /petstore__listPets +limit tag +List pets/)
    assert.equal(whole.definitions.length, 4)
    assert.equal(nobody.status, 1)
  })
})

describe('a policy question about a key', () => {
  it('is answered for the key with everything above it', async () => {
    const account = await json<Row>('accounts', 'create', '--name', 'narrow', '--tool', 'petstore__list*')
    const key = await json<Row>('keys', 'create', '--account', account.id, '--role', 'demo')
    const ask = (tool: string, ...more: string[]) =>
      json<{ decision: string; rule: string; line: number; roles: string[]; notes: string[] }>(
        ...['policy', 'explain', '--home', home.path, '--key', key.id, '--tool', tool, '--args', '{}', ...more],
      )
    const [allowed, denied, unknown] = await Promise.all(
      ['petstore__listPets', 'petstore__getPet', 'petstore__listCats'].map((tool) => ask(tool)),
    )
    assert.ok(allowed && denied && unknown)
    assert.deepEqual([allowed.decision, allowed.rule, allowed.roles], ['allow', 'demo.yaml#allow[2]', ['demo']])
    assert.deepEqual(allowed.notes, [])
    assert.deepEqual([denied.decision, denied.rule], ['deny', `tools-list:${account.id}`])
    assert.match(unknown.notes.join(), /no tool of this name is known there/)
    const other = openHome({ 'policies/tools/more.yaml': 'role: other\n' })
    try {
      assert.match((await ask('petstore__listPets', '--home', other.path)).notes.join(), /runs other files than these/)
    } finally {
      other.remove()
    }
  })
})

describe('a gateway that cannot be asked', () => {
  it('is told apart: no key (4), wrong key (4), nobody there (3), somebody else there (3)', async () => {
    const [none, wrong] = await Promise.all([
      gatehouse(['keys', 'list', '--url', gateway.url]),
      gatehouse(['keys', 'list', '--url', gateway.url], { GATEHOUSE_ADMIN_KEY: 'wrong-key' }),
    ])
    assert.equal(none.status, 4)
    assert.match(none.err, /GATEHOUSE_ADMIN_KEY is not set/)
    assert.equal(wrong.status, 4)
    assert.match(wrong.err, /refuses GATEHOUSE_ADMIN_KEY/)
    assert.ok(!wrong.err.includes('wrong-key'))

    const stranger = createServer((_, response) => response.end('<html>hello</html>'))
    await new Promise<void>((resolve) => stranger.listen(0, '127.0.0.1', resolve))
    const { port } = stranger.address() as AddressInfo
    const env = { GATEHOUSE_ADMIN_KEY: adminKey, PORT: String(port) }
    const other = await gatehouse(['registry', 'list'], env)
    await new Promise((resolve) => stranger.close(resolve))
    assert.equal(other.status, 3)
    assert.match(other.err, /is no gateway of this version/)
    const nobody = await gatehouse(['registry', 'list'], env)
    assert.equal(nobody.status, 3)
    assert.match(nobody.err, new RegExp(`no gateway answers at http://127\\.0\\.0\\.1:${port} `))
  })

  it('says what a wrong command line should be, with exit status 2', async () => {
    const said = await gatehouse(['keys', 'crate'])
    assert.equal(said.status, 2)
    assert.match(said.err, /did you mean|Did you mean|unknown command/)
    assert.equal((await gatehouse(['keys', 'list', '--url', 'nonsense'], { GATEHOUSE_ADMIN_KEY: adminKey })).status, 2)
  })
})
