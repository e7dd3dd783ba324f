import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import { closeSync, existsSync, mkdtempSync, openSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, describe, it } from 'node:test'
import { promisify } from 'node:util'
import type { Worker } from 'node:worker_threads'
import { openSqlite } from '../../src/stores/sqlite.ts'
import { account, auditRow, entry, ledgerRow, total } from '../contract/rows.ts'
import { storeContract } from '../contract/store.ts'

const folder = mkdtempSync(join(tmpdir(), 'gatehouse-sqlite-'))
after(() => rmSync(folder, { recursive: true, force: true }))
let files = 0
const fresh = () => join(folder, `data-${++files}`, 'gatehouse.db')

storeContract('sqlite in a file', (options) => openSqlite(fresh(), options))
storeContract('sqlite in memory', (options) => openSqlite(':memory:', options))

describe('the SQLite file', () => {
  it('is readable by its owner alone, and so is its folder', async () => {
    const path = fresh()
    const store = await openSqlite(path)
    await store.settings.set('a', 'b')
    assert.equal(statSync(path).mode & 0o777, 0o600)
    assert.equal(statSync(`${path}-wal`).mode & 0o777, 0o600)
    assert.equal(statSync(join(path, '..')).mode & 0o777, 0o700)
    await store.close()
  })

  it('is one complete file after closing, and holds everything when opened again', async () => {
    const path = fresh()
    const store = await openSqlite(path)
    await store.ledger.append([entry(ledgerRow('r1'), [total('red')])])
    await store.close()
    assert.equal(existsSync(`${path}-wal`), false)
    const again = await openSqlite(path)
    assert.deepEqual(await again.ledger.page({ limit: 10 }), [ledgerRow('r1')])
    assert.equal((await again.accounts.balances('red'))[0]?.usd, 1250)
    await again.close()
  })

  it('belongs to one gateway: a second one is refused, and the first keeps working', async () => {
    const path = fresh()
    const first = await openSqlite(path)
    await assert.rejects(openSqlite(path, { busyMs: 0 }), /another gateway uses this data folder/)
    const other = `import { openSqlite } from '${new URL('../../src/stores/sqlite.ts', import.meta.url)}'
      await openSqlite(${JSON.stringify(path)}, { busyMs: 0 })`
    const child = promisify(execFile)(process.execPath, ['--input-type=module-typescript', '-e', other])
    await assert.rejects(child, /another gateway uses this data folder/)
    await first.settings.set('a', 'b')
    await first.close()
    const second = await openSqlite(path)
    assert.equal(await second.settings.get('a'), 'b')
    await second.close()
  })

  it('is refused with a clear message when it is not a database', async () => {
    const path = join(folder, 'text.db')
    writeFileSync(path, 'this is a letter, not a database\n'.repeat(200))
    await assert.rejects(openSqlite(path), /text\.db: the file is damaged or not a SQLite database/)
  })

  it('is refused with a clear message when its pages are damaged', async () => {
    const path = fresh()
    const store = await openSqlite(path)
    await store.close()
    const size = statSync(path).size
    const db = new DatabaseSync(path)
    const { page_size: page } = db.prepare('PRAGMA page_size').get() as { page_size: number }
    db.close()
    const fd = openSync(path, 'r+')
    writeSync(fd, Buffer.alloc(page - 100, 0xff), 0, page - 100, 100)
    closeSync(fd)
    assert.equal(statSync(path).size, size)
    await assert.rejects(openSqlite(path), /the file is damaged or not a SQLite database/)
  })

  it('is refused with a clear message when a newer program has written it', async () => {
    const path = fresh()
    await (await openSqlite(path)).close()
    const db = new DatabaseSync(path)
    db.exec("INSERT INTO migrations VALUES (2, 'from the future')")
    db.close()
    await assert.rejects(openSqlite(path), /2 "from the future".*written by a newer Gatehouse/)
  })
})

describe('the database thread', () => {
  it('takes waiting appends down with it when it dies, and the store says so', async () => {
    const started = new Promise<Worker>((resolve) => process.once('worker', resolve))
    const store = await openSqlite(fresh())
    const worker = await started
    assert.equal(store.healthy(), true)
    const append = store.ledger.append([entry(ledgerRow('r1'))])
    const exited = worker.terminate()
    await assert.rejects(append, /the database is closed/)
    await exited
    assert.equal(store.healthy(), false)
    await assert.rejects(store.ledger.append([entry(ledgerRow('r2'))]), /the database is closed/)
    await assert.rejects(store.accounts.get('acme'), /the database is closed/)
    await store.close()
  })
})

const prlimit = (() => {
  try {
    execFileSync('prlimit', ['--version'])
    return true
  } catch {
    return false
  }
})()

describe('a disk that takes no more', { skip: prlimit ? false : 'prlimit is not installed' }, () => {
  // Node ignores SIGXFSZ, so beyond the limit a write fails as on a full disk.
  const limitFiles = (bytes: number | 'unlimited') =>
    execFileSync('prlimit', ['--pid', String(process.pid), `--fsize=${bytes}:unlimited`])

  it('rejects appends, reports unhealthy, and recovers by itself when there is room again', async () => {
    const messages: string[] = []
    const log = {
      warn: (_: object, message: string) => void messages.push(message),
      info: (_: object, message: string) => void messages.push(message),
    }
    const path = fresh()
    const store = await openSqlite(path, { probeMs: 5, log })
    await store.ledger.append([entry(ledgerRow('r1', { usd: 1 }), [total('red')])])
    limitFiles(statSync(`${path}-wal`).size)
    try {
      await assert.rejects(store.ledger.append([entry(ledgerRow('r2', { usd: 2 }), [total('red')])]))
      assert.equal(store.healthy(), false)
      await assert.rejects(store.audit.append([auditRow('a1')]))
      await assert.rejects(store.accounts.insert(account('acme'), null))
      assert.equal((await store.accounts.balances('red'))[0]?.usd, 1)
    } finally {
      limitFiles('unlimited')
    }
    while (!store.healthy()) await new Promise((resolve) => setTimeout(resolve, 1))
    await store.ledger.append([entry(ledgerRow('r2', { usd: 2 }), [total('red')])])
    assert.equal((await store.accounts.balances('red'))[0]?.usd, 3)
    assert.deepEqual(messages, ['the database cannot be written', 'the database can be written again'])
    await store.close()
  })
})
