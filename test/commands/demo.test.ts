/** `npm run demo`. @module */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { adminKey, openHome, startGateway } from './rig.ts'

const tour = join(import.meta.dirname, '../../examples/demo/run.ts')

function run(env: Readonly<Record<string, string>>): Promise<{ status: number | null; said: string }> {
  return new Promise((resolve, reject) => {
    const { PATH = '', HOME = '' } = process.env
    const child = spawn(process.execPath, [tour], { env: { PATH, HOME, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
    let said = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk: Buffer) => {
        said += chunk.toString()
      })
    }
    child.on('error', reject)
    child.on('close', (status) => resolve({ status, said }))
  })
}

describe('the demo tour', () => {
  it('takes every step against a gateway it starts itself', async () => {
    const { status, said } = await run({})
    assert.equal(status, 0, said)
    assert.match(said, /14\. The session ends[\s\S]*Every step did what it should\.\n$/)
  })

  it('ends with exit status 1 at the first step that is wrong', async () => {
    // Without a rule for its role the key sees no tools.
    const home = openHome({ 'policies/tools/demo.yaml': 'role: somebody-else\n', 'registry/models.yaml': '{}\n' })
    const gateway = await startGateway(home.path)
    try {
      const { status, said } = await run({ GATEHOUSE_URL: gateway.url, GATEHOUSE_ADMIN_KEY: adminKey })
      assert.equal(status, 1, said)
      assert.match(said, /This step is wrong: /)
    } finally {
      await gateway.stop()
      home.remove()
    }
  })
})
