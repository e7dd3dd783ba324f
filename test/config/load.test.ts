import assert from 'node:assert/strict'
import { test } from 'node:test'
import { load, loaded, makeHome, refused } from './home.ts'

const providers = `
openai: { base_url: https://api.openai.com/v1/, speaks: [openai-chat], credential: { scheme: bearer, secret: env:OPENAI_API_KEY } }
pool:
  base_url: https://pool.example.com
  speaks: [openai-chat]
  credentials:
    - { name: a, scheme: bearer, secret: env:KEY_A }
    - { name: b, scheme: bearer, secret: env:KEY_B }
ollama: { base_url: http://127.0.0.1:11434/v1, speaks: [openai-chat], credential: none, allow_private: ["127.0.0.1/32:11434"] }
`

test('an empty home is a configuration with nothing in it', async (t) => {
  const config = await loaded(makeHome(t))
  assert.equal(config.providers.size + config.models.size + config.routes.size + config.servers.size, 0)
  assert.equal(config.policy.byRole.size, 0)
  assert.equal(config.limits.defaultMaxOutput, 8192)
  assert.equal(config.epoch, 1)
  assert.match(config.hash, /^[0-9a-f]{16}$/)
})

test('everything written in the files is there, with its defaults', async (t) => {
  const home = makeHome(t, {
    'registry/providers.yaml': providers,
    'registry/models.yaml':
      'house: { provider: ollama, upstream: llama3.3, context: 131072, max_output: 8192, price: { input: 0.1, output: 0.3 } }\nbare: { provider: openai }\n',
    'registry/servers/my-files.yaml':
      'kind: mcp\ncommand: [npx, -y, "@scope/server@1.2.3", ./x]\nenv: { TOKEN: env:TOKEN, MODE: fast }\n',
    'registry/servers/pets.yaml':
      'kind: openapi\nspec: ./pets.yaml\nbase_url: https://pets.example.com/v2/\ninclude: [listPets, "GET /orders/*"]\ntimeout: 500ms\n',
    'policies/routes.yaml':
      'fast:\n  to: [ { provider: openai, model: gpt-5-mini, timeout: 5s }, { provider: ollama, model: llama3.3 } ]\nsplit: { strategy: weighted, to: [ { provider: openai, model: a, weight: 3 }, { provider: pool, model: b, timeout: 2m } ], on: [error] }\n',
    'policies/limits.yaml': 'max_in_flight: 7\n',
    'policies/tools/a.yaml': 'role: a\nallow:\n  - tools: [x__y]\n  - tools: [x__z]\n    when: args.n > 1\n',
  })
  const config = await loaded(home, ['env:KEY_B'])
  const openai = config.providers.get('openai')
  assert.equal(openai?.baseUrl, 'https://api.openai.com/v1')
  assert.equal(openai?.lit, false)
  assert.equal(config.providers.get('pool')?.lit, true)
  assert.equal(config.providers.get('pool')?.credentials.length, 2)
  assert.equal(config.providers.get('ollama')?.lit, true)
  assert.deepEqual(config.providers.get('ollama')?.allowPrivate, ['127.0.0.1/32:11434'])
  assert.deepEqual(config.models.get('bare'), {
    id: 'bare',
    provider: 'openai',
    upstream: 'bare',
    context: null,
    maxOutput: null,
    price: null,
  })
  assert.equal(config.models.get('house')?.maxOutput, 8192)
  const files = config.servers.get('my-files')
  assert.ok(files?.kind === 'mcp')
  assert.deepEqual([files.era, files.timeoutMs, files.auth, files.disabled], ['auto', 60_000, { kind: 'none' }, false])
  const pets = config.servers.get('pets')
  assert.ok(pets?.kind === 'openapi')
  assert.deepEqual([pets.base_url, pets.timeoutMs], ['https://pets.example.com/v2', 500])
  assert.deepEqual(config.routes.get('fast'), {
    id: 'fast',
    strategy: 'fallback',
    to: [
      { provider: 'openai', model: 'gpt-5-mini', timeoutMs: 5000, weight: 1 },
      { provider: 'ollama', model: 'llama3.3', timeoutMs: null, weight: 1 },
    ],
    on: ['error', 'rate_limit', 'timeout'],
    whenBudget: null,
  })
  assert.equal(config.routes.get('split')?.to[1]?.timeoutMs, 120_000)
  assert.equal(config.limits.maxInFlight, 7)
  assert.equal(config.policy.byRole.get('a')?.[0]?.allow[1]?.line, 4)
  assert.ok(Object.isFrozen(config) && Object.isFrozen(config.routes.get('fast')?.to[0]))
})

