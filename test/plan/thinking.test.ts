/** Models that think out of sight are held whole, the others in slices. @module */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { mayThink } from '../../src/tokens.ts'
import { openVendor, startInside } from '../gateway.ts'

it('knows the models that think by the names their vendors give them', () => {
  const thinking = [
    'o3-mini',
    'gpt-5-mini',
    'openai/gpt-oss-120b',
    'claude-opus-4-1',
    'anthropic.claude-sonnet-4-5',
    'gemini-2.5-flash',
    'deepseek-reasoner',
    'deepseek-ai/DeepSeek-R1',
    'Qwen/QwQ-32B',
    'kimi-k2-thinking',
    'grok-4-fast-reasoning',
  ]
  const plain = [
    'gpt-4o',
    'gpt-4.1-nano',
    'claude-3-5-haiku-latest',
    'gemini-2.0-flash',
    'deepseek-chat',
    'llama-3.3-70b',
    'mistral-large',
    'ok',
    'hold',
  ]
  assert.deepEqual(
    thinking.filter((model) => !mayThink(model)),
    [],
  )
  assert.deepEqual(plain.filter(mayThink), [])
})

it('a stream of a model that thinks holds all it may cost, one that does not a slice of it', async () => {
  const vendor = await openVendor()
  const price = { input: 1, output: 1 }
  const gateway = await startInside({
    vendor,
    models: {
      plain: { provider: 'vendor', upstream: 'hold', price },
      deep: { provider: 'vendor', upstream: 'hold+reasoning-5', price },
    },
  })
  const heldFor = async (model: string) => {
    const key = await gateway.mintKey({ limits: [{ unit: 'tokens', max: 100_000 }] })
    const answer = gateway.chat(key.key, { model, stream: true, max_tokens: 4000 })
    await vendor.until((request) => !request.over)
    const { held } = (await gateway.admin('GET', `/keys/${key.id}`)).json.standing
    const letGo = setInterval(() => vendor.release(), 5)
    await answer
    clearInterval(letGo)
    return held.tokens
  }
  assert.ok((await heldFor('plain')) < 1000)
  assert.ok((await heldFor('deep')) >= 4000)
})
