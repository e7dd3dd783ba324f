/**
 * `npm run demo`: a tour of the gateway with the clients people use, the OpenAI SDK and the MCP SDK. Each step says what
 * it shows and checks it; the first one that is wrong ends the tour with exit status 1.
 * @module
 */
import assert from 'node:assert/strict'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import OpenAI, { APIError } from 'openai'
import { type Demo, openDemo } from './gateway.ts'

const readyMs = 20_000
const pollMs = 200
/** Tool servers come up beside each other, so they have one deadline together. */
const readyBy = performance.now() + readyMs
let steps = 0

const demo = await openDemo(process.env)
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => void demo.close().finally(() => process.exit(1)))
try {
  await tour(demo)
  console.log('\nEvery step did what it should.')
} catch (error) {
  console.error(`\nThis step is wrong: ${error instanceof Error ? error.message : String(error)}`)
  process.exitCode = 1
} finally {
  await demo.close()
}

async function tour({ url, adminKey }: Demo): Promise<void> {
  console.log(`Gatehouse at ${url}`)

  step('An account, and a key for an agent (role "demo", at most $5 a day)')
  const account = await rest(url, adminKey, 'POST', '/admin/v1/accounts', {
    name: 'demo tour',
    limits: [{ unit: 'usd', max: '5', window: 'day' }],
  })
  const key = await rest(url, adminKey, 'POST', '/admin/v1/keys', { account: account.id, roles: ['demo'] })
  say(`account ${account.id}`, `key     ${String(key.key).slice(0, 30)}...`)

  step('A session of that key: ten minutes, one cent, twenty tool calls')
  const session = await mint(url, String(key.key), { ttl: 600, limits: { usd: '0.01', tool_calls: 20 } })
  say(`session ${session.id}, ends ${session.expires_at}`)
  const agent = new OpenAI({ baseURL: `${url}/v1`, apiKey: session.key, maxRetries: 0 })

  step('A chat through the OpenAI SDK')
  const whole = await agent.chat.completions
    .create({ model: 'demo', messages: [{ role: 'user', content: 'hello' }], max_tokens: 100 })
    .withResponse()
  assert.match(String(whole.data.choices[0]?.message.content), /You said: hello/)
  assert.ok(Number(whole.response.headers.get('x-gatehouse-cost-usd')) > 0, 'the answer carries its cost')
  say(String(whole.data.choices[0]?.message.content))
  for (const name of ['provider', 'model', 'cost-usd', 'budget-remaining', 'overhead-ms'])
    say(`x-gatehouse-${name}: ${whole.response.headers.get(`x-gatehouse-${name}`)}`)

  step('The same, streamed')
  const deltas: string[] = []
  for await (const chunk of await agent.chat.completions.create({
    model: 'demo',
    messages: [{ role: 'user', content: 'hello again' }],
    max_tokens: 100,
    stream: true,
  })) {
    const text = chunk.choices[0]?.delta.content
    if (text) deltas.push(text)
  }
  assert.match(deltas.join(''), /hello again/)
  assert.ok(deltas.length > 1, 'the answer comes in more than one piece')
  say(`${deltas.length} pieces: ${deltas.join('|')}`)

  step('The tools this key may use, over MCP')
  await ready(url, adminKey, 'petstore')
  const { client, listed } = await connect(url, session.key, 'petstore__listPets')
  const names = listed.map((tool) => tool.name)
  assert.ok(!names.includes('petstore__deletePet'), 'what the role may not call is not listed')
  say(names.join(', '))
  try {
    await tools({ url, adminKey, agent, client, listed })
  } finally {
    await client.close()
  }

  step('A budget that is used up')
  const single = await mint(url, String(key.key), { limits: { requests: 1 } })
  const poor = new OpenAI({ baseURL: `${url}/v1`, apiKey: single.key, maxRetries: 0 })
  const ask = () => poor.chat.completions.create({ model: 'demo', messages: [{ role: 'user', content: 'one' }] })
  await ask()
  say(await refusal(ask(), 429, 'budget_exhausted'))

  step('A request that cannot fit what remains: refused before it is sent')
  const tiny = await mint(url, String(key.key), { limits: { usd: '0.000001' } })
  const poorer = new OpenAI({ baseURL: `${url}/v1`, apiKey: tiny.key, maxRetries: 0 })
  const long = poorer.chat.completions.create({ model: 'demo', messages: [{ role: 'user', content: 'two' }] })
  say(await refusal(long, 429, 'budget_too_small'))

  step('What the session did, in order, with its cost')
  const trace = await rest(url, session.key, 'GET', '/v1/sessions/current/trace')
  const calls = trace.calls as Record<string, unknown>[]
  for (const call of calls) {
    const what = String(call.tool ?? call.model ?? call.kind)
    say(
      `${String(call.kind).padEnd(12)} ${what.padEnd(22)} ${String(call.outcome).padEnd(9)} ${call.code ?? `$${call.cost_usd}`}`,
    )
  }
  const cost = calls.reduce((sum, call) => sum + Math.round(Number(call.cost_usd) * 1_000_000), 0)
  const used = trace.used as Record<string, unknown>
  assert.equal(cost, Math.round(Number(used.usd) * 1_000_000), 'the calls add up to what the session used')
  assert.ok(cost > 0, 'the chats cost something')
  assert.ok(
    calls.some((call) => call.code === 'arguments_not_allowed'),
    'refusals stand in the trace too',
  )
  say(`together $${used.usd} of $0.01, ${used.tool_calls} of 20 tool calls`)

  step('The session ends, and its key with it')
  await rest(url, String(key.key), 'DELETE', `/v1/sessions/${session.id}`)
  const after = agent.chat.completions.create({ model: 'demo', messages: [{ role: 'user', content: 'hello?' }] })
  say(await refusal(after, 401, 'invalid_key'))
}

