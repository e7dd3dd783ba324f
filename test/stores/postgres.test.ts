import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import { inspect } from 'node:util'
import { openStore } from '../../src/stores/open.ts'
import { openPostgres } from '../../src/stores/postgres.ts'
import { addressOf, connect } from '../../src/stores/postgres-connection.ts'
import type { WriterRow } from '../../src/stores/store.ts'
import { wholeChain } from '../contract/ledger.ts'
import { account, amounts, auditRow, body, entry, line, posting, total } from '../contract/rows.ts'
import { storeContract } from '../contract/store.ts'
import { startCutter } from '../services/cutter.ts'
import { describePostgres, type PostgresUnderTest, password, startPostgres } from '../services/postgres.ts'
import { leaseTogether } from './together.ts'

const until = async (what: () => boolean | Promise<boolean>) => {
  while (!(await what())) await new Promise((resolve) => setTimeout(resolve, 5))
}

describePostgres('Postgres', () => {
  let server: PostgresUnderTest
  before(async () => {
    server = await startPostgres({ fsync: false })
  })

  storeContract(
    'postgres',
    async () => {
      const url = await server.create()
      return { open: (options) => openPostgres(url, options) }
    },
    { shared: true },
  )

  describe('several processes', () => {
    it('start at once on an empty database, and all find the same tables', async () => {
      const url = await server.create()
      const stores = await Promise.all(Array.from({ length: 6 }, () => openPostgres(url)))
      await stores[0]?.settings.set('a', 'b')
      for (const store of stores) assert.equal(await store.settings.get('a'), 'b')
      const { writers } = await (stores[0] as (typeof stores)[0]).writers.beat(60_000)
      assert.equal(writers.length, 6)
      await Promise.all(stores.map((store) => store.close()))
    })

    it('never spend more than there is of the last 100 tokens', async () => {
      const url = await server.create()
      const store = await openStore(url)
      await store.accounts.insert(account('red'), null)
      for (const slice of ['1', '7']) {
        await store.accounts.insert(account(`red${slice}`), null)
        const spent = await leaseTogether([url, `red${slice}`, '100', slice])
        assert.equal(spent[0] + spent[1], 100)
        const rows = await store.balances.of(`red${slice}`)
        assert.deepEqual(
          rows.map((row) => [row.writer, row.used.tokens, row.leased.tokens]),
          [['', 100, 0]],
        )
      }
      const lines = await store.ledger.page({ limit: 1000 })
      for (const chain of Map.groupBy(lines, ({ writer }) => writer).values()) wholeChain(chain)
      await store.close()
    })

    it('wake each other when something is announced or an account changes, and not themselves', async () => {
      const url = await server.create()
      let woken = 0
      let own = 0
      const sleeper = await openPostgres(url, { onWake: () => woken++ })
      const store = await openPostgres(url, { onWake: () => own++ })
      await store.accounts.insert(account('red'), null)
      await listening(url, 2)
      await store.writers.announce([{ kind: 'recall', subject: 'red total 0' }])
      await until(() => woken === 1)
      await store.accounts.update('red', { name: 'other' })
      await until(() => woken === 2)
      await sleeper.writers.announce([{ kind: 'recall', subject: 'red total 0' }])
      await until(() => own === 1)
      assert.deepEqual([woken, own], [2, 1])
      await Promise.all([sleeper.close(), store.close()])
    })

    it('are woken when they listen again, because something may have been said meanwhile', async () => {
      const url = await server.create()
      let woken = 0
      const store = await openPostgres(url, { onWake: () => woken++ })
      await listening(url, 1)
      const admin = await server.connect(url)
      await admin.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query = 'listen gatehouse'",
      )
      await until(() => woken === 1)
      await store.close()
    })

    it('leave no lease to one that is declared dead while it is being given some', async () => {
      const url = await server.create()
      const [store, other] = [await openPostgres(url), await openPostgres(url)]
      await store.accounts.insert(account('red'), null)
      // Another transaction has the row the lease would go to, so that the question stands in the middle of its answer.
      const admin = await server.connect(url)
      await admin.query('begin')
      const nothing = '0, 0, 0, 0, 0, 0, 0, 0'
      await admin.query(`insert into balances values ('red', 'total', 0, $1, ${nothing})`, [other.writers.id])
      const want = { key: total('red'), version: 1, want: amounts({ usd: 5 }), max: amounts({ usd: 9 }) }
      const asking = other.leases.ask([want])
      await waiting(url, 1)
      const { writers } = await store.writers.beat(60_000)
      const dead = writers.find(({ id }) => id === other.writers.id) as WriterRow
      let done = false
      const winding = store.writers.fence(dead).then(async (fenced) => {
        assert.equal(fenced, true)
        await store.writers.windUp(dead.id)
        done = true
      })
      await until(async () => done || (await waitingNow(url)) === 2)
      await admin.query('rollback')
      await Promise.all([asking, winding])
      assert.deepEqual(
        (await store.balances.of('red')).map(({ writer, leased }) => [writer, leased.usd]),
        [['', 0]],
      )
      await Promise.all([store.close(), other.close()])
    })

    it('lose nothing when one counts again while another hands over', async () => {
      const url = await server.create()
      const [store, other] = [await openPostgres(url), await openPostgres(url)]
      await store.accounts.insert(account('red'), null)
      const hour = { account: 'red', period: 'hour', startsAt: 0 }
      await store.balances.recount(hour, 10)
      const one = line('r1', { account: 'red', usd: 7, booked: 5 })
      await other.ledger.append([entry(one, [posting(hour)])])
      const admin = await server.connect(url)
      await admin.query('begin')
      await admin.query("select 1 from balances where writer = '' for update")
      const winding = other.close()
      await waiting(url, 1)
      const counting = store.balances.recount(hour, 10)
      await waiting(url, 2)
      await admin.query('rollback')
      await Promise.all([winding, counting])
      assert.deepEqual(
        (await store.balances.of('red')).map(({ writer, used }) => [writer, used.usd]),
        [['', 7]],
      )
      await store.close()
    })

    async function waitingNow(url: string): Promise<number> {
      const admin = await server.connect(url)
      const text =
        "select count(*)::int as n from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
      const { rows } = await admin.query<{ n: number }>(text)
      await admin.end()
      return rows[0]?.n ?? 0
    }

    /** Waits until so many connections wait for a lock. */
    const waiting = (url: string, count: number) => until(async () => (await waitingNow(url)) === count)

    /** Waits until so many connections listen. */
    async function listening(url: string, count: number): Promise<void> {
      const admin = await server.connect(url)
      const text = "select 1 from pg_stat_activity where datname = current_database() and query = 'listen gatehouse'"
      await until(async () => (await admin.query(text)).rowCount === count)
    }
  })

  describe('a connection that is lost', () => {
    it('at the moment of a commit leaves no line out, none twice, and no gap in the chain', async () => {
      const url = await server.create()
      const cutter = await startCutter(server.port)
      const store = await openPostgres(url.replace(`:${server.port}/`, `:${cutter.port}/`), { probeMs: 5 })
      const red = [posting(total('red'))]
      await store.ledger.append([entry(line('r1', { usd: 1 }), red)])
      const cut = cutter.cutAfter('commit')
      await assert.rejects(store.ledger.append([entry(line('r2', { usd: 10 }), red)]))
      await cut
      const behind = await openPostgres(url)
      await until(async () => (await behind.ledger.page({ limit: 10 })).length === 2)
      // Not knowing better, the caller offers it again, and goes on.
      await store.ledger.append([entry(line('r2', { usd: 10 }), red), entry(line('r3', { usd: 100 }), red)])
      const rows = await store.ledger.page({ limit: 10 })
      assert.deepEqual(
        rows.map(({ id }) => id),
        ['r1', 'r2', 'r3'],
      )
      wholeChain(rows)
      assert.equal((await store.balances.of('red'))[0]?.used.usd, 111)
      await Promise.all([store.close(), behind.close()])
    })

    it('makes the store unhealthy until it can be had again, which it finds out by itself', async () => {
      const url = await server.create()
      const cutter = await startCutter(server.port)
      const messages: string[] = []
      const note = (_: object, message: string) => void messages.push(message)
      const store = await openPostgres(url.replace(`:${server.port}/`, `:${cutter.port}/`), {
        probeMs: 5,
        log: { warn: note, info: note },
      })
      cutter.close()
      await assert.rejects(store.ledger.append([entry(line('r1'))]))
      assert.equal(store.healthy(), false)
      await assert.rejects(Promise.resolve(store.writers.mark([{ line: line('r1'), head: '{' }])))
      await assert.rejects(store.accounts.get('red'))
      await assert.rejects(store.audit.append([auditRow('a1')]))
      cutter.open()
      await until(() => store.healthy())
      await store.ledger.append([entry(line('r1'))])
      assert.equal((await store.ledger.page({ limit: 10 })).length, 1)
      assert.deepEqual(messages, ['the database cannot be written', 'the database can be written again'])
      await store.close()
    })

    it('does not keep a store that closes', async () => {
      const url = await server.create()
      const cutter = await startCutter(server.port)
      const store = await openPostgres(url.replace(`:${server.port}/`, `:${cutter.port}/`), { onWake: () => undefined })
      cutter.close()
      await assert.rejects(store.close())
    })
  })

  it('stays well when it only refuses a value', async () => {
    const store = await openPostgres(await server.create())
    await assert.rejects(store.accounts.insert(account('zero', null, { name: 'a\u0000b' }), null))
    await assert.rejects(store.accounts.insert(account('orphan', 'nobody'), null))
    assert.equal(store.healthy(), true)
    await store.close()
  })

  it('keeps to what the arithmetic rests on, whatever the database has been set to', async () => {
    const url = await server.create()
    const admin = await server.connect(url)
    const name = url.slice(url.lastIndexOf('/') + 1)
    for (const setting of [
      'synchronous_commit = off',
      "default_transaction_isolation = 'serializable'",
      'statement_timeout = 0',
      'idle_in_transaction_session_timeout = 0',
    ]) {
      await admin.query(`alter database ${name} set ${setting}`)
    }
    const client = await connect(addressOf(url))
    const { rows } = await client.query(`select name, setting from pg_settings where name in
      ('synchronous_commit', 'default_transaction_isolation', 'statement_timeout', 'idle_in_transaction_session_timeout') order by name`)
    assert.deepEqual(
      rows.map(({ setting }) => setting),
      ['read committed', '10000', '10000', 'on'],
    )
    await client.end()
  })

  describe('a database that cannot be opened', () => {
    const tell = async (url: string, what: RegExp) => {
      const error = await openPostgres(url).then(
        () => assert.fail('it was opened'),
        (reason: unknown) => reason,
      )
      assert.ok(error instanceof Error)
      assert.match(error.message, what)
      const everything = `${inspect(error, { depth: 9, showHidden: true })} ${error.stack} ${JSON.stringify(error)}`
      for (const secret of [password, encodeURIComponent(password), 'wrong-horse']) {
        assert.equal(everything.includes(secret), false, 'the password stands in the error')
      }
    }

    it('says what to do, and never the password', async () => {
      const url = await server.create()
      await tell(server.url('d1', { password: 'wrong-horse' }), /user or the password is not accepted/)
      await tell(server.url('nowhere'), /"nowhere" does not exist; create it with createdb/)
      await tell(url.replace(`:${server.port}/`, ':1/'), /nobody listens there.*is Postgres running/)
      await tell(url.replace('127.0.0.1', 'no-such-host.invalid'), /no-such-host\.invalid/)
      await tell(`postgres://me:${encodeURIComponent(password)}@:bad/x`, /cannot be read/)
      await tell(`${url}?sslmode=verify-full`, /SSL/)
    })

    it('is told when a newer program has written it', async () => {
      const url = await server.create()
      await (await openPostgres(url)).close()
      const admin = await server.connect(url)
      await admin.query("insert into migrations values (99, 'from the future')")
      await tell(url, /99 "from the future".*written by a newer Gatehouse/)
    })

    it('is told when its user may not create tables', async () => {
      const url = await server.create()
      const admin = await server.connect(url)
      await admin.query("create role guest login password 'wrong-horse'")
      const name = url.slice(url.lastIndexOf('/') + 1)
      await tell(server.url(name, { user: 'guest', password: 'wrong-horse' }), /permission denied.*GRANT CREATE/)
    })

    it('is refused when it is not encoded in UTF-8', async () => {
      const admin = await server.connect(server.url('postgres'))
      await admin.query("create database latin encoding 'LATIN1' locale 'C' template template0")
      await tell(server.url('latin'), /encoded in LATIN1.*UTF8/)
    })
  })

  it('keeps no password in what a lost connection says, nor in the log', async () => {
    const url = await server.create()
    const cutter = await startCutter(server.port)
    const logged: string[] = []
    const note = (fields: object, message: string) => void logged.push(`${inspect(fields, { depth: 9 })} ${message}`)
    const store = await openPostgres(url.replace(`:${server.port}/`, `:${cutter.port}/`), {
      log: { warn: note, info: note },
    })
    cutter.close()
    const errors = await Promise.allSettled([
      store.ledger.append([entry(line('r1', { body: body() }))]),
      store.accounts.get('red'),
      store.writers.mark([{ line: line('r1'), head: '{' }]),
      store.leases.ask([{ key: total('red'), version: 1, want: amounts(), max: amounts() }]),
    ])
    assert.ok(logged.length > 0)
    assert.deepEqual(
      errors.map(({ status }) => status),
      ['rejected', 'rejected', 'rejected', 'rejected'],
    )
    const all = inspect(errors, { depth: 9, showHidden: true }) + logged.join()
    for (const secret of [password, encodeURIComponent(password)]) assert.equal(all.includes(secret), false)
    await store.close().catch(() => undefined)
  })
})
