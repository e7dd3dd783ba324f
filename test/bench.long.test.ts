/** What the gateway costs beside a bare proxy on the same stack, both measured in one run. `npm run bench` prints more. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type BenchRatios, benchRatios } from './bench/parts.ts'

describe('beside a bare proxy, with keys, policy, budgets, ledger and log on, the gateway', {
  skip: process.platform !== 'linux',
}, () => {
  let ratios: BenchRatios

  it('answers every request and every stream rightly while it is measured', async (t) => {
    ratios = await benchRatios({ rounds: 3, requests: 10_000, streams: 100 })
    t.diagnostic(
      `CPU per request ${ratios.llm.toFixed(2)}, per chunk ${ratios.chunks.toFixed(2)}, memory ${ratios.memory.toFixed(2)}`,
    )
  })

  it('holds an open stream in at most 1.3 times the memory', () => {
    assert.ok(ratios.memory <= 1.3, String(ratios.memory))
  })

  it('passes a chunk on for at most 1.3 times the CPU, and a fifth for the noise of so short a run', () => {
    assert.ok(ratios.chunks <= 1.5, String(ratios.chunks))
  })

  it('answers a request for at most 2.5 times the CPU, which keeps what has been reached', () => {
    assert.ok(ratios.llm <= 2.5, String(ratios.llm))
  })
})