interface Hands {
  readonly url: string
  readonly adminKey: string
  readonly agent: OpenAI
  readonly client: Client
  readonly listed: Listed
}
type Listed = Awaited<ReturnType<Client['listTools']>>['tools']

/** The steps that call tools. */
async function tools({ url, adminKey, agent, client, listed }: Hands): Promise<void> {
  step('The model asks for a tool; the tool is a REST operation, called through MCP; the model reads the answer')
  const offered = listed.map((tool) => ({
    type: 'function' as const,
    function: { name: tool.name, parameters: tool.inputSchema as Record<string, unknown> },
  }))
  const question = { role: 'user' as const, content: 'Use petstore__listPets {"limit": 2} and tell me.' }
  const first = await agent.chat.completions.create({
    model: 'demo',
    messages: [question],
    tools: offered,
    max_tokens: 100,
  })
  const wish = first.choices[0]?.message.tool_calls?.[0]
  assert.ok(wish?.type === 'function', 'the model asks for a tool')
  assert.equal(wish.function.name, 'petstore__listPets')
  say(`the model asks:  ${wish.function.name} ${wish.function.arguments}`)
  const pets = await client.callTool({ name: wish.function.name, arguments: JSON.parse(wish.function.arguments) })
  const answered = textOf(pets)
  assert.match(answered, /Rex/)
  say(`the tool says:   ${answered}`)
  const asked = { role: 'assistant' as const, tool_calls: [wish] }
  const result = { role: 'tool' as const, tool_call_id: wish.id, content: answered }
  const last = await agent.chat.completions.create({
    model: 'demo',
    messages: [question, asked, result],
    max_tokens: 100,
  })
  assert.match(String(last.choices[0]?.message.content), /The tool answered: .*Rex/s)
  say(`the model says:  ${last.choices[0]?.message.content}`)

  step('A REST operation that changes something, called as a tool')
  const made = textOf(await client.callTool({ name: 'petstore__createPet', arguments: { body: { name: 'Toffee' } } }))
  const { id } = JSON.parse(made) as { id: string }
  const back = textOf(await client.callTool({ name: 'petstore__getPet', arguments: { petId: id } }))
  assert.match(back, /Toffee/)
  say(made)

  step('Tools of MCP servers that run as child processes')
  if (await isReady(url, adminKey, 'everything')) {
    const echoed = textOf(await client.callTool({ name: 'everything__echo', arguments: { message: 'hello' } }))
    assert.match(echoed, /hello/)
    say(`everything__echo: ${echoed}`)
  } else say(`everything: did not come up within ${readyMs / 1000} s here (npx); left out`)
  if (await isReady(url, adminKey, 'files')) {
    const read = await client.callTool({ name: 'files__read_text_file', arguments: { path: 'hello.txt' } })
    assert.notEqual(read.isError, true, textOf(read))
    say(`files__read_text_file: ${textOf(read).trim()}`)
  } else say(`files: did not come up within ${readyMs / 1000} s here (npx); left out`)

  step('A tool the policy denies looks like one that does not exist')
  const denied = await client.callTool({ name: 'petstore__deletePet', arguments: { petId: id } }).then(
    () => assert.fail('petstore__deletePet was called'),
    (error: unknown) => error as { code?: unknown; message: string },
  )
  assert.equal(denied.code, -32602)
  say(denied.message)

  step('Arguments the policy does not allow: a result the model can react to')
  const name = 'A name that is far too long to go on any collar at all'
  const refused = await client.callTool({ name: 'petstore__createPet', arguments: { body: { name } } })
  assert.equal(refused.isError, true)
  assert.equal(refused._meta?.['dev.gatehouse/code'], 'arguments_not_allowed')
  say(textOf(refused))
}

