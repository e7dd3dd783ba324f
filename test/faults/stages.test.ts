/** A stage that breaks is a bug, and even then the call is settled, recorded once and told. @module */
import assert from 'node:assert/strict'
import type { Server } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { before, describe, it } from 'node:test'
import type { Amounts, Hold } from '../../src/call.ts'
import { allRoutes, openDoor } from '../../src/edge/server.ts'
import { Fault } from '../../src/fault.ts'
import { walk } from '../../src/flow.ts'
import type { Gateway } from '../../src/gateway.ts'
import { atEnd, eventually, hello, openVendor, startInside } from '../gateway.ts'
import type { Vendor } from '../upstreams/vendor.ts'

type Inside = Awaited<ReturnType<typeof startInside>>

describe('a call in which a stage throws', () => {
  let inside: Inside
  let key: string
  let vendor: Vendor
  const servers = new Map<string, Server>()

  before(async () => {
    vendor = await openVendor()
    inside = await startInside({
      vendor,
      limits: { rates: { keys: { per: 'key', requests: 100, tokens: 1_000_000, window: '1h', concurrent: 1 } } },
      // One row for each broken part: what a provider needs is prepared once and kept.
      providers: Object.fromEntries(
        ['vendor', 'spare'].map((name) => [
          name,
          { base_url: `${vendor.url}/v1`, speaks: ['openai-chat'], credential: 'none' },
        ]),
      ),
      models: {
        house: { provider: 'vendor', upstream: 'ok', price: { input: 1, output: 2 } },
        spare: { provider: 'spare', upstream: 'ok', price: { input: 1, output: 2 } },
        watched: { provider: 'vendor', upstream: 'watched', price: { input: 1, output: 2 } },
        long: { provider: 'vendor', upstream: 'long-900+drip-1', price: { input: 1, output: 2 } },
      },
    })
    key = (await inside.mintKey({ limits: [{ unit: 'usd', max: 5 }] })).key
  })

  /** A second door to the same gateway, with one part of it broken. */
  async function doorWith(broken: Partial<Gateway>): Promise<string> {
    const parts = Object.fromEntries(Object.entries(broken).map(([name, value]) => [name, { value }]))
    const gateway = Object.create(inside.running.gateway, parts) as Gateway
    const { server } = openDoor(gateway, allRoutes(walk), { hosts: new Set(), origins: new Set() })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    atEnd(() => {
      server.closeAllConnections()
      server.close()
    })
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    servers.set(url, server)
    return url
  }
  const openSockets = (url: string) =>
    new Promise<number>((resolve) => servers.get(url)?.getConnections((_, count) => resolve(count)))
  async function post(url: string): Promise<{ status: number; code: string; id: string | null }> {
    const response = await fetch(`${url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}` },
      body: JSON.stringify({ ...hello, model: 'spare' }),
    })
    const body = (await response.json()) as { error: { code: string } }
    return { status: response.status, code: body.error.code, id: response.headers.get('x-gatehouse-request-id') }
  }
  const breaks = () => {
    throw new Error('broken on purpose')
  }

  for (const [where, broken, attempt] of [
    ['before the hold', { escrow: { free: breaks, hold: breaks, open: () => 0 } }, 0],
    ['after the hold', { egress: { pool: () => ({ dispatch: breaks }) } }, 1],
  ] as const) {
    it(`${where} is an internal_error with one row and no open hold`, async () => {
      const { escrow } = inside.running.gateway
      const parts = { ...broken } as unknown as Partial<Gateway>
      // The facts of the answer are still read from the real one.
      if (parts.escrow !== undefined) Object.assign(parts, { escrow: { ...escrow, hold: breaks } })
      const { status, code, id } = await post(await doorWith(parts))
      assert.deepEqual([status, code], [500, 'internal_error'])
      const rows = (await inside.ledger()).filter((row) => row.call === id)
      assert.deepEqual(
        rows.map((row) => [row.attempt, row.outcome, row.code, row.usd]),
        [[attempt, 'fault', 'internal_error', 0]],
      )
      assert.equal(escrow.open(), 0)
      assert.equal(inside.running.gateway.rates.atWork(), 0)
      assert.equal((await inside.chat(key, { model: 'house' })).status, 200)
    })
  }

  const rowsOf = async (id: string | null) => (await inside.ledger()).filter((row) => row.call === id)
  const stream = (url: string, model: string) =>
    fetch(`${url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}` },
      body: JSON.stringify({ ...hello, model, stream: true, max_tokens: 2000 }),
    })

  it('while an answer comes is an internal_error in the stream, charged for what the provider did', async () => {
    const { clock, escrow } = inside.running.gateway
    let left = Number.POSITIVE_INFINITY
    const mono = () => {
      if (--left === 0) throw new Error('broken on purpose')
      return clock.mono()
    }
    const url = await doorWith({ clock: { now: clock.now, mono } })
    let nth = 0
    vendor.script('watched', () => {
      left = nth
      return 'long-20+drip-5'
    })
    // The clock is read when the first byte comes, when the head is sent, and when the call ends.
    for (nth of [1, 2, 3]) {
      const response = await stream(url, 'watched')
      const text = await response.text()
      assert.ok(text.includes('"code":"internal_error"'), `read ${nth}: ${text.slice(-400)}`)
      assert.ok(!text.includes('[DONE]'))
      const [row, ...more] = await rowsOf(response.headers.get('x-gatehouse-request-id') ?? (await newest()))
      assert.equal(more.length, 0)
      assert.deepEqual([row.code, row.usage_source], ['internal_error', 'estimated'], `read ${nth}`)
      assert.ok(row.input > 0 && row.usd > 0)
      assert.equal(escrow.open(), 0)
      await eventually(() => vendor.requests.every(({ over }) => over))
    }
  })
  const newest = async () => (await inside.ledger()).at(-1).call

  /** A door whose holds grow by what `extend` makes of their own way. */
  async function doorExtending(
    extend: (own: () => boolean | Promise<boolean>, more: Readonly<Amounts>) => boolean | Promise<boolean>,
  ): Promise<string> {
    const { escrow } = inside.running.gateway
    const armed = <H extends Hold>(hold: H): H => {
      const own = hold.extend.bind(hold)
      return Object.assign(hold, { extend: (more: Readonly<Amounts>) => extend(() => own(more), more) })
    }
    const hold: typeof escrow.hold = (...asked) => {
      const taken = escrow.hold(...asked)
      if (taken instanceof Promise) return taken.then((hold) => (hold instanceof Fault ? hold : armed(hold)))
      return taken instanceof Fault ? taken : armed(taken)
    }
    return doorWith({ escrow: Object.create(escrow, { hold: { value: hold } }) as typeof escrow })
  }

  for (const [how, extend] of [
    ['throws', breaks],
    ['is rejected', () => Promise.reject(new Error('broken on purpose'))],
  ] as const) {
    it(`because a hold that should grow ${how} ends the stream with what was held`, async () => {
      const response = await stream(await doorExtending(extend), 'long')
      const text = await response.text()
      assert.match(text.slice(-900), /"finish_reason":"length"[\s\S]*"code":"store_unavailable"/)
      assert.ok(!text.includes('[DONE]'))
      const rows = await rowsOf(response.headers.get('x-gatehouse-request-id'))
      assert.deepEqual(
        rows.map((row) => [row.outcome, row.code, row.usage_source]),
        [['truncated', 'store_unavailable', 'estimated']],
      )
      assert.ok(rows[0].output > 200 && rows[0].output <= 256, String(rows[0].output))
      assert.equal(inside.running.gateway.escrow.open(), 0)
    })
  }

  describe('when the answer to a growing hold takes its time', () => {
    /** Opens a stream through a door on which nothing grows before `go`, and waits until it has come to its reserve's end. */
    async function waiting() {
      const gates: PromiseWithResolvers<boolean>[] = []
      const url = await doorExtending(async (own) => {
        const gate = Promise.withResolvers<boolean>()
        gates.push(gate)
        return (await gate.promise) && own()
      })
      const response = await stream(url, 'long')
      let text = ''
      const read = (async () => {
        for await (const part of response.body ?? []) text += Buffer.from(part).toString()
      })()
      const said = () => text.split('"content":"').length - 2
      await eventually(() => said() > 150)
      // Where it stands still it has used up its hold: it does not move for as long as many events take.
      let same = 0
      let last = -1
      await eventually(() => {
        same = said() === last ? same + 1 : 0
        last = said()
        return same > 20
      })
      return { gates, said, read, text: () => text, id: response.headers.get('x-gatehouse-request-id') }
    }

    it('goes on up to its hold, waits there, and comes to its end when there is more', async () => {
      const { gates, said, read, text } = await waiting()
      assert.ok(said() > 160 && said() <= 256, String(said()))
      const request = vendor.requests.at(-1)
      assert.equal(request?.over, false)
      while (!text().includes('[DONE]')) {
        gates.shift()?.resolve(true)
        await new Promise(setImmediate)
      }
      await read
      assert.equal(said(), 900)
      assert.equal(inside.running.gateway.escrow.open(), 0)
    })

    it('ends when there is none, though its provider has nothing more to say', async () => {
      const { gates, read, text, id } = await waiting()
      const refusing = setInterval(() => gates.shift()?.resolve(false), 1)
      await read
      clearInterval(refusing)
      assert.match(text().slice(-900), /"finish_reason":"length"[\s\S]*"code":"budget_exhausted"/)
      const [row] = await rowsOf(id)
      assert.deepEqual([row.outcome, row.code], ['truncated', 'budget_exhausted'])
      await eventually(() => vendor.requests.at(-1)?.aborted === true)
      assert.equal(inside.running.gateway.escrow.open(), 0)
    })

    it('is settled at once when its caller hangs up meanwhile', async () => {
      const url = await doorExtending(() => new Promise<boolean>(() => {}))
      const body = JSON.stringify({ ...hello, model: 'long', stream: true, max_tokens: 2000 })
      const socket = connect(Number(new URL(url).port), '127.0.0.1')
      socket.write(
        `POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ${key}\r\n` +
          `content-length: ${body.length}\r\n\r\n${body}`,
      )
      let said = ''
      socket.on('data', (part) => {
        said += part.toString()
      })
      await eventually(() => said.split('"content":"').length > 160)
      socket.destroy()
      await eventually(() => inside.running.gateway.escrow.open() === 0)
      const row = (await inside.ledger()).at(-1)
      assert.deepEqual([row.outcome, row.usage_source], ['hangup', 'estimated'])
      assert.ok(row.output >= 159)
    })
  })

  it('whose caller is gone before anything was sent costs nothing, and no provider is asked', async () => {
    const { directory, escrow } = inside.running.gateway
    const gate = Promise.withResolvers<void>()
    const identify: typeof directory.identify = async (credential) => {
      await gate.promise
      return directory.identify(credential)
    }
    const closed = Promise.withResolvers<void>()
    const url = await doorWith({
      directory: Object.create(directory, { identify: { value: identify } }) as typeof directory,
    })
    const asked = vendor.requests.length
    const body = JSON.stringify({ ...hello, model: 'house', stream: true })
    const socket = connect(Number(new URL(url).port), '127.0.0.1')
    socket.on('close', () => closed.resolve())
    socket.write(
      `POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ${key}\r\n` +
        `content-length: ${body.length}\r\nx-gatehouse-labels: case=gone\r\n\r\n${body}`,
    )
    await eventually(async () => (await openSockets(url)) === 1)
    socket.destroy()
    await closed.promise
    await eventually(async () => (await openSockets(url)) === 0)
    gate.resolve()
    await eventually(async () => (await inside.ledger()).at(-1).labels?.case === 'gone')
    const row = (await inside.ledger()).at(-1)
    assert.deepEqual([row.outcome, row.tokens, row.requests, row.usd], ['hangup', 0, 0, 0])
    assert.equal(vendor.requests.length, asked)
    assert.equal(escrow.open(), 0)
  })
})