/** One faulty file each, and where and how it is reported. */
const faults: readonly (readonly [what: string, file: string, text: string, place: string, message: RegExp])[] = [
  [
    'a misspelt key',
    'registry/providers.yaml',
    'x:\n  base_url: https://x.example\n  speeks: [openai-chat]\n  credential: none\n',
    '3:3',
    /unknown key "speeks"; did you mean "speaks"\?/,
  ],
  [
    'a missing key',
    'registry/providers.yaml',
    'x:\n  base_url: https://x.example\n  credential: none\n',
    '2:3',
    /x\.speaks is missing/,
  ],
  ['a key given twice', 'policies/limits.yaml', 'max_attempts: 1\nmax_attempts: 2\n', '2:1', /unique/],
  ['broken flow', 'policies/limits.yaml', 'max_attempts: {1\n', '2:1', /flow/i],
  [
    'a value of another type',
    'policies/limits.yaml',
    '# comment\nmax_attempts: many\n',
    '2:15',
    /max_attempts: expected number/,
  ],
  [
    'a secret in the file',
    'registry/providers.yaml',
    'x: { base_url: https://x.example, speaks: [openai-chat], credential: { scheme: bearer, secret: sk-12345 } }\n',
    '1:96',
    /secrets never stand in the file/,
  ],
  [
    'an unknown dialect',
    'registry/providers.yaml',
    'x:\n  base_url: https://x.example\n  speaks: [openai-chat, cobol]\n  credential: none\n',
    '3:25',
    /speaks\.1/,
  ],
  [
    'no word about credentials',
    'registry/providers.yaml',
    'x:\n  base_url: https://x.example\n  speaks: [openai-chat]\n',
    '2:13',
    /credential/,
  ],
  [
    'a private range without a port',
    'registry/providers.yaml',
    'x:\n  base_url: http://10.0.0.1\n  speaks: [openai-chat]\n  credential: none\n  allow_private: [10.0.0.0/8]\n',
    '5:19',
    /CIDR:port/,
  ],
  [
    'a route to an unknown provider',
    'policies/routes.yaml',
    'fast:\n  to:\n    - { provider: opnai, model: m }\n',
    '3:19',
    /no provider "opnai"/,
  ],
  [
    'a route with a slash',
    'policies/routes.yaml',
    'a/b:\n  to: [ { provider: p, model: m } ]\n',
    '1:1',
    /not a route name/,
  ],
  [
    'an unknown strategy',
    'policies/routes.yaml',
    'fast:\n  strategy: fastest\n  to: [ { provider: p, model: m } ]\n',
    '2:13',
    /strategy/,
  ],
  [
    'a timeout without a unit',
    'policies/routes.yaml',
    'fast:\n  to: [ { provider: p, model: m, timeout: "5" } ]\n',
    '2:43',
    /500ms, 5s or 2m/,
  ],
  ['a model of an unknown provider', 'registry/models.yaml', 'm: { provider: p }\n', '1:16', /no provider "p"/],
  [
    'a negative price',
    'registry/models.yaml',
    'm: { provider: p, price: { input: -1, output: 1 } }\n',
    '1:35',
    /price\.input/,
  ],
  [
    'a price of a kind that is no number',
    'registry/models.yaml',
    'm:\n  provider: p\n  price: { input: 1, output: 1, audio_input: "x" }\n',
    '3:46',
    /price\.audio_input/,
  ],
  [
    'a misspelt kind of price in a tier',
    'registry/models.yaml',
    'm:\n  provider: p\n  price: { input: 1, output: 1, tiers: [ { above: 9, input: 1, output: 1, resoning: 2 } ] }\n',
    '3:75',
    /unknown key "resoning"; did you mean "reasoning"/,
  ],
  [
    'two tiers that begin at the same place',
    'registry/models.yaml',
    'm:\n  provider: p\n  price:\n    input: 1\n    output: 1\n    tiers: [ { above: 9, input: 1, output: 1 }, { above: 9, input: 2, output: 2 } ]\n',
    '6:58',
    /9 has a tier already/,
  ],
  [
    'a tool price finer than micro-dollars',
    'registry/servers/x.yaml',
    'kind: mcp\nurl: https://x.example/mcp\nprice: { call: 0.002, tools: { search: 0.0000001 } }\n',
    '3:40',
    /at most 6 decimals/,
  ],
  [
    'a negative tool price',
    'registry/servers/x.yaml',
    'kind: mcp\nurl: https://x.example/mcp\nprice: { call: -1 }\n',
    '3:16',
    /price\.call/,
  ],
  [
    'a reported cost without a bound',
    'registry/servers/x.yaml',
    'kind: mcp\nurl: https://x.example/mcp\nreports_cost: {}\n',
    '3:15',
    /reports_cost\.max is missing/,
  ],
  [
    'a server kind of a later version',
    'registry/servers/x.yaml',
    'kind: lambda\nregion: eu-west-1\n',
    '1:7',
    /"lambda" is not supported by this version/,
  ],
  ['an unknown server kind', 'registry/servers/x.yaml', 'kind: soap\n', '1:7', /kind/],
  ['a server with neither url nor command', 'registry/servers/x.yaml', 'kind: mcp\n', '1:7', /either url or command/],
  [
    'a server with both',
    'registry/servers/x.yaml',
    'kind: mcp\nurl: https://x.example/mcp\ncommand: [node, x.js]\n',
    '2:6',
    /either url or command/,
  ],
  [
    'a package without a version',
    'registry/servers/x.yaml',
    'kind: mcp\ncommand: [npx, -y, "@scope/server"]\n',
    '2:10',
    /"@scope\/server" must have an exact version/,
  ],
  [
    'a package with a range',
    'registry/servers/x.yaml',
    'kind: mcp\ncommand: [npx, "server@^1.2.3"]\n',
    '2:10',
    /exact version/,
  ],
  [
    'a misspelt server key',
    'registry/servers/x.yaml',
    'kind: openapi\nspec: ./a.yaml\nbase_ulr: https://x.example\n',
    '3:1',
    /unknown key "base_ulr"; did you mean "base_url"\?/,
  ],
  [
    'a specification over plain http',
    'registry/servers/x.yaml',
    'kind: openapi\nspec: http://x.example/a.yaml\nbase_url: https://x.example\n',
    '2:7',
    /path or an https URL/,
  ],
  [
    'credentials in a URL',
    'registry/servers/x.yaml',
    'kind: mcp\nurl: https://me:pw@x.example/mcp\n',
    '2:6',
    /must not carry credentials/,
  ],
  [
    'a server id with two underscores',
    'registry/servers/a__b.yaml',
    'kind: mcp\nurl: https://x.example/mcp\n',
    '1:1',
    /server's id/,
  ],
  ['a misspelt file name ending', 'policies/tools/a.yml', 'role: a\n', '1:1', /rename it to \.yaml/],
  [
    'a condition with a syntax error',
    'policies/tools/a.yaml',
    'role: a\nallow:\n  - tools: [x]\n    when: args.n >\n',
    '4:11',
    /syntax error.*column \d+ of the condition/,
  ],
  [
    'a condition on an unknown variable',
    'policies/tools/a.yaml',
    'role: a\ndeny:\n  - tools: [x]\n    when: arg.n > 1\n',
    '4:11',
    /unknown variable "arg"/,
  ],
  ['an empty glob', 'policies/tools/a.yaml', 'role: a\nallow:\n  - tools: [x, ""]\n', '3:16', /empty pattern/],
  ['a policy without a role', 'policies/tools/a.yaml', 'allow: []\n', '1:1', /role/],
  ['a file of no bytes', 'policies/tools/a.yaml', '', '1:1', /the file is empty/],
  ['two documents in one file', 'policies/tools/a.yaml', 'role: a\n---\nrole: b\n', '2:1', /document/],
  ['an unknown tag', 'policies/limits.yaml', 'max_attempts: !secret 5\n', '1:15', /tag/i],
]