/** An MCP client that sees a tool; a catalogue that was just read may take a moment to show it. */
async function connect(url: string, key: string, tool: string): Promise<{ client: Client; listed: Listed }> {
  const client = new Client({ name: 'demo-tour', version: '1.0.0' }, { versionNegotiation: { mode: 'auto' } })
  const requestInit = { headers: { authorization: `Bearer ${key}` } }
  await client.connect(new StreamableHTTPClientTransport(new URL(`${url}/mcp`), { requestInit }))
  const { tools: listed } = await client.listTools()
  assert.ok(
    listed.some(({ name }) => name === tool),
    `${tool} is listed`,
  )
  return { client, listed }
}

async function ready(url: string, adminKey: string, server: string): Promise<void> {
  assert.ok(await isReady(url, adminKey, server), `the tool server "${server}" is healthy`)
}

async function isReady(url: string, adminKey: string, server: string): Promise<boolean> {
  for (;;) {
    const { data } = await rest(url, adminKey, 'GET', '/admin/v1/servers')
    const found = (data as { id: string; status: string }[]).find(({ id }) => id === server)
    if (found === undefined) return false
    if (found.status === 'healthy') return true
    if (performance.now() > readyBy) return false
    await new Promise((resolve) => setTimeout(resolve, pollMs))
  }
}

interface Session {
  readonly id: string
  readonly key: string
  readonly expires_at: string
}

async function mint(url: string, key: string, wanted: object): Promise<Session> {
  const session = await rest(url, key, 'POST', '/v1/sessions', wanted)
  return { id: String(session.id), key: String(session.key), expires_at: String(session.expires_at) }
}

async function rest(
  url: string,
  key: string,
  method: string,
  path: string,
  body?: object,
): Promise<Record<string, unknown>> {
  const answer = await fetch(url + path, {
    method,
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  })
  const text = await answer.text()
  assert.ok(answer.ok, `${method} ${path} answered ${answer.status}: ${text}`)
  return JSON.parse(text) as Record<string, unknown>
}

/** The call has to be refused with this status and code. @returns its message */
async function refusal(call: Promise<unknown>, status: number, code: string): Promise<string> {
  const error = await call.then(
    () => assert.fail(`answered, and not refused with ${code}`),
    (thrown: unknown) => thrown,
  )
  assert.ok(error instanceof APIError, String(error))
  assert.equal(error.status, status)
  assert.equal(error.code, code)
  return error.message
}

function textOf(result: { readonly content?: unknown; readonly isError?: unknown }): string {
  const parts = (result.content ?? []) as { readonly type: string; readonly text?: string }[]
  return parts.map(({ text }) => text ?? '').join(' ')
}

function step(title: string): void {
  steps += 1
  console.log(`\n${steps}. ${title}`)
}

function say(...lines: readonly string[]): void {
  for (const line of lines) console.log(`   ${line.replaceAll('\n', '\n   ')}`)
}
