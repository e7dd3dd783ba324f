/**
 * Processes that are killed without warning, over and over, and what has to be true of the money after each time. Where
 * others go on meanwhile they wind up what the dead one left.
 * @module
 */
import assert from 'node:assert/strict'
import { connect } from 'node:net'
import type { Minted } from '../client.ts'
import { eventually, type GatewayOptions, type GatewayUnderTest, hello } from '../gateway.ts'
import type { Vendor } from '../upstreams/vendor.ts'
import { assertAddsUp, assertAllThere, type House, type Row, workersOf } from './house.ts'

/** By when what a dead process left is free again, ms: what is promised. */
const freeWithinMs = 60_000
const callers = 16
/** How long a caller waits for an answer. */
const patienceMs = 5000

export function killable(vendor: Vendor): GatewayOptions {
  const model = (upstream: string) => ({ provider: 'vendor', upstream, price: { input: 1, output: 2 } })
  return { vendor, models: { house: model('drip-1'), held: model('hold') } }
}

/** What is called, and the answers that came whole. */
export interface Load {
  readonly key: Minted
  readonly session: Minted
  readonly answered: string[]
}

export async function openLoad({ gateways: [gateway] }: House): Promise<Load> {
  assert.ok(gateway !== undefined)
  const key = await gateway.mintKey({ limits: [{ unit: 'usd', max: '900' }] })
  const session = await gateway.mintSession(key.key, { limits: { requests: 1_000_000, tokens: 100_000_000 } })
  return { key, session, answered: [] }
}

/** Calls all gateways until told to stop. A whole answer, or a stream up to its [DONE], is an answered call. */
export function callAll({ gateways }: House, { session, answered }: Load): { stop(): Promise<void> } {
  let going = true
  async function caller(number: number): Promise<void> {
    const gateway = gateways[number % gateways.length] as GatewayUnderTest
    for (let i = 0; going; i++) {
      const stream = (number + i) % 2 === 0
      // A connection that a dying process took with it may never be told so: no caller waits for ever.
      const signal = AbortSignal.timeout(patienceMs)
      const body = { ...hello, model: 'house', stream, max_tokens: 100 }
      const id = await gateway.ask('POST', '/v1/chat/completions', { key: session.key, body, signal }).then(
        ({ status, headers, text }) =>
          status === 200 && (!stream || text.includes('[DONE]')) ? headers.get('x-gatehouse-request-id') : null,
        () => null,
      )
      if (id !== null) answered.push(id)
      // One that is gone is not asked all the time.
      else await new Promise((resolve) => setTimeout(resolve, 5))
    }
  }
  const all = Promise.all(Array.from({ length: callers }, (_, number) => caller(number)))
  return {
    async stop() {
      going = false
      await all
    },
  }
}

/** Waits until so many processes are known and everything that others left is wound up. */
export async function untilWoundUp(house: House, processes: number): Promise<void> {
  const since = performance.now()
  const living = async () =>
    Number((await house.query('select count(*) as n from writers where wound_up_at is null'))[0]?.n)
  await eventually(async () => (await living()) === processes)
  assert.ok(performance.now() - since < freeWithinMs, 'later than promised')
  const dead = `select count(*) as n from balances where writer <> '' and writer not in (select id from writers where wound_up_at is null)`
  assert.equal(Number((await house.query(dead))[0]?.n), 0, 'a dead process has something set aside')
}

/**
 * What has to be true when nobody calls.
 *
 * @returns the ledger's lines
 */
export async function assertWhole(house: House, load: Load): Promise<readonly Row[]> {
  const lines = await assertAllThere(house, load.answered)
  await assertAddsUp(house)
  const [gateway] = house.gateways as [GatewayUnderTest]
  const { standing } = (await gateway.admin('GET', `/keys/${load.key.id}`)).json
  const own = lines.filter(({ account }) => account === load.key.id || account === load.session.id)
  const sum = (unit: string) => own.reduce((total, line) => total + Number(line[unit]), 0)
  assert.equal(Math.round(Number(standing.spent.usd) * 1e6), sum('usd'))
  assert.deepEqual([standing.spent.tokens, standing.spent.requests], [sum('tokens'), sum('requests')])
  for (const one of house.gateways) await eventually(async () => (await one.metric('gatehouse_open_holds')) === 0)
  return lines
}

