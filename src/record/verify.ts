/**
 * Whether what is kept adds up: every chain of the ledger and of the audit trail, what processes and anchors said of
 * their ends, every counter against its lines, and every cost against the price that was kept with it. The first fault
 * is named; nothing is written.
 * @module
 */
import { hash } from 'node:crypto'
import type { LedgerBody } from '../call.ts'
import { recompute } from '../price.ts'
import { auditText, chainText } from '../stores/chain.ts'
import type { AuditLine, ChainLine, HeadLine, Snapshot } from '../stores/snapshot.ts'
import type { Anchor } from './anchor.ts'
import { type ChainWalk, type Link, type Point, type VerifyFault, walkChains } from './chain-walk.ts'
import { countLines } from './counted.ts'
import { pricePrefix } from './prices.ts'

export interface Verified {
  readonly rows: number
  readonly chains: number
  readonly audit_rows: number
  readonly counters: number
  /** Rows and audit rows whose notes or details were erased. */
  readonly erased: number
  /** Rows that retention has removed. */
  readonly removed: number
  /** Rows whose cost was computed again. */
  readonly priced: number
  /** What is no fault and yet worth knowing. */
  readonly notes: readonly string[]
  readonly fault: VerifyFault | null
}

/** @param anchors read before the snapshot was taken, so that they say nothing newer; null where there are none */
export async function verify(snapshot: Snapshot, anchors: readonly Anchor[] | null): Promise<Verified> {
  const checkpoints = await pointsOf(snapshot.checkpoints())
  const told = await pointsOf(snapshot.writers())
  const ledger = walkChains({ where: 'ledger', checkpoints, told, anchors: anchors ?? [] })
  const audit = walkChains({ where: 'audit', checkpoints: new Map(), told: null, anchors: anchors ?? [] })
  const counted = countLines()
  for await (const page of snapshot.accounts()) for (const { id, parent } of page) counted.account(id, parent)
  for await (const page of snapshot.counters()) for (const counter of page) counted.counter(counter)
  for await (const page of snapshot.removed()) for (const row of page) counted.removed(row.account, row)
  const costs = costChecks(await pricesOf(snapshot))

  /** Only of rows that are what they were: a fault of the chain says more. */
  const later: VerifyFault[] = []
  const line = (row: ChainLine) => {
    const broken = ledger.step(linkOf(row))
    if (broken !== null) return broken
    for (const found of [counted.line(row), costs.line(row)])
      if (found !== null && !later.some(({ where }) => where === found.where)) later.push(found)
    return null
  }
  const fault =
    (await walked(snapshot.lines(), ledger, line)) ??
    (await repeated(snapshot)) ??
    (await walked(snapshot.audit(), audit, (row) => audit.step(auditLink(row)))) ??
    later.find(({ where }) => where === 'balances') ??
    counted.end() ??
    costs.broken() ??
    later[0] ??
    null
  return {
    rows: ledger.rows,
    chains: ledger.chains,
    audit_rows: audit.rows,
    counters: counted.counters,
    erased: ledger.erased + audit.erased,
    removed: [...checkpoints.values()].reduce((sum, { seq }) => sum + seq, 0),
    priced: costs.count(),
    notes: [...notesOn(checkpoints, anchors), ...costs.notes()],
    fault,
  }
}

async function walked<T>(
  pages: AsyncIterable<readonly T[]>,
  walk: ChainWalk,
  step: (row: T) => VerifyFault | null,
): Promise<VerifyFault | null> {
  for await (const page of pages) {
    for (const row of page) {
      const broken = step(row)
      if (broken !== null) return broken
    }
  }
  return walk.end()
}

async function repeated(snapshot: Snapshot): Promise<VerifyFault | null> {
  for await (const [row] of snapshot.repeated()) {
    if (row === undefined) continue
    return {
      where: 'ledger',
      wrong: 'repeated',
      writer: null,
      seq: null,
      id: row.id,
      message: 'more than one row has this id',
    }
  }
  return null
}

async function pointsOf(pages: AsyncIterable<readonly HeadLine[]>): Promise<Map<string, Point>> {
  const points = new Map<string, Point>()
  for await (const page of pages)
    for (const { writer, seq, hash } of page) points.set(writer, { seq: Number(seq), hash })
  return points
}

function linkOf(row: ChainLine): Link {
  const { writer, seq, id, hash: own, notes, notes_hash } = row
  return { writer, seq, id, hash: own, text: chainText(row, notes_hash), erasable: notes, digest: notes_hash }
}

function auditLink(row: AuditLine): Link {
  const { writer, seq, id, hash: own, detail, detail_hash } = row
  return { writer, seq, id, hash: own, text: auditText(row, detail_hash), erasable: detail, digest: detail_hash }
}

async function pricesOf(snapshot: Snapshot): Promise<Map<string, string>> {
  const prices = new Map<string, string>()
  for await (const page of snapshot.settings()) {
    for (const { name, value } of page)
      if (name.startsWith(pricePrefix)) prices.set(name.slice(pricePrefix.length), value)
  }
  return prices
}

function costChecks(prices: ReadonlyMap<string, string>) {
  let count = 0
  const unknown = new Set<string>()
  return {
    count: () => count,
    /** The digest in the version is over the rates, so that neither can be changed alone. */
    broken(): VerifyFault | null {
      for (const [version, rates] of prices) {
        if (version.endsWith(`#${hash('sha256', rates).slice(0, 8)}`)) continue
        const message = `the rates kept as price ${version} are not those`
        return { where: 'price', wrong: 'price', writer: null, seq: null, id: null, message }
      }
      return null
    },
    line(row: ChainLine): VerifyFault | null {
      const { price, usage, outcome } = JSON.parse(row.body) as LedgerBody
      if (price === null || usage === null || outcome === 'recovered' || outcome === 'corrected') return null
      const rates = prices.get(price)
      if (rates === undefined) {
        unknown.add(price)
        return null
      }
      count++
      const cost = costAgain(rates, usage)
      if (String(cost) === row.usd) return null
      const message = `the line was charged ${row.usd} micro-dollars; by price ${price} its tokens cost ${cost ?? 'nothing that can be told'}`
      return { where: 'price', wrong: 'cost', writer: row.writer, seq: Number(row.seq), id: row.id, message }
    },
    notes: () =>
      unknown.size === 0
        ? []
        : [`the rates of ${[...unknown].sort().join(', ')} were not kept, so rows with them were not priced again`],
  }
}

function costAgain(rates: string, usage: NonNullable<LedgerBody['usage']>): number | null {
  try {
    return recompute(rates, usage)
  } catch {
    return null
  }
}

function notesOn(checkpoints: ReadonlyMap<string, Point>, anchors: readonly Anchor[] | null): string[] {
  if (anchors === null)
    return [
      'there is no file of anchors, so rows cut from the end of a chain show only by the counters and by what processes told',
    ]
  const notes: string[] = []
  for (const [writer, { seq, hash: own }] of checkpoints) {
    const named = anchors.some((a) => a.kind === 'checkpoint' && a.writer === writer && a.seq === seq && a.hash === own)
    if (!named) notes.push(`no anchor says that the first ${seq} rows of ${writer} were removed by retention`)
  }
  return notes
}
