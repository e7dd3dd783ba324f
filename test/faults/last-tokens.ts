/**
 * The last of a budget, through the front door: many callers at once want what suffices for ten of them, on a level in
 * the middle of a path of four. Part of it lies idle with whoever used the first of it.
 * @module
 */
import assert from 'node:assert/strict'
import { before, it } from 'node:test'
import { type Answered, eventually, type GatewayOptions, openVendor } from '../gateway.ts'
import { describePostgres, startPostgres } from '../services/postgres.ts'
import type { Vendor } from '../upstreams/vendor.ts'
import { closeHouse, type House, postgresHouse, sqliteHouse } from './house.ts'

const last = 10
const first = 2
const most = 16

/** The vendor answers at once, or when all who get nothing have been told so. */
type Pace = 'at once' | 'late'

/** Declares the tests, with so many callers and a round per pace: for one process, and for several. */
export function testLastTokens(
  callers: number,
  { one, several }: Readonly<Record<'one' | 'several', readonly Pace[]>>,
) {
  let vendor: Vendor
  let options: GatewayOptions
  before(async () => {
    vendor = await openVendor()
    const models = { last: { provider: 'vendor', upstream: 'last', price: { input: 1, output: 2 } } }
    options = { vendor, models }
  })

  for (const workers of [1, 2, 4]) {
    it(`the last tokens of a level are given to exactly ${last} callers by ${workers} processes`, async () => {
      await shareTheLast(await sqliteHouse(options, workers), vendor, callers, workers === 1 ? one : several)
    })
  }

  describePostgres('over Postgres', () => {
    it(`the last tokens of a level are given to exactly ${last} callers by two gateways`, async () => {
      const server = await startPostgres({ fsync: false })
      const house = await postgresHouse(server, options, (url) => [url, url])
      await shareTheLast(house, vendor, callers, several)
    })
  })
}

/** Runs once per pace, and finds the books in order when everything is stopped. */
async function shareTheLast(house: House, vendor: Vendor, callers: number, paces: readonly Pace[]) {
  for (const pace of paces) await round(house, vendor, callers, pace)
  for (const gateway of house.gateways)
    await eventually(async () => (await gateway.metric('gatehouse_open_holds')) === 0)
  await closeHouse(house)
}

async function round({ gateways, query }: House, vendor: Vendor, callers: number, pace: Pace): Promise<void> {
  const [admin] = gateways as [House['gateways'][number]]
  const at = (index: number) => gateways[index % gateways.length] as typeof admin
  const body = { model: 'last', max_tokens: most }
  const probe = await admin.mintKey()
  const { key } = await admin.mintSession(probe.key, { limits: { tokens: 1 } })
  // What one call holds, told by the refusal of one that cannot have it.
  const refusal = (await admin.chat(key, body)).json.error
  const each = Number(/may need (\d+)/.exec(refusal.message)?.[1])
  assert.ok(each > most, JSON.stringify(refusal))

  const wide = [{ unit: 'tokens', max: 1_000 * each }]
  const top = await admin.mintAccount({ limits: wide })
  const middle = await admin.mintAccount({
    parent: top,
    limits: [{ unit: 'tokens', max: (first + last) * each }],
  })
  const below = await admin.mintAccount({ parent: middle, limits: wide })
  const holder = await admin.mintKey({ account: below, limits: wide })
  const seen = vendor.requests.length
  vendor.script('last', () => `usage-${each - most}-${most}`)
  for (let call = 0; call < first; call++) assert.equal((await admin.chat(holder.key, body)).status, 200)

  let refused = 0
  const enough = Promise.withResolvers<void>()
  vendor.script('last', async () => {
    if (pace === 'late') await enough.promise
    return `usage-${each - most}-${most}`
  })
  const ask = async (index: number): Promise<Answered> => {
    // They come over a moment, not all in one turn.
    await new Promise((resolve) => setTimeout(resolve, (index * 7919) % 50))
    const answered = await at(index).chat(holder.key, body)
    if (answered.status !== 200) refused++
    if (refused === callers - last) enough.resolve()
    return answered
  }
  const answers = await Promise.all(Array.from({ length: callers }, (_, index) => ask(index)))
  const got = answers.filter(({ status }) => status === 200)
  for (const one of answers) if (one.status !== 200) assertRefused(one, middle, pace)
  assert.equal(got.length, last)
  assert.equal(vendor.requests.length - seen, first + last)

  const { standing } = (await admin.admin('GET', `/accounts/${middle}`)).json
  assert.deepEqual([standing.used.tokens, standing.remaining.tokens], [(first + last) * each, 0])
  const [{ tokens } = {}] = await query(`select sum(tokens) as tokens from ledger where account = '${holder.id}'`)
  assert.equal(Number(tokens), (first + last) * each)
}

/** Which of the two it is depends on whether those who have the budget are done with it. */
function assertRefused({ status, headers, json }: Answered, account: string, pace: Pace): void {
  assert.equal(status, 429, JSON.stringify(json))
  const { code } = json.error
  assert.ok(json.error.message.includes(`account ${account}`), json.error.message)
  if (code === 'budget_contended') {
    assert.ok(Number(headers.get('retry-after')) > 0)
    assert.equal(headers.get('x-should-retry'), null)
    return
  }
  assert.deepEqual([code, pace], ['budget_exhausted', 'at once'])
  assert.deepEqual([json.error.account, json.error.limit], [account, 'tokens'])
  assert.equal(headers.get('x-should-retry'), 'false')
  assert.equal(headers.get('retry-after'), null)
}
