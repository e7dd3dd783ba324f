/** Which limits a call meets, and that all of them are taken together or none. @module */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Account, AccountKind, ModelTarget } from '../../src/call.ts'
import { endingOf } from '../../src/call.ts'
import { fault } from '../../src/fault.ts'
import { ratesSchema } from '../../src/rates/limit.ts'
import { type RateAsk, wantsOf } from '../../src/rates/match.ts'
import { createRates, type Grant, type RateRules } from '../../src/rates/rates.ts'
import { createTable } from '../../src/rates/table.ts'

function account(kind: AccountKind, id: string, parent: Account | null, more: Partial<Account> = {}): Account {
  const open = { limits: [], models: null, tools: null, roles: [], labels: {}, expiresAt: null, revokedAt: null }
  return { id, kind, parent, name: id, createdAt: 0, version: 1, ...open, ...more }
}

const org = account('organization', 'org', null, { labels: { tier: 'gold' } })
const team = account('team', 'team', org, { roles: ['agent'] })
const key = account('key', 'k_a', team)
const other = account('key', 'k_b', team, { roles: ['batch'] })
const session = account('session', 's_1', key, { labels: { tier: 'free' } })
const child = account('session', 's_2', session)

function rules(rates: object, replicas = 1): RateRules {
  return { limits: ratesSchema.parse(rates) ?? [], replicas }
}

let calls = 0
function asks(who: Account, names: readonly string[], more: Partial<RateAsk> = {}): RateAsk {
  return { id: `req_${++calls}`, account: who, about: 'model', names, tokens: 0, ...more }
}
const keysOf = (rates: object, ask: RateAsk) => wantsOf(rules(rates).limits, ask).map((want) => want.key)

describe('a limit', () => {
  const minute = { requests: 10, window: '1m' }

  it('per key counts the key and every session below it as one', () => {
    const rates = { keys: { per: 'key', ...minute } }
    for (const who of [key, session, child]) assert.deepEqual(keysOf(rates, asks(who, ['m'])), ['keys|requests|k_a'])
    assert.deepEqual(keysOf(rates, asks(other, ['m'])), ['keys|requests|k_b'])
  })

  it('per account has a counter for each account it names, and for no other', () => {
    assert.deepEqual(
      keysOf({ one: { per: 'account', kinds: ['organization', 'team'], ...minute } }, asks(child, ['m'])),
      ['one|requests|team', 'one|requests|org'],
    )
    assert.deepEqual(keysOf({ one: { per: 'account', accounts: ['org'], ...minute } }, asks(child, ['m'])), [
      'one|requests|org',
    ])
    const sessions = { per: 'account', kinds: ['session'], accounts: ['k_a'], ...minute }
    assert.deepEqual(keysOf({ one: sessions }, asks(child, ['m'])), ['one|requests|s_2', 'one|requests|s_1'])
    assert.deepEqual(keysOf({ one: sessions }, asks(other, ['m'])), [])
  })

  it('per model counts every spelling at the name it means, and the written name too', () => {
    const rates = { models: { per: 'model', ...minute } }
    assert.deepEqual(keysOf(rates, asks(key, ['House', 'vendor/OK'])), [
      'models|requests|house',
      'models|requests|vendor/ok',
    ])
    assert.deepEqual(keysOf(rates, asks(key, ['VENDOR/ok ', 'vendor/ok'])), ['models|requests|vendor/ok'])
    const some = { some: { per: 'model', models: ['Vendor/*'], ...minute } }
    assert.deepEqual(keysOf(some, asks(key, ['house', 'vendor/ok'])), ['some|requests|vendor/ok'])
  })

  it('per several scopes counts each combination', () => {
    const rates = { both: { per: ['model', 'account'], kinds: ['team', 'organization'], ...minute } }
    assert.deepEqual(keysOf(rates, asks(key, ['a', 'p/a|b'])), [
      'both|requests|team|a',
      'both|requests|team|p/a|b',
      'both|requests|org|a',
      'both|requests|org|p/a|b',
    ])
    assert.equal(wantsOf(rules(rates).limits, asks(key, ['p/a|b']))[0]?.whose, 'account team, model p/a|b')
  })

  it('selects by account, key, role and label; what a session says of itself is no label', () => {
    const one = (selector: object, who: Account) =>
      keysOf({ l: { per: 'key', ...selector, ...minute } }, asks(who, ['m']))
    for (const [selector, met] of [
      [{ accounts: ['team'] }, [true, true]],
      [{ accounts: ['k_b'] }, [false, true]],
      [{ keys: ['k_a'] }, [true, false]],
      [{ roles: ['batch'] }, [false, true]],
      [{ roles: ['agent'] }, [true, false]],
      [{ labels: { tier: 'gold' } }, [true, true]],
      [{ labels: { tier: 'free' } }, [false, false]],
    ] as const) {
      assert.deepEqual(
        [one(selector, child).length > 0, one(selector, other).length > 0],
        met,
        JSON.stringify(selector),
      )
    }
  })

  it('of tools meets no model call, and the other way round', () => {
    const rates = {
      tools: { per: 'tool', tools: ['web__*'], tool_calls: 3, window: 10 },
      keys: { per: 'key', tool_calls: 9, requests: 9, tokens: 9, window: '1h', concurrent: 2 },
    }
    assert.deepEqual(keysOf(rates, asks(key, ['web__search'], { about: 'tool' })), [
      'tools|tool_calls|web__search',
      'keys|tool_calls|k_a',
      'keys|concurrent|k_a',
    ])
    assert.deepEqual(keysOf(rates, asks(key, ['web__search'], { tokens: 5 })), [
      'keys|requests|k_a',
      'keys|tokens|k_a',
      'keys|concurrent|k_a',
    ])
  })

  it('gives way to the one that replaces it, only where that one counts', () => {
    const rates = {
      teams: { per: 'account', kinds: ['team', 'organization'], ...minute },
      big: { per: 'account', accounts: ['team'], requests: 1000, window: '1m', replaces: ['teams'] },
    }
    assert.deepEqual(keysOf(rates, asks(key, ['m'])), ['teams|requests|org', 'big|requests|team'])
  })
})