for (const [what, file, text, place, message] of faults) {
  test(`${what} is reported with its place`, async (t) => {
    const found = await refused(makeHome(t, { [file]: text }))
    const first = found.find((fault) => message.test(fault)) ?? found.join('\n')
    assert.ok(first.startsWith(`${file}:${place} `), first)
    assert.match(first, message)
  })
}

test('every fault of every file is reported at once', async (t) => {
  const found = await refused(
    makeHome(t, {
      'registry/providers.yaml': 'x: { base_url: nowhere, speaks: [], credential: none }\n',
      'registry/models.yaml': 'm: { provider: x, contxt: 5 }\n',
      'policies/tools/a.yaml': 'role: a\nmode: maybe\n',
    }),
  )
  assert.deepEqual(
    found.map((fault) => fault.split(' ')[0]),
    [
      'registry/providers.yaml:1:16',
      'registry/providers.yaml:1:33',
      'registry/models.yaml:1:19',
      'policies/tools/a.yaml:2:7',
    ],
  )
})

test('one model under two names is refused, because it could have two prices', async (t) => {
  const home = makeHome(t, {
    'registry/providers.yaml': providers,
    'registry/models.yaml': 'a: { provider: openai, upstream: x }\nb: { provider: openai, upstream: x }\n',
  })
  assert.deepEqual(await refused(home), ['registry/models.yaml:2:1 "a" already is openai/x'])
})

