/** Structured log lines on one stream: pino for events, hand-written lines for calls, batched off the request path. @module */
import pino from 'pino'
import type { LedgerLine } from '../call.ts'
import type { CallSummary, Log } from '../gateway.ts'

export interface LogStream {
  readonly log: Log
  /** Writes what waits. */
  close(): void
}

/** How long a line may wait; a crash loses at most this much of the log, never of the ledger. */
const flushEveryMs = 200
/** Lines gathered before they are handed on. */
const gatherChars = 64 * 1024

/** Names whose values never reach a log line, wherever they stand. */
const secretNames = ['authorization', 'key', 'token', 'secret', 'password', 'cookie', 'x-api-key', 'x-goog-api-key']

/**
 * @param fd file descriptor to write to
 * @param level least level that is written; calls are `info`
 */
export function openLog(fd: number, level: string): LogStream {
  const destination = pino.destination({ fd, sync: false, contentMode: 'buffer' })
  // Whoever read the log is gone; that is no reason to stop serving.
  destination.on('error', () => {})
  const paths = secretNames.flatMap((name) => [`["${name}"]`, `*["${name}"]`])
  let gathered = ''
  // As bytes: text is measured anew by the stream at every write. Call lines and events share one buffer, in order.
  const hand = () => {
    if (gathered === '') return
    ;(destination as unknown as { write(bytes: Buffer): boolean }).write(Buffer.from(gathered))
    gathered = ''
  }
  const events = {
    write(text: string) {
      gathered += text
      hand()
    },
  }
  const logger = pino({ level, base: null, redact: { paths, censor: '[redacted]' } }, events)
  const calls = logger.isLevelEnabled('info')
  const timer = setInterval(hand, flushEveryMs)
  timer.unref()
  return {
    log: {
      debug: (fields, message) => logger.debug(fields, message),
      info: (fields, message) => logger.info(fields, message),
      warn: (fields, message) => logger.warn(fields, message),
      error: (fields, message) => logger.error(fields, message),
      call(summary, line) {
        if (!calls) return
        gathered += line === null ? unbooked(summary) : bookedLine(line)
        if (gathered.length >= gatherChars) hand()
      },
    },
    close() {
      clearInterval(timer)
      hand()
      destination.flushSync()
      if (fd > 2) destination.end()
    },
  }
}

/** A call as its ledger line says it: the same text serves both. */
function bookedLine({ id, account, at, usd, body }: LedgerLine): string {
  return `{"level":30,"time":${at},"msg":"call","id":"${id}","account":"${account}","micro_usd":${usd},${body.slice(1)}\n`
}

/** A call that has no ledger line: an administrator's, or a stranger's. */
function unbooked({ call, admitted, ending, latencyMs }: CallSummary): string {
  const account = admitted?.caller.role ?? 'anonymous'
  let out = `{"level":30,"time":${call.at},"msg":"call","id":"${call.id}","kind":"${call.kind}","account":"${account}"`
  if (call.kind === 'admin' || call.kind === 'session') out += `,"operation":"${call.operation}"`
  if (ending.fault !== null) out += `,"code":"${ending.fault.code}"`
  return `${out},"outcome":"${ending.outcome}","ms":${latencyMs.toFixed(2)}}\n`
}
