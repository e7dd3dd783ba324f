/** `gatehouse ledger verify`: clean books are clean, and whatever is changed behind the gateway's back is named. @module */
import assert from 'node:assert/strict'
import { copyFileSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { before, describe, it } from 'node:test'
import { readAnchors } from '../../src/record/anchor.ts'
import { type Verified, verify } from '../../src/record/verify.ts'
import { type Chained, chainHash, chainStart, chainText } from '../../src/stores/chain.ts'
import { openSnapshot } from '../../src/stores/open-snapshot.ts'
import { eventually, openVendor, startGateway, startInside } from '../gateway.ts'
import { gatehouse } from './rig.ts'

const price = { input: 1.5, output: 6 }
const models = {
  house: { provider: 'vendor', upstream: 'ok', price },
  broken: { provider: 'vendor', upstream: 'status-500' },
  slow: { provider: 'vendor', upstream: 'slow-headers', price },
}

interface Row {
  readonly id: string
  readonly writer: string
  readonly seq: number
  readonly hash: string
}

/** A gateway that has served, with notes, refusals, sessions and limits in several windows. */
async function served() {
  const gateway = await startInside({ vendor: await openVendor(), models })
  const limits = [
    { unit: 'usd', max: 5, window: 'day' },
    { unit: 'requests', max: 900, window: 'month', zone: 'Asia/Kathmandu' },
  ]
  const account = await gateway.mintAccount({ limits })
  const key = await gateway.mintKey({ account, limits: [{ unit: 'tokens', max: 100_000, window: 'hour' }] })
  const session = await gateway.mintSession(key.key, { limits: { requests: 50 } })
  for (let i = 0; i < 3; i++) {
    await gateway.chat(key.key, { model: 'house' }, { 'x-gatehouse-step': `s${i}`, 'x-gatehouse-labels': 'team=red' })
    await gateway.chat(session.key, { model: 'house', stream: true })
  }
  await gateway.chat(key.key, { model: 'broken' })
  await gateway.admin('PATCH', `/accounts/${account}`, { labels: { team: 'red' } })
  await gateway.admin('GET', '/ledger')
  await gateway.chat(key.key, { model: 'nobody' })
  return { gateway, account, key, session }
}

describe('ledger verify', () => {
  let home: string
  let file: string
  let anchors: string
  let running: Verified & { ok: boolean }
  /** The file as it was closed, and its anchors. */
  let bytes: Buffer
  let anchored: Buffer

  before(async () => {
    const { gateway } = await served()
    home = gateway.home
    file = join(home, 'data/gatehouse.db')
    anchors = join(home, 'data/ledger.anchors')
    const said = await gatehouse(['ledger', 'verify', '--home', home, '--json'])
    assert.equal(said.status, 0, said.out + said.err)
    running = JSON.parse(said.out)
    await gateway.running.stop(0)
    bytes = readFileSync(file)
    anchored = readFileSync(anchors)
  })

  const restore = () => {
    for (const end of ['-wal', '-shm']) rmSync(`${file}${end}`, { force: true })
    writeFileSync(file, bytes)
    writeFileSync(anchors, anchored)
  }

  async function after(change: (db: DatabaseSync) => void): Promise<NonNullable<Verified['fault']>> {
    restore()
    const db = new DatabaseSync(file)
    db.exec('PRAGMA foreign_keys = OFF')
    change(db)
    db.close()
    const { fault } = await checked()
    assert.ok(fault !== null, `found nothing: ${change}`)
    return fault
  }

  async function checked(): Promise<Verified> {
    const known = readAnchors(anchors)?.anchors ?? null
    const snapshot = await openSnapshot(file)
    try {
      return await verify(snapshot, known)
    } finally {
      await snapshot.close()
    }
  }

  const rowsOf = (table: 'ledger' | 'audit') => {
    const db = new DatabaseSync(file)
    const rows = db.prepare(`SELECT * FROM ${table} ORDER BY writer, seq`).all() as unknown as Row[]
    db.close()
    return rows
  }

  it('finds everything in order while the gateway runs, and after it has closed', async () => {
    assert.equal(running.ok, true)
    assert.equal(running.fault, null)
    assert.deepEqual([running.rows, running.chains, running.priced], [9, 1, 6])
    assert.match(running.notes.join(), /no file of anchors/)
    restore()
    const said = await gatehouse(['ledger', 'verify', '--home', home])
    assert.equal(said.status, 0, said.out + said.err)
    assert.match(said.out, /rows +9 in 1 chain\n(.*\n)*everything adds up$/m)
    assert.doesNotMatch(said.out, /note/)
    assert.equal(statSync(anchors).mode & 0o777, 0o600)
  })

  it('names the row whatever column of the ledger is edited', async () => {
    restore()
    const rows = rowsOf('ledger')
    // The one in the middle has notes, the last has none.
    const noted = rows[3] as Row
    const last = rows.at(-1) as Row
    const edits: readonly [column: string, value: string][] = [
      ...['at', 'booked', 'usd', 'tokens', 'requests', 'tool_calls'].map((name): [string, string] => [
        name,
        `${name} + 1`,
      ]),
      ['usd', "'much'"],
      ['usd', '9007199254740993'],
      ['account', "'a_other'"],
      ['account', "account || char(9) || '1'"],
      ['id', "id || 'x'"],
      ['body', 'replace(body, \'"chat"\', \'"none"\')'],
      ['body', "x'00'"],
      ['notes_hash', "'00'"],
      ['notes_hash', "''"],
      ['hash', "'00'"],
    ]
    for (const row of [noted, last]) {
      for (const [column, value] of edits) {
        if (value === "''" && row === last) continue
        const fault = await after((db) => db.exec(`UPDATE ledger SET ${column} = ${value} WHERE id = '${row.id}'`))
        assert.deepEqual(
          [fault.where, fault.writer, fault.seq, fault.wrong],
          ['ledger', row.writer, row.seq, 'hash'],
          column,
        )
        if (column !== 'id') assert.equal(fault.id, row.id)
      }
    }
    const notes = await after((db) => db.exec(`UPDATE ledger SET notes = '{"step":"other"}' WHERE id = '${noted.id}'`))
    assert.deepEqual([notes.wrong, notes.seq, notes.id], ['notes', noted.seq, noted.id])
    const late = await after((db) => db.exec(`UPDATE ledger SET seq = 99 WHERE id = '${noted.id}'`))
    assert.deepEqual([late.wrong, late.seq], ['gap', 4])
    const twice = await after((db) => db.exec(`UPDATE ledger SET seq = 2 WHERE id = '${noted.id}'`))
    assert.deepEqual([twice.where, twice.seq], ['ledger', 2])
    const renamed = await after((db) => db.exec(`UPDATE ledger SET writer = 'a' WHERE id = '${noted.id}'`))
    assert.deepEqual([renamed.wrong, renamed.id], ['writer', noted.id])
    const moved = await after((db) => db.exec(`UPDATE ledger SET writer = 'z' WHERE id = '${noted.id}'`))
    assert.deepEqual([moved.wrong, moved.seq], ['gap', 4])
    const chain = await after((db) => db.exec("UPDATE ledger SET writer = 'a'"))
    assert.equal(chain.wrong, 'writer')
  })

  it('names the place where rows were deleted, inserted, put in another order or cut off', async () => {
    restore()
    const rows = rowsOf('ledger')
    const [first, second, third] = rows as [Row, Row, Row]
    for (const row of [first, third]) {
      const fault = await after((db) => db.exec(`DELETE FROM ledger WHERE id = '${row.id}'`))
      assert.deepEqual([fault.wrong, fault.writer, fault.seq], ['gap', row.writer, row.seq])
    }
    const insert = `INSERT INTO ledger SELECT id || 'b', writer, seq, account, at, booked, usd, tokens, requests, tool_calls, body, notes, notes_hash, hash FROM ledger WHERE id = '${second.id}'`
    const copied = await after((db) => db.exec(insert))
    assert.deepEqual([copied.where, copied.seq, copied.id], ['ledger', 2, `${second.id}b`])
    const swapped = await after((db) => {
      db.exec(`UPDATE ledger SET seq = -1 WHERE id = '${second.id}'`)
      db.exec(`UPDATE ledger SET seq = 2 WHERE id = '${third.id}'`)
      db.exec(`UPDATE ledger SET seq = 3 WHERE id = '${second.id}'`)
    })
    assert.deepEqual([swapped.wrong, swapped.seq, swapped.id], ['hash', 2, third.id])
    for (const kept of [0, 3, rows.length - 1]) {
      const cut = await after((db) => db.exec(`DELETE FROM ledger WHERE seq > ${kept}`))
      assert.deepEqual([cut.wrong, cut.writer, cut.seq], ['tail', first.writer, kept + 1])
    }
  })

  it('finds a tail that was cut off together with everything in the database that speaks of it', async () => {
    restore()
    const { length } = rowsOf('ledger')
    const cut = (kept: number) => (db: DatabaseSync) => {
      db.exec(`DELETE FROM ledger WHERE seq > ${kept}`)
      db.exec(`UPDATE writers SET seq = ${kept}, hash = coalesce((SELECT hash FROM ledger WHERE seq = ${kept}), '')`)
    }
    const fault = await after(cut(length - 1))
    assert.deepEqual([fault.wrong, fault.seq], ['tail', length])
    const all = await after((db) => {
      cut(0)(db)
      db.exec('DELETE FROM writers; DELETE FROM balances')
    })
    assert.deepEqual([all.wrong, all.seq], ['tail', 1])
    const audit = await after((db) => db.exec('DELETE FROM audit WHERE seq > 2'))
    assert.deepEqual([audit.where, audit.wrong, audit.seq], ['audit', 'tail', 3])
    restore()
    rmSync(anchors)
    const { fault: none, notes } = await checked()
    assert.equal(none, null)
    assert.match(notes.join(), /no file of anchors/)
  })

  it('names the audit row whatever column is edited', async () => {
    restore()
    const second = rowsOf('audit')[1] as Row
    const edits = {
      at: 'at + 1',
      actor: "'nobody'",
      action: "'none'",
      subject: "coalesce(subject, '') || 'x'",
      allowed: '1 - allowed',
      detail: "'{}'",
      detail_hash: "'00'",
      hash: "'00'",
      id: "id || 'x'",
    }
    for (const [column, value] of Object.entries(edits)) {
      const fault = await after((db) => db.exec(`UPDATE audit SET ${column} = ${value} WHERE id = '${second.id}'`))
      assert.deepEqual([fault.where, fault.seq], ['audit', second.seq], column)
    }
    const gone = await after((db) => db.exec(`DELETE FROM audit WHERE id = '${second.id}'`))
    assert.deepEqual([gone.where, gone.wrong, gone.seq], ['audit', 'gap', second.seq])
  })

  it('names the counter that is not the sum of its lines, in every window and unit', async () => {
    restore()
    const db = new DatabaseSync(file)
    const counters = db.prepare('SELECT account, period, writer FROM balances').all() as {
      account: string
      period: string
      writer: string
    }[]
    db.close()
    assert.ok(counters.some(({ period }) => period === 'month@Asia/Kathmandu'))
    for (const { account, period } of counters) {
      for (const unit of ['usd', 'tokens', 'requests', 'tool_calls']) {
        const fault = await after((edited) =>
          edited.exec(
            `UPDATE balances SET ${unit} = ${unit} + 1 WHERE account = '${account}' AND period = '${period}'`,
          ),
        )
        assert.equal(fault.where, 'balances')
        assert.match(fault.message, new RegExp(`counter ${period}.* of ${account} has ${unit} `))
      }
    }
    const { account } = counters.find(({ period }) => period === 'total') ?? { account: '' }
    const gone = await after((edited) =>
      edited.exec(`DELETE FROM balances WHERE account = '${account}' AND period = 'total'`),
    )
    assert.match(gone.message, new RegExp(`the account ${account} has no counter`))
    const orphan = await after((edited) =>
      edited.exec(`DELETE FROM keys; DELETE FROM accounts WHERE id = '${account}'`),
    )
    assert.equal(orphan.wrong, 'account')
  })

  it('computes costs again by the price that was kept, and names the first that differs', async () => {
    const rates = await after((db) =>
      db.exec(`UPDATE settings SET value = replace(value, '1500000', '1500001') WHERE name LIKE 'price:%'`),
    )
    assert.deepEqual([rates.where, rates.wrong], ['price', 'price'])
  })

  it('says why it cannot read, and ends with status 1 for a fault and 2 for a wrong command line', async () => {
    restore()
    const other = join(home, 'copied')
    mkdirSync(join(other, 'data'), { recursive: true })
    copyFileSync(file, join(other, 'data/gatehouse.db'))
    const db = new DatabaseSync(join(other, 'data/gatehouse.db'))
    db.exec('UPDATE ledger SET usd = usd + 1 WHERE seq = 4')
    db.close()
    const bad = await gatehouse(['ledger', 'verify', '--home', other])
    assert.equal(bad.status, 1)
    assert.match(
      bad.out,
      /does not add up: ledger writer w_\w+, seq 4, id req_\w+: the row is not what its hash was computed of/,
    )
    assert.equal((await gatehouse(['ledger', 'verify', '--nothing'])).status, 2)
    const missing = await gatehouse(['ledger', 'verify', '--home', join(other, 'none')])
    assert.equal(missing.status, 1)
    assert.match(missing.err, /there is no database at /)
  })
})

describe('books that are being written', () => {
  it('add up at any moment, while calls come and limits change, and again after each', async () => {
    const { gateway, account, key } = await served()
    const clean = async () => {
      const said = await gatehouse(['ledger', 'verify', '--home', gateway.home])
      assert.equal(said.status, 0, said.out + said.err)
    }
    let going = true
    const calls = (async () => {
      while (going)
        await Promise.all([1, 2, 3, 4].map((n) => gateway.chat(key.key, { model: 'house', stream: n % 2 === 0 })))
    })()
    const limits = [{ unit: 'tokens', max: 1_000_000, window: 'day', zone: 'Europe/Berlin' }]
    const set = (given: object[]) => gateway.admin('PATCH', `/accounts/${account}`, { limits: given })
    for (const given of [limits, [], limits]) {
      assert.equal((await set(given)).status, 200)
      await clean()
    }
    going = false
    await calls
    await clean()
    await gateway.running.stop(0)
    await clean()
  })
})

describe('books of processes that are killed', () => {
  it('add up over all their chains, with what was recovered of calls at work', async () => {
    const gateway = await startGateway({ vendor: await openVendor(), models, args: ['--workers', '2'] })
    const account = await gateway.mintAccount({ limits: [{ unit: 'usd', max: 50, window: 'day' }] })
    const key = await gateway.mintKey({ account, limits: [{ unit: 'tokens', max: 10_000_000, window: 'week' }] })
    for (let round = 1; round <= 2; round++) {
      await Promise.all([1, 2, 3, 4].map(() => gateway.chat(key.key, { model: 'house' })))
      const cut = gateway.chat(key.key, { model: 'slow', max_tokens: 100 }).catch(() => undefined)
      await eventually(async () => (await gateway.metric('gatehouse_open_holds')) > 0)
      await gateway.kill9()
      await cut
      await gateway.restart()
      // A worker of the killed one ends when it notices; then what it had dispatched is booked.
      await eventually(async () => {
        const rows = await gateway.ledger()
        return rows.filter(({ outcome }) => outcome === 'recovered').length === round
      })
    }
    await gateway.stop()
    const said = await gatehouse(['ledger', 'verify', '--home', gateway.home, '--json'])
    assert.equal(said.status, 0, said.out + said.err)
    const { chains, rows } = JSON.parse(said.out) as Verified
    assert.ok(chains >= 3 && rows >= 10, said.out)
  })
})

describe('a cost that was charged wrongly', () => {
  it('is named, though the row is in order as it stands', async () => {
    const { gateway } = await served()
    await gateway.running.stop(0)
    const db = new DatabaseSync(join(gateway.home, 'data/gatehouse.db'))
    rmSync(join(gateway.home, 'data/ledger.anchors'))
    // Written anew from end to end, as a gateway that had charged one micro-dollar less would have written it.
    db.exec(
      "UPDATE ledger SET usd = usd - 1 WHERE seq = 3; UPDATE balances SET usd = usd - 1 WHERE period != 'hour' AND usd > 0",
    )
    const rows = db.prepare('SELECT * FROM ledger ORDER BY seq').all() as unknown as (Chained &
      Row & { notes_hash: string })[]
    let hash = chainStart
    for (const row of rows) {
      hash = chainHash(hash, row.seq, chainText(row, row.notes_hash))
      db.prepare('UPDATE ledger SET hash = ? WHERE id = ?').run(hash, row.id)
    }
    db.prepare('UPDATE writers SET hash = ?').run(hash)
    db.close()
    const said = await gatehouse(['ledger', 'verify', '--home', gateway.home, '--json'])
    assert.equal(said.status, 1)
    const { fault } = JSON.parse(said.out) as Verified
    assert.match(`${fault?.where} ${fault?.message}`, /balances|by price models\.yaml#[0-9a-f]{8} its tokens cost/)
    assert.equal(fault?.wrong === 'cost' ? fault.seq : 3, 3)
  })
})
