import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { Config } from '../../src/config/config.ts'
import { type ConfigHolder, createConfigHolder } from '../../src/config/watch.ts'
import { type Home, makeHome } from './home.ts'

interface Watched {
  readonly holder: ConfigHolder
  readonly swaps: Config[]
  readonly faults: string[]
  /** Waits until something that the holder told makes the condition true. */
  until(condition: () => boolean): Promise<void>
}

async function watched(t: TestContext, home: Home): Promise<Watched> {
  const swaps: Config[] = []
  const faults: string[] = []
  let waiting: { condition: () => boolean; resolve: () => void } | null = null
  const told = () => {
    if (waiting?.condition()) waiting.resolve()
  }
  const holder = await createConfigHolder({
    home: home.path,
    secretExists: () => true,
    onSwap: (config) => {
      swaps.push(config)
      told()
    },
    onFault: (fault) => {
      faults.push(fault)
      told()
    },
  })
  assert.ok('current' in holder)
  t.after(() => holder.close())
  // Watchers do not keep the process alive; a pending test has to.
  const alive = setInterval(() => undefined, 1000)
  t.after(() => clearInterval(alive))
  const until = (condition: () => boolean) =>
    condition() ? Promise.resolve() : new Promise<void>((resolve) => (waiting = { condition, resolve }))
  return { holder, swaps, faults, until }
}

test('an edited file is live without a restart, and the epoch goes up', { timeout: 20_000 }, async (t) => {
  const home = makeHome(t, { 'policies/limits.yaml': 'max_attempts: 3\n' })
  const { holder, until } = await watched(t, home)
  const before = holder.current()
  home.put('policies/limits.yaml', 'max_attempts: 4\n')
  await until(() => holder.current().limits.maxAttempts === 4)
  assert.ok(holder.current().epoch > before.epoch)
  assert.equal(before.limits.maxAttempts, 3)
})

test('a faulty edit is reported with its place and the last good version stays', { timeout: 20_000 }, async (t) => {
  const home = makeHome(t, { 'policies/limits.yaml': 'max_attempts: 3\n' })
  const { holder, faults, until } = await watched(t, home)
  home.put('policies/limits.yaml', '\nmax_atempts: 4\n')
  await until(() => faults.length > 0)
  assert.equal(faults[0], 'policies/limits.yaml:2:1 unknown key "max_atempts"; did you mean "max_attempts"?')
  assert.equal(holder.current().limits.maxAttempts, 3)
  home.put('policies/limits.yaml', 'max_attempts: 5\n')
  await until(() => holder.current().limits.maxAttempts === 5)
})

test('files and folders that come and go are seen', { timeout: 20_000 }, async (t) => {
  const home = makeHome(t)
  const { holder, until } = await watched(t, home)
  const roles = () => [...holder.current().policy.byRole.keys()].join()
  home.put('policies/tools/a.yaml', 'role: a\n')
  await until(() => roles() === 'a')
  home.put('policies/tools/b.yaml', 'role: b\n')
  await until(() => roles() === 'a,b')
  home.remove('policies/tools/a.yaml')
  await until(() => roles() === 'b')
  home.remove('policies')
  await until(() => roles() === '')
  home.put('policies/tools/c.yaml', 'role: c\n')
  await until(() => roles() === 'c')
})

test('a reload reports its faults, and swaps when there are none', async (t) => {
  const home = makeHome(t, { 'policies/limits.yaml': 'max_attempts: 3\n' })
  const { holder } = await watched(t, home)
  const { epoch } = holder.current()
  assert.deepEqual(await holder.reload(), [])
  assert.equal(holder.current().epoch, epoch + 1)
  home.put('policies/limits.yaml', 'max_attempts: none\n')
  const [first = ''] = await holder.reload()
  assert.match(first, /^policies\/limits\.yaml:1:15 /)
  assert.equal(holder.current().epoch, epoch + 1)
})

test('a home that is faulty from the start gives its faults instead of a holder', async (t) => {
  const home = makeHome(t, { 'policies/limits.yaml': 'max_attempts: none\n' })
  const ignore = () => undefined
  const holder = await createConfigHolder({
    home: home.path,
    secretExists: () => true,
    onSwap: ignore,
    onFault: ignore,
  })
  assert.ok('faults' in holder)
  assert.equal(holder.faults.length, 1)
})
