/** What must never be seen: keys in logs, in the database, in any answer. @module */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'
import { SettingError, settingsFrom } from '../../src/settings.ts'
import { type Answered, adminKey, hello, openVendor, startFails, startGateway, vendorKey } from '../gateway.ts'

/** The ways a secret could lie around: as it is, encoded, backwards. */
function spellings(secret: string): string[] {
  const bytes = Buffer.from(secret)
  return [
    secret,
    bytes.toString('base64').replace(/=+$/, ''),
    bytes.toString('hex'),
    [...secret].reverse().join(''),
    encodeURIComponent(secret),
  ]
}

it('no key, prompt or provider credential is in the log, the metrics, the data folder or an error', async () => {
  const vendor = await openVendor()
  const gateway = await startGateway({
    vendor,
    env: { GATEHOUSE_LOG_LEVEL: 'debug' },
    models: { house: { provider: 'vendor', upstream: 'ok', price: { input: 1, output: 2 } } },
  })
  const prompt = 'CANARY-prompt-8c1d77e0'
  const key = await gateway.mintKey({ limits: [{ unit: 'requests', max: 30 }] })
  const session = await gateway.mintSession(key.key, { labels: { run: 'seven' } })
  const messages = [{ role: 'user', content: prompt }]
  const answers: Answered[] = []
  const asked = async (...args: Parameters<typeof gateway.ask>) => answers.push(await gateway.ask(...args))
  for (const model of [
    'house',
    'vendor/status-401',
    'vendor/status-500',
    'vendor/rst',
    'vendor/cut-300',
    'vendor/html',
    'nobody',
  ]) {
    for (const stream of [false, true])
      await asked('POST', '/v1/chat/completions', { key: session.key, body: { ...hello, model, messages, stream } })
  }
  const wrong = `${key.key.slice(0, -1)}x`
  await asked('POST', '/v1/chat/completions', { key: key.key, body: `{"model": "${prompt}` })
  await asked('GET', '/v1/models', { key: wrong })
  await asked('GET', `/v1/models?key=${key.key}`)
  await asked('GET', '/v1/models', { key: key.key, headers: { 'x-api-key': session.key } })
  await asked('GET', '/v1/models', { key: key.key, headers: { cookie: `k=${session.key}` } })
  await asked('GET', '/admin/v1/keys', { key: session.key })
  await asked('POST', '/v1/sessions', { key: key.key, body: { secret: key.key } })
  await asked('POST', '/admin/v1/keys', { key: adminKey, body: { account: 'x', name: 'x', password: adminKey } })
  await asked('DELETE', `/v1/sessions/${session.id}`, { key: key.key })
  await asked('GET', '/v1/models', { key: session.key })
  await asked('GET', '/metrics')
  await asked('GET', '/readyz')
  await gateway.stop()

  const folder = join(gateway.home, 'data')
  const master = readFileSync(join(folder, 'master-key'), 'utf8').trim()
  const kept = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((one) => one.isFile() && one.name !== 'master-key')
    .map(({ parentPath, name }) => readFileSync(join(parentPath, name), 'latin1'))
    .join('\n')
  const errors = answers.filter(({ status }) => status !== 200)
  assert.ok(errors.length >= 15, String(errors.length))
  const places = {
    log: gateway.log(),
    'data folder': kept,
    errors: errors.map(({ text, headers }) => `${text}\n${JSON.stringify([...headers])}`).join('\n'),
    'every answer': answers.map(({ text }) => text).join('\n'),
  }
  const secretPart = (token: string) => token.slice(token.lastIndexOf('_') + 1)
  const demo = /demo session key.*?(sk-gate-\S+)/.exec(places.log)?.[1] ?? assert.fail('no demo key')
  const secrets: [string, string][] = [
    ['key', secretPart(key.key)],
    ['session key', secretPart(session.key)],
    ['admin key', adminKey],
    ['vendor key', vendorKey],
    ['master key', master],
    ['prompt', prompt],
  ]
  for (const [place, text] of Object.entries(places)) {
    for (const [name, secret] of secrets) {
      for (const spelling of spellings(secret)) assert.ok(!text.includes(spelling), `the ${name} is in the ${place}`)
    }
  }
  // The demo key is shown on the terminal once, and is nowhere else.
  assert.equal(places.log.split(secretPart(demo)).length - 1, 2)
  assert.ok(!kept.includes(secretPart(demo)))
  for (const name of readdirSync(folder)) assert.equal(statSync(join(folder, name)).mode & 0o077, 0, name)
})

