/**
 * Several processes on one port: a parent that serves nothing starts them, starts anew what dies, passes signals on and
 * carries their words to each other (siblings.ts). Budgets hold over all of them because each leases what it spends from the store.
 * @module
 */
import cluster, { type Worker } from 'node:cluster'
import { type AddressInfo, createServer } from 'node:net'
import type { Welcome } from '../welcome.ts'
import type { WorkerWord } from './siblings.ts'

/** A worker that ran at least this long was well; before, the wait for the next one doubles. */
const wellMs = 10_000
const longestWaitMs = 30_000

/**
 * Runs until told to stop.
 *
 * @param onReady called once, when the first worker listens
 * @returns the exit status: that of the first worker where it could not start
 */
export async function superviseWorkers(
  count: number,
  { host, port, mono }: { readonly host: string; readonly port: number; readonly mono: () => number },
  onReady: (url: string, welcome: Welcome) => void,
): Promise<number> {
  // "Any port" has to mean the same one to all of them, also to those that come later.
  if (port === 0) cluster.setupPrimary({ args: [...process.argv.slice(2), '--port', String(await freePort(host))] })
  return new Promise((resolve) => {
    let ready = false
    let stopping = false
    let waitMs = 500

    const others = (worker: Worker) => workers().filter((other) => other !== worker)
    const fork = () => {
      const worker = cluster.fork()
      const startedAt = mono()
      closeWhatItTakesAlong(worker)
      worker.on('message', (word: WorkerWord) => {
        const rest = others(worker).filter((other) => other.isConnected())
        if ('wake' in word) for (const other of rest) other.send(word)
        if ('ask' in word) {
          worker.send({ asked: word.ask, of: rest.length } satisfies WorkerWord)
          for (const other of rest) other.send({ ...word, from: worker.id } satisfies WorkerWord)
        }
        if ('tell' in word) cluster.workers?.[word.to]?.send(word)
        if (!('ready' in word) || ready) return
        ready = true
        onReady(word.ready.url, word.ready.welcome)
        // The first one has made the data folder; the rest find it made.
        for (let more = 1; more < count; more++) fork()
      })
      worker.on('exit', (code) => {
        const left = workers().length
        if (!ready || stopping) {
          if (left === 0) resolve(stopping ? 0 : code || 1)
          return
        }
        process.stderr.write(
          `worker ${worker.process.pid} ended (${code ?? worker.process.signalCode}); starting another\n`,
        )
        waitMs = mono() - startedAt > wellMs ? 500 : Math.min(waitMs * 2, longestWaitMs)
        setTimeout(() => {
          if (!stopping) fork()
        }, waitMs)
      })
    }

    const stop = (signal: NodeJS.Signals) => {
      // The second time nobody waits.
      for (const worker of workers()) worker.process.kill(stopping ? 'SIGKILL' : signal)
      if (workers().length === 0) resolve(0)
      stopping = true
    }
    process.on('SIGTERM', stop)
    process.on('SIGINT', stop)
    process.on('SIGHUP', () => {
      for (const worker of workers()) worker.process.kill('SIGHUP')
    })
    fork()
  })
}

/**
 * A connection is handed to a worker and kept open here until the worker confirms it. One that dies before leaves it
 * open for ever, and its caller waiting: it is closed instead, so that the caller may try again.
 */
function closeWhatItTakesAlong(worker: Worker): void {
  const { process: child } = worker
  const send = child.send.bind(child)
  // They are handed over one at a time, and closing one that the worker has confirmed does nothing.
  let last: { close(): void } | null = null
  child.send = (message: unknown, ...rest: unknown[]) => {
    const [handle] = rest
    if (isHandover(message) && isClosable(handle)) last = handle
    return (send as (...all: unknown[]) => boolean)(message, ...rest)
  }
  worker.on('exit', () => last?.close())
}

function isHandover(message: unknown): boolean {
  return typeof message === 'object' && message !== null && 'act' in message && message.act === 'newconn'
}

function isClosable(handle: unknown): handle is { close(): void } {
  return typeof handle === 'object' && handle !== null && 'close' in handle && typeof handle.close === 'function'
}

function freePort(host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, host, () => {
      const { port } = server.address() as AddressInfo
      server.close(() => resolve(port))
    })
  })
}

function workers(): Worker[] {
  return Object.values(cluster.workers ?? {}).filter((worker) => worker !== undefined && !worker.isDead()) as Worker[]
}
