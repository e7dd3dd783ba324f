/** The first minutes: an empty folder, the printed keys, the built-in model. @module */
import assert from 'node:assert/strict'
import { type AddressInfo, createServer } from 'node:net'
import { describe, it } from 'node:test'
import OpenAI from 'openai'
import { startFails, startGateway, startInside } from '../gateway.ts'

const demo = {
  providers: { demo: { base_url: 'builtin:demo', speaks: ['openai-chat'], credential: 'none' } },
  models: { demo: { provider: 'demo', price: { input: 0.15, output: 0.6 } } },
}

describe('a gateway that starts for the first time', () => {
  it('prints an admin key and a demo key once, and both work, also after a restart', async () => {
    const gateway = await startGateway({ ...demo, env: { GATEHOUSE_ADMIN_KEY: '' } })
    const admin = /admin key, shown this once: +(\S+)/.exec(gateway.log())?.[1]
    const key = /demo session key.*: (sk-gate-\S+)/.exec(gateway.log())?.[1]
    assert.ok(admin !== undefined && key !== undefined, gateway.log())
    const works = async () => {
      assert.equal((await gateway.ask('GET', '/admin/v1/keys', { key: admin })).status, 200)
      assert.equal((await gateway.ask('GET', '/admin/v1/keys', { key })).status, 403)
      const { status, headers } = await gateway.chat(key, { model: 'demo' })
      assert.equal(status, 200)
      assert.ok(Number(headers.get('x-gatehouse-cost-usd')) > 0)
    }
    await works()
    assert.equal(await gateway.stop(), 0)
    await gateway.restart()
    assert.ok(!/admin key|demo session key/.test(gateway.log()))
    await works()
  })

  it('says once in its log that a Redis it was given does not answer, without its password, and nothing of it otherwise', async () => {
    const plain = await startGateway(demo)
    assert.ok(!/redis/i.test(plain.log()), plain.log())
    const given = await startGateway({ ...demo, env: { REDIS_URL: 'redis://:canary-password@127.0.0.1:1' } })
    await given.logged(/Redis does not answer/)
    await given.stop()
    assert.equal(given.log().match(/Redis/g)?.length, 1, given.log())
    assert.ok(!given.log().includes('canary-password'))
  })

  it('refuses a REDIS_URL that is none, without showing it', async () => {
    const { code, output } = await startFails({ ...demo, env: { REDIS_URL: 'localhost:6379/canary-password' } })
    assert.equal(code, 1)
    assert.match(output, /REDIS_URL: must be redis:/)
    assert.ok(!output.includes('canary-password'), output)
  })

  it('answers the OpenAI SDK with its built-in model, streams and tool calls included', async () => {
    const gateway = await startGateway(demo)
    const { key } = await gateway.mintKey()
    const client = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: key, maxRetries: 0 })
    const messages = [{ role: 'user' as const, content: 'use weather with {"city":"Oslo"}' }]
    const whole = await client.chat.completions.create({ model: 'demo', messages })
    assert.match(whole.choices[0]?.message.content ?? '', /not a real one/)
    let said = ''
    for await (const chunk of await client.chat.completions.create({ model: 'demo', messages, stream: true }))
      said += chunk.choices[0]?.delta.content ?? ''
    assert.equal(said, whole.choices[0]?.message.content)
    const tools = [{ type: 'function' as const, function: { name: 'weather', parameters: {} } }]
    const final = await client.chat.completions.stream({ model: 'demo', messages, tools }).finalChatCompletion()
    const call = final.choices[0]?.message.tool_calls?.[0]
    assert.deepEqual(call?.type === 'function' && JSON.parse(call.function.arguments), { city: 'Oslo' })
    const { data } = await client.embeddings.create({ model: 'demo', input: ['one', 'two'] })
    assert.equal(data.length, 2)
  })
})

it('the admin plane on a port of its own is on no other', async () => {
  const port = await new Promise<number>((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port: free } = server.address() as AddressInfo
      server.close(() => resolve(free))
    })
  })
  const gateway = await startInside({ ...demo, env: { GATEHOUSE_ADMIN_PORT: String(port) } })
  const authorization = `Bearer ${gateway.adminKey}`
  const ask = async (on: number, path: string) =>
    (await fetch(`http://127.0.0.1:${on}${path}`, { headers: { authorization } })).status
  assert.equal(await ask(gateway.port, '/admin/v1/keys'), 404)
  assert.equal(await ask(port, '/admin/v1/keys'), 200)
  assert.equal(await ask(port, '/v1/models'), 404)
  assert.equal(await ask(gateway.port, '/readyz'), 200)
})
