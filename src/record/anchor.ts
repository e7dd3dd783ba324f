/**
 * Anchors: where the chains of this process end, written beside the database every minute in which they have grown. A
 * tail that is cut off later is missed by them, wherever else the file was copied to.
 * @module
 */
import { appendFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { z } from 'zod'
import type { Log } from '../gateway.ts'
import type { ChainHead, Store } from '../stores/store.ts'

const aMinute = 60_000

const anchorSchema = z.object({
  chain: z.enum(['ledger', 'audit']),
  writer: z.string(),
  seq: z.int().min(0),
  hash: z.string(),
  at: z.string(),
  /** `end`: the process closed and wrote nothing after it. `checkpoint`: everything up to here was removed by retention. */
  kind: z.enum(['head', 'end', 'checkpoint']),
})
export type Anchor = z.output<typeof anchorSchema>

export interface Anchors {
  /** Retention is about to remove a chain's first lines, this one the last of them. */
  checkpoint(last: ChainHead): void
  /** After the store was closed: what the chains end with. */
  close(): void
}

export interface AnchorDeps {
  readonly store: Pick<Store, 'writers' | 'audit'>
  /** File that the lines are appended to; made with mode 0600. */
  readonly path: string
  readonly now: () => number
  readonly log: Pick<Log, 'info' | 'warn'>
  /** How often it is looked whether the chains have grown, ms. */
  readonly everyMs?: number
}

export function startAnchors({ store, path, now, log, everyMs = aMinute }: AnchorDeps): Anchors {
  const written = new Map<string, number>()

  function write(chain: Anchor['chain'], kind: Anchor['kind'], { writer, seq, hash }: ChainHead): void {
    const anchor: Anchor = { chain, writer, seq, hash, at: new Date(now()).toISOString(), kind }
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    appendFileSync(path, `${JSON.stringify(anchor)}\n`, { mode: 0o600 })
    log.info({ event: 'anchor', ...anchor }, 'where a chain of rows ends')
  }

  function all(kind: 'head' | 'end'): void {
    for (const [chain, head] of [['ledger', store.writers.head] as const, ['audit', store.audit.head] as const]) {
      const grown = head.seq > (written.get(`${chain} ${head.writer}`) ?? 0)
      if (head.seq === 0 || (kind === 'head' && !grown)) continue
      write(chain, kind, head)
      written.set(`${chain} ${head.writer}`, head.seq)
    }
  }

  /** A disk that is full is told by readiness; the next minute tries again. */
  function attempt(work: () => void): void {
    try {
      work()
    } catch (error) {
      log.warn({ error: String(error) }, 'the ends of the chains could not be written beside the database')
    }
  }

  const timer = setInterval(() => attempt(() => all('head')), everyMs)
  timer.unref()
  return {
    checkpoint: (last) => write('ledger', 'checkpoint', last),
    close() {
      clearInterval(timer)
      attempt(() => all('end'))
    },
  }
}

/** @returns the anchors of a file; null where there is none. A line that cannot be read is counted. */
export function readAnchors(path: string): { readonly anchors: readonly Anchor[]; readonly unreadable: number } | null {
  if (!existsSync(path)) return null
  const anchors: Anchor[] = []
  let unreadable = 0
  // What stands behind the last line feed was being written when the process died.
  for (const line of readFileSync(path, 'utf8').split('\n').slice(0, -1)) {
    const anchor = anchorOf(line)
    if (anchor === null) unreadable++
    else anchors.push(anchor)
  }
  return { anchors, unreadable }
}

function anchorOf(line: string): Anchor | null {
  try {
    return anchorSchema.parse(JSON.parse(line))
  } catch {
    return null
  }
}
