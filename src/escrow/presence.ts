/**
 * Being one of several processes: twice a second this one renews its term, hears what the others changed, and winds up
 * what a dead one left. What the dead had dispatched and not booked is booked at the held amount and flagged; what had
 * not left is void; the rest of its leases is free again.
 * @module
 */
import type { Account } from '../call.ts'
import type { LedgerEntry, LedgerStore, Mark, WriterRow, WriterStore } from '../stores/store.ts'
import type { Escrow } from './escrow.ts'

export interface PresenceDeps {
  readonly writers: WriterStore
  readonly ledger: Pick<LedgerStore, 'append'>
  readonly escrow: Escrow
  readonly mono: () => number
  readonly load: (account: string) => Promise<Account | null>
  /** An account was changed by another process. */
  readonly onAccount: (account: string) => Promise<void>
  /** Called after every beat, and not waited for. @param recovered something of a dead process was wound up */
  readonly onBeat?: (recovered: boolean) => void
  readonly log: { warn(fields: object, message: string): void; info(fields: object, message: string): void }
  readonly termMs: number
  readonly everyMs?: number
}

export interface Presence {
  /** Renews and looks around now. */
  beat(): Promise<void>
  /** Whether this process may still spend what it leased: it was heard of well within its term. */
  current(): boolean
  stop(): void
}

export function startPresence(deps: PresenceDeps): Presence {
  const { writers, escrow, log, mono, termMs, everyMs = 500 } = deps
  let renewedAt = mono()
  let beating: Promise<void> | null = null
  let stopped = false

  async function look(): Promise<void> {
    const begun = mono()
    const beat = await writers.beat(termMs)
    if (beat.alive) renewedAt = begun
    else escrow.fenced()
    escrow.beat(
      beat.now,
      beat.writers.filter(({ endedAt, expiresAt }) => endedAt === null && expiresAt > beat.now).length,
    )
    for (const { kind, subject } of beat.changes) {
      if (kind === 'account') await deps.onAccount(subject)
      else await escrow.recall(subject)
    }
    if (beat.changes.length > 0) escrow.kick()
    const dead = beat.writers.filter((writer) => isDead(writer, beat.now))
    for (const writer of dead) await windUp(writer)
    deps.onBeat?.(dead.length > 0)
  }

  function isDead(writer: WriterRow, now: number): boolean {
    if (writer.id === writers.id) return false
    return writer.endedAt !== null || writer.expiresAt < now || writers.gone(writer)
  }

  async function windUp(writer: WriterRow): Promise<void> {
    if (writer.endedAt === null && !(await writers.fence(writer))) return
    const marks = await writers.marksOf(writer.id)
    const entries: LedgerEntry[] = []
    for (const mark of marks) {
      const account = await deps.load(mark.line.account)
      if (account !== null) entries.push(recovered(mark, escrow.postingsAt(account, mark.line.booked)))
    }
    await deps.ledger.append(entries)
    await writers.windUp(writer.id)
    escrow.kick()
    log.warn({ writer: writer.id, recovered: entries.length }, 'wound up what a process that ended left behind')
  }

  function beat(): Promise<void> {
    beating ??= look().finally(() => {
      beating = null
    })
    return beating
  }

  /** Said once: the next beat follows, and the store tells its own health. */
  let lastFailure = ''
  function failed(error: unknown): void {
    const text = String(error)
    if (text !== lastFailure) log.warn({ error: text }, 'the other processes could not be looked after')
    lastFailure = text
  }
  function well(): void {
    lastFailure = ''
  }

  const timer = setInterval(() => {
    if (!stopped) beat().then(well, failed)
  }, everyMs)
  timer.unref()

  return {
    beat,
    current: () => mono() - renewedAt < (termMs * 2) / 3,
    stop() {
      stopped = true
      clearInterval(timer)
    },
  }
}

function recovered({ line, head }: Mark, postings: LedgerEntry['postings']): LedgerEntry {
  const body = `${head},"outcome":"recovered","code":null,"usage":null,"price":null,"overrun":null,"ms":0,"firstByteMs":null}`
  return { line: { ...line, body, notes: null }, postings, short: null, posted: null }
}
