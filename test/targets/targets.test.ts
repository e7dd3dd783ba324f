import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Target } from '../../src/call.ts'
import { type McpRow, mcpRowSchema } from '../../src/targets/mcp-row.ts'
import type { OpenapiRow } from '../../src/targets/openapi-row.ts'
import { openTargets } from '../../src/targets/targets.ts'
import { deps, rowOf } from './openapi-house.ts'

const pets = (row: object = {}) => rowOf('https://api.example.com', { spec: './pets.yaml', ...row })

describe('a change of configuration', () => {
  it('keeps the servers whose rows stayed, reopens those that changed, closes those that went', async () => {
    const first = openTargets(
      new Map([
        ['b', pets()],
        ['a', pets()],
        ['c', pets()],
      ]),
      deps,
      new Map(),
    )
    assert.deepEqual([...first.keys()], ['a', 'b', 'c'])
    const closed: string[] = []
    for (const [id, target] of first) {
      const close = target.close.bind(target)
      target.close = () => {
        closed.push(id)
        return close()
      }
    }
    const second = openTargets(
      new Map([
        ['a', pets()],
        ['b', pets({ timeout: '5s' })],
      ]),
      deps,
      first,
    )
    assert.equal(second.get('a'), first.get('a'))
    assert.notEqual(second.get('b'), first.get('b'))
    assert.deepEqual([...second.keys()], ['a', 'b'])
    assert.deepEqual(closed.sort(), ['b', 'c'])
    const third = openTargets(new Map([['a', pets()]]), deps, second)
    assert.equal(third.get('a'), first.get('a'))
  })

  it('survives a server that cannot be closed', async () => {
    const first = openTargets(new Map([['a', pets()]]), deps, new Map())
    const target = first.get('a') as Target
    target.close = () => Promise.reject(new Error('stuck'))
    assert.equal(openTargets(new Map(), deps, first).size, 0)
  })
})

describe('every kind of server', () => {
  it('opens without a word to the outside and has no tools before it is read', async () => {
    const command = mcpRowSchema.parse({ kind: 'mcp', command: ['node', 'server.js'], disabled: true })
    const open = openTargets(
      new Map<string, McpRow | OpenapiRow>([
        ['files', command],
        ['pets', pets()],
      ]),
      deps,
      new Map(),
    )
    assert.deepEqual(
      [...open.values()].map((target) => [target.kind, target.tools().length]),
      [
        ['mcp', 0],
        ['openapi', 0],
      ],
    )
    await Promise.all([...open.values()].map((target) => target.close()))
  })
})