it('a gateway that others could reach does not start without an admin key', async () => {
  const { code, output } = await startFails({ args: ['--host', '0.0.0.0'], env: { GATEHOUSE_ADMIN_KEY: '' } })
  assert.equal(code, 1)
  assert.match(output, /^gatehouse cannot start: HOST 0\.0\.0\.0 .*GATEHOUSE_ADMIN_KEY.*\n$/)
})

it('a wrong setting is told in one line, without a stack and without its secret', async () => {
  const wrong: [Record<string, string>, RegExp][] = [
    [{ PORT: '99999' }, /^PORT/],
    [{ GATEHOUSE_ADMIN_KEY: 'short-Zm9vYmFy' }, /^GATEHOUSE_ADMIN_KEY: needs at least 24/],
    [{ GATEHOUSE_PUBLIC_URL: 'gate.example.com' }, /^GATEHOUSE_PUBLIC_URL/],
    [{ GATEHOUSE_ALLOW_PRIVATE: '10.0.0.0/8' }, /^GATEHOUSE_ALLOW_PRIVATE/],
    [{ DATABASE_URL: 'mysql://x' }, /^DATABASE_URL/],
    [{ GATEHOUSE_WORKERS: 'four' }, /^GATEHOUSE_WORKERS/],
    [{ DATABASE_URL: 'postgres://me:Zm9vYmFy/x@host:badport/db' }, /^DATABASE_URL: cannot be read/],
    [{ GATEHOUSE_LOG_LEVEL: 'loud' }, /^GATEHOUSE_LOG_LEVEL/],
    [{ HOST: '192.0.2.1' }, /^HOST 192\.0\.2\.1/],
  ]
  for (const [env, says] of wrong) {
    assert.throws(
      () => settingsFrom(env, {}, '/'),
      (error: Error) => {
        assert.ok(error instanceof SettingError)
        assert.match(error.message, says)
        assert.ok(!error.message.includes('Zm9vYmFy') && !error.message.includes('\n'), error.message)
        return true
      },
    )
  }
  const { code, output } = await startFails({ env: { GATEHOUSE_MASTER_KEY: 'Zm9vYmFyLXNlY3JldA==' } })
  assert.equal(code, 1)
  assert.match(output, /^gatehouse cannot start: GATEHOUSE_MASTER_KEY: must be 32 bytes in base64[^\n]*\n$/)
  assert.ok(!output.includes('Zm9vYmFy'))
})

it('a second gateway on the same database knows the same keys and counts against the same budgets', async () => {
  const vendor = await openVendor()
  const models = { house: { provider: 'vendor', upstream: 'ok', price: { input: 0, output: 0 } } }
  const first = await startGateway({ vendor, models })
  const env = {
    DATABASE_URL: `sqlite:${join(first.home, 'data/gatehouse.db')}`,
    GATEHOUSE_MASTER_KEY: readFileSync(join(first.home, 'data/master-key'), 'utf8').trim(),
  }
  const second = await startGateway({ vendor, models, env })
  const key = await first.mintKey({ limits: [{ unit: 'requests', max: 3 }] })
  const statuses = []
  for (const gateway of [first, second, first, second, first]) {
    statuses.push((await gateway.chat(key.key, { model: 'house' })).status)
  }
  assert.deepEqual(statuses, [200, 200, 200, 429, 429])
})

it('a database on another machine is spoken to in the clear only with a word about it', () => {
  const notes = (DATABASE_URL: string) => settingsFrom({ DATABASE_URL }, {}, '/').notes
  for (const url of ['postgres://me:Zm9vYmFy@db.example/x', 'postgresql://db.example/x?sslmode=disable']) {
    assert.match(notes(url).join(), /DATABASE_URL.*not encrypted/)
    assert.ok(!notes(url).join().includes('Zm9vYmFy'))
  }
  for (const url of ['postgres://db.example/x?sslmode=verify-full', 'postgres://127.0.0.1/x', 'sqlite:a.db']) {
    assert.deepEqual(notes(url), [])
  }
})
