/** Several processes on one port: one budget, one ledger, and none of it lost when one of them is killed. @module */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { describe, it } from 'node:test'
import { eventually, openVendor, startGateway } from '../gateway.ts'

const free = { input: 0, output: 0 }

describe('a gateway of three processes', async () => {
  const vendor = await openVendor()
  const gateway = await startGateway({
    vendor,
    models: { house: { provider: 'vendor', upstream: 'ok', price: free } },
    env: { GATEHOUSE_WORKERS: '3' },
  })
  const workers = () =>
    spawnSync('pgrep', ['-P', String(gateway.process.pid)], { encoding: 'utf8' })
      .stdout.split('\n')
      .filter((pid) => pid !== '')

  it('admits exactly what a budget allows, whichever process is asked', async () => {
    const key = await gateway.mintKey({ limits: [{ unit: 'requests', max: 20 }] })
    const statuses: number[] = []
    const ask = async () => void statuses.push((await gateway.chat(key.key, { model: 'house' })).status)
    await Promise.all(Array.from({ length: 60 }, ask))
    assert.equal(statuses.filter((status) => status === 200).length, 20)
    assert.equal(statuses.filter((status) => status === 429).length, 40)
    const { standing } = (await gateway.admin('GET', `/keys/${key.id}`)).json
    assert.deepEqual([standing.used.requests, standing.remaining.requests], [20, 0])
  })

  it('answers for all its processes when one of them is asked for metrics', async () => {
    const key = await gateway.mintKey({})
    const calls = async () => {
      const { text } = await gateway.ask('GET', '/metrics')
      const counted = /^gatehouse_calls_total\{kind="chat",outcome="answered",code="",provider="vendor"\} (\d+)$/m.exec(
        text,
      )
      return Number(counted?.[1] ?? 0)
    }
    const before = await calls()
    await Promise.all(Array.from({ length: 30 }, () => gateway.chat(key.key, { model: 'house' })))
    for (let times = 0; times < 6; times++) assert.equal(await calls(), before + 30)
  })

  it('refuses a revoked key in every process within a second', async () => {
    const key = await gateway.mintKey({})
    await Promise.all(Array.from({ length: 12 }, () => gateway.chat(key.key, { model: 'house' })))
    await gateway.admin('DELETE', `/keys/${key.id}`)
    const since = performance.now()
    await eventually(async () => {
      const answers = await Promise.all(Array.from({ length: 12 }, () => gateway.chat(key.key, { model: 'house' })))
      return answers.every(({ status }) => status === 401)
    })
    assert.ok(performance.now() - since < 1000, 'later than promised')
  })

  it('loses no answered call when a process is killed, starts another, and frees what it had leased', async () => {
    const key = await gateway.mintKey({ limits: [{ unit: 'requests', max: 400 }] })
    const answered: string[] = []
    let going = true
    const load = Promise.all(
      Array.from({ length: 8 }, async () => {
        while (going && answered.length < 150) {
          const id = await gateway.chat(key.key, { model: 'house' }).then(
            ({ status, headers }) => (status === 200 ? headers.get('x-gatehouse-request-id') : null),
            () => null,
          )
          if (id !== null) answered.push(id)
        }
      }),
    )
    await eventually(() => Promise.resolve(answered.length > 30))
    const before = workers()
    process.kill(Number(before[0]), 'SIGKILL')
    await load
    going = false
    await eventually(async () => workers().length === 3 && !workers().includes(before[0] as string))
    const rows = async () => (await gateway.ledger()).filter((row) => row.account === key.id)
    const used = async () => (await gateway.admin('GET', `/keys/${key.id}`)).json.standing.used.requests
    // What the dead process had dispatched is booked as well, flagged.
    await eventually(async () => (await used()) === (await rows()).filter((row) => row.requests === 1).length)
    const ids = (await rows()).map((row) => row.call)
    for (const id of answered) assert.equal(ids.filter((other) => other === id).length, 1)
    // Everything that is left can be had, by whichever process.
    const left = 400 - (await used())
    const more = await Promise.all(Array.from({ length: left + 5 }, () => gateway.chat(key.key, { model: 'house' })))
    assert.equal(more.filter(({ status }) => status === 200).length, left)
    assert.equal(await used(), 400)
  })
})
