/** Forgetting: people can be erased and old rows go, and the books still add up; what is changed after it is found. @module */
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, describe, it } from 'node:test'
import fc from 'fast-check'
import type { Anchor } from '../../src/record/anchor.ts'
import { forgetNotes, forgetRows } from '../../src/record/retention.ts'
import { type Verified, verify } from '../../src/record/verify.ts'
import { openSnapshot } from '../../src/stores/open-snapshot.ts'
import { openSqlite } from '../../src/stores/sqlite.ts'
import type { BalanceKey, ChainHead, LedgerEntry, Store } from '../../src/stores/store.ts'

const folder = mkdtempSync(join(tmpdir(), 'gatehouse-retention-'))
after(() => rmSync(folder, { recursive: true, force: true }))
let files = 0

const day = 86_400_000
const begin = Date.UTC(2026, 0, 1)
const accounts = ['a_org', 'a_team', 'k_one', 'k_two'] as const
const parents = { a_org: null, a_team: 'a_org', k_one: 'a_team', k_two: 'a_org' } as const
const paths = {
  a_org: ['a_org'],
  a_team: ['a_team', 'a_org'],
  k_one: ['k_one', 'a_team', 'a_org'],
  k_two: ['k_two', 'a_org'],
}

interface Call {
  readonly account: keyof typeof paths
  readonly days: number
  readonly usd: number
  readonly noted: boolean
  /** The process is another one from here on. */
  readonly restart: boolean
}

const someCall = fc.record<Call>({
  account: fc.constantFrom(...accounts),
  days: fc.integer({ min: 0, max: 40 }),
  usd: fc.integer({ min: 0, max: 5_000_000 }),
  noted: fc.boolean(),
  restart: fc.constantFrom(true, false, false, false),
})

async function open(path: string): Promise<Store> {
  const store = await openSqlite(path)
  for (const id of accounts) {
    if ((await store.accounts.get(id)) !== null) continue
    const common = { limits: [], models: null, tools: null, roles: [], labels: { who: 'somebody' }, expiresAt: null }
    const kind = id.startsWith('k_') ? 'key' : 'team'
    const row = {
      ...common,
      id,
      parent: parents[id],
      kind,
      name: 'Ada',
      revokedAt: null,
      createdAt: 0,
      version: 1,
    } as const
    await store.accounts.insert(row, null)
  }
  return store
}

/** A line on the counters of its path: everything, and its month. */
function entryOf({ account, usd, noted }: Call, at: number, number: number): LedgerEntry {
  const month = Date.UTC(new Date(at).getUTCFullYear(), new Date(at).getUTCMonth(), 1)
  const keys: BalanceKey[] = paths[account].flatMap((level) => [
    { account: level, period: 'total', startsAt: 0 },
    { account: level, period: 'month', startsAt: month },
  ])
  const body = `{"call":"c${number}","attempt":1,"session":null,"kind":"chat","outcome":"answered","usage":null,"price":null}`
  const line = {
    id: `req_${String(at).padStart(15, '0')}_${String(number).padStart(4, '0')}`,
    account,
    at,
    booked: at,
    usd,
    tokens: usd % 1000,
    requests: 1,
    tool_calls: 0,
    body,
    notes: noted ? `{"step":"written by somebody ${number}","labels":null}` : null,
  }
  const leased = { usd: 0, tokens: 0, requests: 0, tool_calls: 0 } as const
  return { line, postings: keys.map((key) => ({ key, leased })), short: null, posted: null }
}

interface Books {
  readonly path: string
  /** Where the clock was at the end. */
  readonly now: number
}

async function write(calls: readonly Call[]): Promise<Books> {
  const path = join(folder, `${++files}.db`)
  let store = await open(path)
  let at = begin
  for (const [number, call] of calls.entries()) {
    if (call.restart) {
      await store.close()
      store = await open(path)
    }
    at += call.days * day
    await store.ledger.append([entryOf(call, at, number)])
  }
  await store.close()
  return { path, now: at }
}

async function checked(path: string, anchors: readonly Anchor[] | null = null): Promise<Verified> {
  const snapshot = await openSnapshot(path)
  try {
    return await verify(snapshot, anchors)
  } finally {
    await snapshot.close()
  }
}

async function inStore<T>(path: string, work: (store: Store) => Promise<T>): Promise<T> {
  const store = await openSqlite(path)
  try {
    return await work(store)
  } finally {
    await store.close()
  }
}

type Deed = { readonly erase: keyof typeof paths } | { readonly notes: number } | { readonly rows: number }

const someDeed = fc.oneof(
  fc.record({ erase: fc.constantFrom(...accounts) }),
  fc.record({ notes: fc.integer({ min: 1, max: 400 }) }),
  fc.record({ rows: fc.integer({ min: 62, max: 400 }) }),
)

const nobody = () => {}

async function run(store: Store, deed: Deed, now: number): Promise<void> {
  if ('notes' in deed) await forgetNotes(store, now - deed.notes * day)
  else if ('rows' in deed) await forgetRows(store, now - deed.rows * day, nobody)
  else await store.retention.eraseNotes((await store.accounts.subtree(deed.erase)).map(({ id }) => id))
}