/** One round: calls, a kill after so many more answers, whatever brings it back, and then everything is looked at. */
export async function round(
  house: House,
  load: Load,
  { after, processes, kill }: { readonly after: number; readonly processes: number; kill(): Promise<void> },
): Promise<void> {
  const before = load.answered.length
  const calls = callAll(house, load)
  await eventually(() => load.answered.length >= before + after)
  await kill()
  // Whoever is left, or is back, answers.
  const then = load.answered.length
  await eventually(() => load.answered.length > then + callers)
  await calls.stop()
  await untilWoundUp(house, processes)
  await assertWhole(house, load)
}

/** Kills one of the processes of a gateway. */
export function killWorker(gateway: GatewayUnderTest, nth: number): void {
  const workers = workersOf(gateway)
  process.kill(workers[nth % workers.length] as number, 'SIGKILL')
}

/**
 * Kills every gateway while the vendor holds three answers back, and while calls that were not dispatched wait. Each of
 * the three is booked once, at what was held; the others are not.
 *
 * @param stream the callers have the first word already
 * @param waiting sends a call that cannot leave yet, and resolves when the gateway has it
 */
export async function killWhileHeld(
  house: House,
  vendor: Vendor,
  stream: boolean,
  waiting: (key: string) => Promise<unknown>,
): Promise<void> {
  const [gateway] = house.gateways as [GatewayUnderTest]
  const body = { model: 'held', max_tokens: 16, stream }
  const probe = await gateway.mintKey()
  const small = await gateway.mintSession(probe.key, { limits: { tokens: 1 } })
  const each = Number(/may need (\d+)/.exec((await gateway.chat(small.key, body)).json.error.message)?.[1])
  const key = await gateway.mintKey({
    limits: [
      { unit: 'tokens', max: 3 * each },
      { unit: 'usd', max: 5 },
    ],
  })
  const seen = vendor.requests.length
  const lost: Promise<unknown>[] = []
  for (let call = 0; call < 3; call++) {
    lost.push(gateway.chat(key.key, body).catch(() => null))
    const before = seen + lost.length
    await vendor.until(() => vendor.requests.length === before)
  }
  await waiting(key.key)
  for (const one of house.gateways) await one.kill9()
  await Promise.all(lost)
  assert.equal(vendor.requests.length, seen + 3)
  for (const one of house.gateways) await one.restart()
  const rows = async () => (await gateway.ledger()).filter((row) => row.account === key.id)
  await eventually(async () => (await rows()).length >= 3)
  const booked = await rows()
  assert.deepEqual(
    booked.map(({ outcome, tokens, requests }) => [outcome, tokens, requests]),
    booked.map(() => ['recovered', each, 1]),
  )
  assert.equal(booked.length, 3)
  assert.ok(booked.every(({ usd }) => usd > 0))
  const { standing } = (await gateway.admin('GET', `/keys/${key.id}`)).json
  assert.deepEqual([standing.used.tokens, standing.remaining.tokens], [3 * each, 0])
  assert.equal(
    Math.round(Number(standing.spent.usd) * 1e6),
    booked.reduce((sum, row) => sum + row.usd, 0),
  )
  await assertAddsUp(house)
}

/** Sends the head of a call and half of its body. */
export async function sendHalf(gateway: GatewayUnderTest, key: string): Promise<void> {
  const socket = connect(gateway.port, '127.0.0.1')
  socket.on('error', () => {})
  const head = `POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ${key}\r\ncontent-length: 900\r\n\r\n`
  await new Promise<void>((resolve) => socket.write(`${head}{"model":"held","messages":[`, () => resolve()))
}
