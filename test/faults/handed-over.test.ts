/** A worker that dies while a connection is on its way to it. @module */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { eventually, exchangeRaw, startGateway } from '../gateway.ts'
import { workersOf } from './house.ts'

const request = 'GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n'

it('a caller whose connection was handed to a dying process is told so at once', { timeout: 60_000 }, async () => {
  const gateway = await startGateway({ env: { GATEHOUSE_WORKERS: '2' } })
  await eventually(() => workersOf(gateway).length === 2)
  const [deaf] = workersOf(gateway) as [number]
  process.kill(deaf, 'SIGSTOP')
  let over = 0
  const answers = Promise.all(
    Array.from({ length: 6 }, async () => {
      const text = await exchangeRaw(gateway.port, request)
      over++
      return text
    }),
  )
  // All but the one that went to the process that does not listen any more.
  await eventually(() => over === 5)
  process.kill(deaf, 'SIGKILL')
  const texts = await answers
  assert.equal(texts.filter((text) => text.startsWith('HTTP/1.1 200')).length, 5)
  assert.equal(texts.filter((text) => text === '').length, 1)
})