describe('what the ledger forgets', () => {
  it('leaves books that add up, whatever is forgotten in whatever order, and any later change is found', async () => {
    const calls = fc.array(someCall, { minLength: 1, maxLength: 25 })
    const deeds = fc.array(someDeed, { maxLength: 4 })
    const edit = fc.record({
      column: fc.constantFrom(
        'account',
        'at',
        'booked',
        'usd',
        'tokens',
        'requests',
        'tool_calls',
        'body',
        'notes_hash',
        'hash',
        'id',
      ),
      row: fc.nat(),
      gone: fc.boolean(),
    })
    await fc.assert(
      fc.asyncProperty(calls, deeds, edit, async (made, done, { column, row, gone }) => {
        const { path, now } = await write(made)
        const totals = await inStore(path, (store) => store.balances.of('a_org'))
        await inStore(path, async (store) => {
          for (const deed of done) await run(store, deed, now)
        })
        const clean = await checked(path)
        assert.equal(clean.fault, null)
        assert.equal(clean.rows + clean.removed, made.length)
        const kept = await inStore(path, (store) => store.balances.of('a_org'))
        const total = (rows: typeof kept) => rows.filter(({ period }) => period === 'total').map(({ used }) => used)
        assert.deepEqual(total(kept), total(totals))

        const db = new DatabaseSync(path)
        const ids = db
          .prepare('SELECT id FROM ledger ORDER BY id')
          .all()
          .map(({ id }) => String(id))
        if (ids.length === 0) {
          db.close()
          return
        }
        const id = ids[row % ids.length] as string
        const numbers = ['at', 'booked', 'usd', 'tokens', 'requests', 'tool_calls']
        const value = numbers.includes(column) ? `${column} + 1` : `${column} || 'x'`
        if (gone) db.prepare('DELETE FROM ledger WHERE id = ?').run(id)
        else db.prepare(`UPDATE ledger SET ${column} = ${value} WHERE id = ?`).run(id)
        db.close()
        assert.notEqual((await checked(path)).fault, null)
        for (const end of ['', '-wal', '-shm']) rmSync(`${path}${end}`, { force: true })
      }),
      { numRuns: 12 },
    )
  })

  const call = (days: number, more: Partial<Call> = {}): Call => ({
    ...{ account: 'k_one', days, usd: 1000, noted: true, restart: false },
    ...more,
  })

  it('finds it when a checkpoint, a removed sum or a first row behind a checkpoint is changed', async () => {
    const { path, now } = await write([call(0), call(10), call(200), call(10), call(1)])
    const heads: ChainHead[] = []
    const gone = await inStore(path, (store) => forgetRows(store, now - 62 * day, (head) => heads.push(head)))
    assert.equal(gone, 2)
    const bytes = readFileSync(path)
    const { removed, rows, notes } = await checked(path, [])
    assert.deepEqual([removed, rows], [2, 3])
    assert.match(notes.join(), /no anchor says that the first 2 rows of w_\w+ were removed by retention/)
    const [last] = heads
    const anchor = { chain: 'ledger', kind: 'checkpoint', at: '', ...last } as Anchor
    assert.deepEqual((await checked(path, [anchor])).notes, [])
    for (const change of [
      'UPDATE checkpoints SET seq = 1',
      'UPDATE checkpoints SET seq = 3',
      "UPDATE checkpoints SET hash = '00'",
      'DELETE FROM checkpoints',
      'UPDATE removed SET usd = usd - 1',
      'DELETE FROM removed',
      'DELETE FROM ledger WHERE seq = 3',
      'DELETE FROM ledger',
    ]) {
      writeFileSync(path, bytes)
      const db = new DatabaseSync(path)
      db.exec(change)
      db.close()
      assert.notEqual((await checked(path)).fault, null, change)
    }
  })

  it('removes only what is the beginning of a chain, and leaves newer rows and windows alone', async () => {
    const { path, now } = await write([call(0), call(70, { restart: true }), call(70), call(5), call(1)])
    await inStore(path, async (store) => {
      assert.equal(await forgetRows(store, now - 62 * day, nobody), 2)
      assert.equal(await forgetRows(store, now - 62 * day, nobody), 0, 'once')
      const left = await store.ledger.page({ limit: 10 })
      assert.deepEqual(
        left.map(({ at }) => (at - begin) / day),
        [140, 145, 146],
      )
      const windows = (await store.balances.of('k_one')).filter(({ period }) => period === 'month')
      assert.ok(windows.every(({ startsAt }) => startsAt >= now - 62 * day))
    })
  })

  it('is done once where two processes do it at once', async () => {
    const { path, now } = await write([call(0), call(1), call(1), call(100)])
    const [a, b] = [await openSqlite(path), await openSqlite(path)]
    const gone = await Promise.all([a, b].map((store) => forgetRows(store, now - 62 * day, nobody)))
    assert.equal((gone[0] ?? 0) + (gone[1] ?? 0), 3)
    await a.close()
    await b.close()
    assert.equal((await checked(path)).fault, null)
  })

  it('leaves nothing of what was erased in the file', async () => {
    const { path } = await write([call(0), call(1), call(1, { account: 'k_two' })])
    await inStore(path, (store) => store.retention.eraseNotes(['k_one']))
    const bytes = readFileSync(path, 'latin1')
    assert.ok(!bytes.includes('written by somebody 0') && !bytes.includes('written by somebody 1'))
    assert.ok(bytes.includes('written by somebody 2'))
    assert.equal((await checked(path)).erased, 2)
  })
})