describe('what is wrong with a limit is said', () => {
  const says = (row: object, what: RegExp) => {
    const read = ratesSchema.safeParse({ one: row })
    assert.match(read.success ? 'accepted' : read.error.issues.map(({ message }) => message).join('\n'), what)
  }
  it('for each way to get it wrong', () => {
    says({ per: 'key' }, /limits nothing/)
    says({ per: 'key', requests: 1 }, /needs a window/)
    says({ per: 'key', concurrent: 1, window: '1m' }, /nothing to count/)
    says({ per: 'key', tokens: 1, window: '1m', burst: 1 }, /belongs to requests/)
    says({ per: 'key', requests: 1, window: '1m', burst_tokens: 1 }, /belongs to tokens/)
    says({ per: 'account', requests: 1, window: '1m' }, /which accounts/)
    says({ per: 'key', kinds: ['team'], requests: 1, window: '1m' }, /belongs to per: account/)
    says({ per: 'model', tool_calls: 1, window: '1m' }, /counts requests and tokens/)
    says({ per: 'tool', requests: 1, window: '1m' }, /counts tool_calls/)
    says({ per: ['model', 'tool'], concurrent: 1 }, /write two limits/)
    says({ per: ['key', 'key'], concurrent: 1 }, /twice/)
    says({ per: 'key', requests: 1, window: '25h' }, /between 1s and 24h/)
    says({ per: 'key', requests: 1, window: '1 minute' }, /10s, 1m or 1h/)
    says({ per: 'key', requests: 0, window: '1m' }, />=1/)
    says({ per: 'key', requests: 1, window: '1m', replaces: ['two'] }, /no limit "two"/)
    says({ per: 'key', requests: 1, window: 60, burst: 3 }, /accepted/)
    assert.equal(ratesSchema.parse({}), null)
  })
})

