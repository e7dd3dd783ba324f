/** `gatehouse serve`: starts the gateway, says how to reach it, and ends when told to. @module */
import cluster from 'node:cluster'
import { clock, type Running, readSettings, start, startedByNpm } from '../main.ts'
import { type Flags, SettingError } from '../settings.ts'
import { greeting } from '../welcome.ts'
import { sayReady, siblings } from './siblings.ts'
import { superviseWorkers } from './workers.ts'

export async function serve(flags: Flags): Promise<void> {
  try {
    const settings = readSettings(flags)
    if (settings.workers > 1 && cluster.isPrimary) {
      process.exit(
        await superviseWorkers(settings.workers, { ...settings, mono: clock.mono }, (url, welcome) =>
          process.stderr.write(greeting(url, welcome)),
        ),
      )
    }
    const running = await start(settings, siblings())
    if (cluster.isWorker) sayReady(running.url, running.welcome)
    else process.stderr.write(greeting(running.url, running.welcome))
    untilSignal(running)
  } catch (error) {
    // What a person can mend is told without a stack.
    const message = error instanceof Error ? error.message : String(error)
    process.stderr.write(`gatehouse cannot start: ${message}\n`)
    if (!(error instanceof SettingError) && error instanceof Error) process.stderr.write(`${error.stack}\n`)
    process.exit(1)
  }
}

/** SIGTERM and SIGINT drain; the second one does not wait. SIGHUP reads the configuration again. */
function untilSignal(running: Running): void {
  let stopping = false
  const stop = () => {
    if (stopping) process.exit(1)
    stopping = true
    if (cluster.isPrimary) process.stderr.write('draining; once more to stop at once\n')
    running.stop().then(
      () => process.exit(0),
      (error: unknown) => {
        process.stderr.write(`the shutdown failed: ${String(error)}\n`)
        process.exit(1)
      },
    )
  }
  process.on('SIGTERM', stop)
  process.on('SIGINT', stop)
  process.on('SIGHUP', () => void running.gateway.reload())
  if (startedByNpm()) whenOrphaned(stop)
}

/** npm ends its shell at a signal, and the shell leaves this process behind: that is the signal then. */
function whenOrphaned(stop: () => void): void {
  const parent = process.ppid
  const timer = setInterval(() => {
    if (process.ppid === parent) return
    clearInterval(timer)
    stop()
  }, 500)
  timer.unref()
}