test('aliases that expand to a multiple of the text are refused', async (t) => {
  const lines = ['a0: &a0 [x, x, x, x, x, x, x, x, x, x]']
  for (let i = 1; i < 9; i++)
    lines.push(
      `a${i}: &a${i} [${Array(10)
        .fill(`*a${i - 1}`)
        .join(', ')}]`,
    )
  const [first = ''] = await refused(makeHome(t, { 'policies/limits.yaml': `${lines.join('\n')}\n` }))
  assert.match(first, /^policies\/limits\.yaml:1:1 .*alias/i)
})

test('a folder where a file should be is a fault, not a crash', async (t) => {
  const home = makeHome(t, { 'policies/tools/a.yaml/x': '' })
  assert.match((await refused(home))[0] ?? '', /^policies\/tools\/a\.yaml:1:1 cannot be read \(EISDIR\)/)
})

test('a file that is not UTF-8 is a fault', async (t) => {
  const home = makeHome(t)
  home.put('policies/limits.yaml', '')
  const { writeFileSync } = await import('node:fs')
  writeFileSync(`${home.path}/policies/limits.yaml`, Buffer.from([0x61, 0xff, 0x3a]))
  assert.match((await refused(home))[0] ?? '', /is not UTF-8 text/)
})

test('the hash changes with any byte and with a file that comes or goes', async (t) => {
  const home = makeHome(t, { 'policies/limits.yaml': 'max_attempts: 3\n' })
  const hashes = [(await loaded(home)).hash]
  home.put('policies/limits.yaml', 'max_attempts: 3 # same\n')
  hashes.push((await loaded(home)).hash)
  home.put('policies/tools/a.yaml', 'role: a\n')
  hashes.push((await loaded(home)).hash)
  home.remove('policies/tools/a.yaml')
  hashes.push((await loaded(home)).hash)
  assert.equal(new Set(hashes).size, 3)
  assert.equal(hashes[1], hashes[3])
})

test('a provider called __proto__ is no provider', async (t) => {
  const result = await load(
    makeHome(t, {
      'registry/providers.yaml':
        '__proto__: { base_url: https://x.example, speaks: [openai-chat], credential: none }\n',
    }),
  )
  if ('providers' in result) assert.equal(result.providers.size, 0)
  else assert.match(result[0] ?? '', /__proto__/)
})