describe('a grant', () => {
  const target: ModelTarget = { provider: 'vendor', model: 'ok', timeoutMs: null }
  const spare: ModelTarget = { provider: 'spare', model: 'ok', timeoutMs: null }
  function opened(rates: object, replicas = 1) {
    const clock = { now: 1000 }
    const room = createRates({ mono: () => clock.now, shared: null })
    const set = rules(rates, replicas)
    return {
      clock,
      room,
      ask: (who: Account, more: Partial<RateAsk> = {}) => room.admit(set, asks(who, ['m'], more)) as Grant,
    }
  }
  const spent = (of: ModelTarget, tokens: number, dispatched = true) => ({
    attempt: { target: of },
    ending: endingOf('answered', { dispatched }),
    settlement: { charged: { tokens } },
  })
  const unsent = {
    attempt: { target },
    ending: endingOf('fault', { fault: fault({ code: 'draining' }), dispatched: false }),
    settlement: { charged: { tokens: 0 } },
  }

  it('that is refused by one limit has taken nothing of the others', () => {
    const { ask } = opened({
      keys: { per: 'key', requests: 1, window: '1m' },
      team: { per: 'account', kinds: ['team'], requests: 3, window: '1m' },
    })
    const passed = (who: Account) => ask(who).refusal === null
    assert.equal(passed(key), true)
    for (let i = 0; i < 1000; i++) assert.equal(passed(key), false)
    // The key that loops has not used up what its team has left.
    assert.equal(passed(other), true)
  })

  it('says which limit refused and how long to wait', () => {
    const { clock, ask } = opened({ keys: { per: 'key', requests: 2, window: '10s' } })
    ask(key)
    clock.now += 3000
    ask(key)
    clock.now += 1000
    const why = ask(key).refusal?.body
    assert.deepEqual(why, {
      code: 'rate_limited',
      by: 'limit keys: 2 requests in 10s for key k_a',
      scope: 'key',
      retryAfterMs: 6000,
    })
  })

  it('gives back what never left, and keeps what may have', () => {
    const { ask } = opened({ keys: { per: 'key', requests: 1, tokens: 100, window: '1m' } })
    for (const tried of [[], [unsent]]) {
      const grant = ask(key, { tokens: 90 })
      assert.equal(grant.refusal, null)
      grant.end(tried)
    }
    const grant = ask(key, { tokens: 90 })
    grant.end([{ ...spent(target, 7), ending: endingOf('hangup', { dispatched: true }) }])
    grant.end([])
    assert.notEqual(ask(key, { tokens: 1 }).refusal, null)
  })

  it('is corrected from the most it might need to what it used, also when that was more', () => {
    const { ask, clock } = opened({ keys: { per: 'key', tokens: 100, window: '1m' } })
    const first = ask(key, { tokens: 500 })
    assert.deepEqual(first.standing.tokens, { limit: 100, remaining: 0, resetMs: 60_000 })
    assert.notEqual(ask(key, { tokens: 1 }).refusal, null)
    first.end([spent(target, 40)])
    const second = ask(key, { tokens: 60 })
    assert.equal(second.refusal, null)
    second.end([spent(target, 300)])
    assert.notEqual(ask(key, { tokens: 1 }).refusal, null)
    clock.now += 60_000
    assert.equal(ask(key, { tokens: 100 }).refusal, null)
  })

  it('counts a route at the target that is tried, and frees the one before', () => {
    const { ask, room } = opened({
      keys: { per: 'key', requests: 9, window: '1m' },
      vendor: { per: 'model', models: ['vendor/*', 'spare/*'], requests: 1, concurrent: 1, window: '1m' },
    })
    const first = ask(key)
    assert.equal(first.enter(target), null)
    assert.equal(first.enter(spare), null)
    assert.equal(room.atWork(), 1)
    const barred = ask(other).enter(target)
    assert.match(JSON.stringify(barred), /limit vendor: 1 requests in 1m for model vendor\/ok/)
    first.end([spent(target, 0, false), spent(spare, 0)])
    assert.equal(room.atWork(), 0)
  })

  it('counts a target that never got the request for nothing', () => {
    const { ask } = opened({ vendor: { per: 'model', models: ['vendor/*'], requests: 1, window: '1m' } })
    const first = ask(key)
    first.enter(target)
    first.enter(spare)
    first.end([unsent, spent(spare, 0)])
    assert.equal(ask(key).enter(target), null)
  })

  it('takes a share where processes count apart', () => {
    const { ask } = opened({ keys: { per: 'key', requests: 10, window: '1m' } }, 3)
    assert.equal([1, 2, 3, 4, 5].filter(() => ask(key).refusal === null).length, 3)
  })

  it('outlasts a clock that stands still', () => {
    const { ask } = opened({ keys: { per: 'key', requests: 2, window: '1m' } })
    assert.deepEqual(
      [1, 2, 3].map(() => ask(key).refusal === null),
      [true, true, false],
    )
  })
})

describe('the table of counters', () => {
  const limits = rules({ models: { per: 'model', requests: 1, window: '1m' } }).limits
  const want = (name: string) => wantsOf(limits, asks(key, [name]))

  it('stays bounded when names are invented, and strict about those on top', () => {
    const table = createTable(2000)
    const passed = Array.from({ length: 5000 }, (_, at) => 'waitMs' in table.take(want(`m${at}`), 0, 1)).filter(
      (refused) => !refused,
    )
    assert.equal(passed.length, 2001)
    assert.equal(table.size(), 2001)
  })

  it('forgets what is over', () => {
    const table = createTable(100_000)
    for (let at = 0; at < 20_000; at++) table.take(want(`m${at}`), at * 100, 1)
    assert.ok(table.size() < 5000, String(table.size()))
  })
})
