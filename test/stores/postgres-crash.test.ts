import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { before, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { openPostgres } from '../../src/stores/postgres.ts'
import { entry, line } from '../contract/rows.ts'
import { describePostgres, type PostgresUnderTest, startPostgres } from '../services/postgres.ts'
import { verifyAppended } from './appended.ts'

const rounds = 3

describePostgres('Postgres that is killed', () => {
  let server: PostgresUnderTest
  before(async () => {
    server = await startPostgres({ fsync: true })
  })

  it('loses no line that was acknowledged, and none is there twice: the gateway goes on when it is back', async () => {
    const url = await server.create()
    const script = fileURLToPath(new URL('./appender.ts', import.meta.url))
    const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', script, url, '1'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const exited = once(child, 'exit')
    const ids = new Set<string>()
    let wanted = 0
    let killing: Promise<void> = Promise.resolve()
    const next = () => ids.size + 1 + Math.floor(Math.random() * 1500)
    let kills = 0
    wanted = next()
    for await (const id of createInterface({ input: child.stdout })) {
      ids.add(id)
      if (ids.size < wanted) continue
      wanted = Number.POSITIVE_INFINITY
      if (kills++ === rounds) {
        child.kill('SIGKILL')
        break
      }
      // Lines go on coming meanwhile: the appender was told of them before.
      killing = server
        .kill9()
        .then(() => server.start())
        .then(() => {
          wanted = next()
        })
    }
    await killing
    await exited
    assert.ok(ids.size > rounds)
    const store = await openPostgres(url)
    await verifyAppended(store, ids)
    await store.close()
  })

  it('makes the store unhealthy, which becomes healthy by itself when it is back', async () => {
    const store = await openPostgres(await server.create(), { probeMs: 20 })
    await store.ledger.append([entry(line('r1'))])
    await server.kill9()
    await assert.rejects(store.ledger.append([entry(line('r2'))]))
    assert.equal(store.healthy(), false)
    await server.start()
    while (!store.healthy()) await new Promise((resolve) => setTimeout(resolve, 5))
    await store.ledger.append([entry(line('r2'))])
    assert.deepEqual(
      (await store.ledger.page({ limit: 10 })).map(({ id }) => id),
      ['r1', 'r2'],
    )
    await store.close()
  })
})
