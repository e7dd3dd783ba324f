import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, mkdtempSync, openSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, describe, it } from 'node:test'
import type { Worker } from 'node:worker_threads'
import { openSqlite } from '../../src/stores/sqlite.ts'
import type { WriterRow } from '../../src/stores/store.ts'
import { wholeChain } from '../contract/ledger.ts'
import { account, auditRow, entry, line, posting, total } from '../contract/rows.ts'
import { storeContract } from '../contract/store.ts'
import { leaseTogether } from './together.ts'

const folder = mkdtempSync(join(tmpdir(), 'gatehouse-sqlite-'))
after(() => rmSync(folder, { recursive: true, force: true }))
let files = 0
const fresh = () => join(folder, `data-${++files}`, 'gatehouse.db')

storeContract(
  'sqlite in a file',
  async () => {
    const path = fresh()
    return { open: (options) => openSqlite(path, options) }
  },
  { shared: true },
)
storeContract('sqlite in memory', async () => ({ open: (options) => openSqlite(':memory:', options) }), {
  shared: false,
})

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
    await store.ledger.append([entry(line('r1', { notes: '{"step":"a"}' }), [posting(total('red'))])])
    const [row] = await store.ledger.page({ limit: 10 })
    await store.close()
    assert.equal(existsSync(`${path}-wal`), false)
    const again = await openSqlite(path)
    assert.deepEqual(await again.ledger.page({ limit: 10 }), [row])
    assert.equal((await again.balances.of('red'))[0]?.used.usd, 1250)
    await again.close()
  })

  it('is shared by processes: both append, and together they never spend more than there is', async () => {
    const path = fresh()
    const store = await openSqlite(path)
    await store.accounts.insert(account('red'), null)
    const spent = await leaseTogether([path, 'red', '100', '3'])
    assert.equal(spent[0] + spent[1], 100)
    const rows = await store.balances.of('red')
    assert.deepEqual(
      rows.map((row) => [row.writer, row.used.tokens, row.leased.tokens]),
      [['', 100, 0]],
    )
    const lines = await store.ledger.page({ limit: 1000 })
    for (const chain of Map.groupBy(lines, ({ writer }) => writer).values()) wholeChain(chain)
    await store.close()
  })

  it('tells a process that was killed from one that lives, and what it had in the air', async () => {
    const path = fresh()
    const store = await openSqlite(path)
    const script = `import { openSqlite } from '${new URL('../../src/stores/sqlite.ts', import.meta.url)}'
      const store = await openSqlite(${JSON.stringify(path)})
      store.writers.mark([{ line: { id: 'r1', account: 'red', at: 1, booked: 2, usd: 3, tokens: 4, requests: 5, tool_calls: 6 }, head: '{' }])
      process.stdout.write(store.writers.id)
      setInterval(() => {}, 1000)`
    const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const [id] = await once(child.stdout, 'data')
    const rowOf = async () => {
      const { writers } = await store.writers.beat(15_000)
      return writers.find((row) => row.id === String(id)) as WriterRow
    }
    assert.equal(store.writers.gone(await rowOf()), false)
    child.kill('SIGKILL')
    await once(child, 'exit')
    const dead = await rowOf()
    assert.equal(store.writers.gone(dead), true)
    const amounts = { usd: 3, tokens: 4, requests: 5, tool_calls: 6 }
    assert.deepEqual(await store.writers.marksOf(dead.id), [
      { line: { id: 'r1', account: 'red', at: 1, booked: 2, ...amounts }, head: '{' },
    ])
    assert.equal(await store.writers.fence(dead), true)
    await store.writers.windUp(dead.id)
    assert.deepEqual(await store.writers.marksOf(dead.id), [])
    await store.close()
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
    db.exec("INSERT INTO migrations VALUES (99, 'from the future')")
    db.close()
    await assert.rejects(openSqlite(path), /99 "from the future".*written by a newer Gatehouse/)
  })
})

describe('the database thread', () => {
  it('takes waiting appends down with it when it dies, and the store says so', async () => {
    const started = new Promise<Worker>((resolve) => process.once('worker', resolve))
    const store = await openSqlite(fresh())
    const worker = await started
    assert.equal(store.healthy(), true)
    const append = store.ledger.append([entry(line('r1'))])
    const exited = worker.terminate()
    await assert.rejects(append, /the database is closed/)
    await exited
    assert.equal(store.healthy(), false)
    await assert.rejects(store.ledger.append([entry(line('r2'))]), /the database is closed/)
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
    await store.ledger.append([entry(line('r1', { usd: 1 }), [posting(total('red'))])])
    limitFiles(statSync(`${path}-wal`).size)
    try {
      await assert.rejects(store.ledger.append([entry(line('r2', { usd: 2 }), [posting(total('red'))])]))
      assert.equal(store.healthy(), false)
      await assert.rejects(store.audit.append([auditRow('a1')]))
      await assert.rejects(store.accounts.insert(account('acme'), null))
      assert.equal((await store.balances.of('red'))[0]?.used.usd, 1)
    } finally {
      limitFiles('unlimited')
    }
    while (!store.healthy()) await new Promise((resolve) => setTimeout(resolve, 1))
    await store.ledger.append([entry(line('r2', { usd: 2 }), [posting(total('red'))])])
    assert.equal((await store.balances.of('red'))[0]?.used.usd, 3)
    assert.deepEqual(messages, ['the database cannot be written', 'the database can be written again'])
    await store.close()
  })
})
