/** `gatehouse serve`: starts the gateway, says how to reach it, and ends when told to. @module */
import { type Running, readSettings, start, startedByNpm } from '../main.ts'
import { type Flags, SettingError } from '../settings.ts'
import { greeting } from '../welcome.ts'

export async function serve(flags: Flags): Promise<void> {
  let running: Running
  try {
    running = await start(readSettings(flags))
  } catch (error) {
    // What a person can mend is told without a stack.
    const message = error instanceof Error ? error.message : String(error)
    process.stderr.write(`gatehouse cannot start: ${message}\n`)
    if (!(error instanceof SettingError) && error instanceof Error) process.stderr.write(`${error.stack}\n`)
    process.exit(1)
  }
  process.stderr.write(greeting(running.url, running.welcome))
  untilSignal(running)
}

/** SIGTERM and SIGINT drain; the second one does not wait. SIGHUP reads the configuration again. */
function untilSignal(running: Running): void {
  let stopping = false
  const stop = () => {
    if (stopping) process.exit(1)
    stopping = true
    process.stderr.write('draining; once more to stop at once\n')
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
