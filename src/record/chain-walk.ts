/** Walking chains of rows in order and finding the first that does not add up. @module */
import { chainHash, chainStart, digestOf } from '../stores/chain.ts'
import type { Anchor } from './anchor.ts'

/** The first thing that does not add up. What does not apply is null. */
export interface VerifyFault {
  readonly where: 'ledger' | 'audit' | 'balances' | 'price'
  readonly wrong:
    | 'hash'
    | 'gap'
    | 'order'
    | 'notes'
    | 'repeated'
    | 'tail'
    | 'anchor'
    | 'writer'
    | 'account'
    | 'counter'
    | 'cost'
    | 'price'
  readonly writer: string | null
  readonly seq: number | null
  readonly id: string | null
  readonly message: string
}

/** One row of a chain. */
export interface Link {
  readonly writer: string
  readonly seq: string
  readonly id: string
  /** What its hash is over, beside the hash before and the seq. */
  readonly text: string
  readonly hash: string
  /** What may have been erased, and the digest that stays. */
  readonly erasable: string | null
  readonly digest: string
}

export interface ChainFacts {
  readonly where: 'ledger' | 'audit'
  readonly checkpoints: ReadonlyMap<string, Point>
  /** Length and head of each chain as its process last told; null where nobody tells. */
  readonly told: ReadonlyMap<string, Point> | null
  readonly anchors: readonly Anchor[]
}

export interface Point {
  readonly seq: number
  readonly hash: string
}

interface Pin extends Point {
  readonly kind: Anchor['kind'] | 'told'
}

export interface ChainWalk {
  readonly rows: number
  readonly chains: number
  /** Rows whose notes are gone. */
  readonly erased: number
  step(link: Link): VerifyFault | null
  /** After the last row. */
  end(): VerifyFault | null
}

export function walkChains({ where, checkpoints, told, anchors }: ChainFacts): ChainWalk {
  const pins = new Map<string, Pin[]>()
  const pin = (writer: string, one: Pin) => pins.set(writer, [...(pins.get(writer) ?? []), one])
  for (const [writer, { seq, hash }] of told ?? []) if (seq > 0) pin(writer, { seq, hash, kind: 'told' })
  for (const { chain, writer, seq, hash, kind } of anchors)
    if (chain === where && kind !== 'checkpoint') pin(writer, { seq, hash, kind })
  const unseen = new Set([...pins.keys(), ...checkpoints.keys()])

  let current: { readonly writer: string; seq: number; hash: string; id: string | null } | null = null
  let ahead = new Map<number, Pin[]>()
  const counts = { rows: 0, chains: 0, erased: 0 }

  const faultAt = (
    wrong: VerifyFault['wrong'],
    row: { readonly writer: string; readonly seq: number | null; readonly id: string | null },
    message: string,
  ): VerifyFault => ({ where, wrong, writer: row.writer, seq: row.seq, id: row.id, message })

  function begin(writer: string): void {
    const from = checkpoints.get(writer) ?? { seq: 0, hash: chainStart }
    current = { writer, ...from, id: null }
    unseen.delete(writer)
    counts.chains++
    ahead = new Map()
    for (const one of pins.get(writer) ?? []) ahead.set(one.seq, [...(ahead.get(one.seq) ?? []), one])
  }

  /** What was said of the place the walk has reached. */
  function pinned(at: { readonly writer: string; seq: number; hash: string; id: string | null }): VerifyFault | null {
    for (const { hash, kind } of ahead.get(at.seq) ?? []) {
      if (hash !== at.hash)
        return faultAt('anchor', at, `the row is not the one that ${spoken(kind)}: the chain was written anew`)
    }
    return null
  }

  function finish(): VerifyFault | null {
    if (current === null) return null
    for (const { seq, kind } of pins.get(current.writer) ?? []) {
      if (seq > current.seq) {
        const row = { writer: current.writer, seq: current.seq + 1, id: null }
        return faultAt(
          'tail',
          row,
          `the chain ends at seq ${current.seq}, but ${spoken(kind)} seq ${seq}: its tail is cut`,
        )
      }
      if (kind === 'end' && seq < current.seq) {
        const row = { writer: current.writer, seq: seq + 1, id: null }
        return faultAt('tail', row, `the process ended its chain with seq ${seq}; rows were added behind it`)
      }
    }
    return null
  }

  function enter(writer: string): VerifyFault | null {
    const left = finish()
    if (left !== null) return left
    begin(writer)
    return pinned(current as NonNullable<typeof current>)
  }

  return {
    get rows() {
      return counts.rows
    },
    get chains() {
      return counts.chains
    },
    get erased() {
      return counts.erased
    },
    step(link) {
      const seq = Number(link.seq)
      const row = { writer: link.writer, seq: Number.isSafeInteger(seq) ? seq : null, id: link.id }
      if (current?.writer !== link.writer) {
        const left = enter(link.writer)
        if (left !== null) return left
        if (told !== null && !told.has(link.writer))
          return faultAt('writer', row, `no process called ${link.writer} has ever written`)
      }
      const at = current as NonNullable<typeof current>
      const next = at.seq + 1
      if (row.seq === null || seq < next)
        return faultAt('order', row, `seq ${link.seq} stands where seq ${next} should be`)
      if (seq > next) {
        const missing = { writer: link.writer, seq: next, id: null }
        return faultAt('gap', missing, `seq ${next} is missing; the row after it is seq ${seq}, ${link.id}`)
      }
      if (chainHash(at.hash, seq, link.text) !== link.hash)
        return faultAt('hash', row, 'the row is not what its hash was computed of')
      if (link.erasable !== null && digestOf(link.erasable) !== link.digest)
        return faultAt('notes', row, 'what may be erased of the row is not what its digest was computed of')
      if (link.erasable === null && link.digest !== '') counts.erased++
      counts.rows++
      current = { writer: link.writer, seq, hash: link.hash, id: link.id }
      return pinned(current)
    },
    end() {
      const left = finish()
      if (left !== null) return left
      for (const writer of [...unseen].sort()) {
        current = null
        const found = enter(writer) ?? finish()
        if (found !== null) return found
      }
      return null
    },
  }
}

function spoken(kind: Pin['kind']): string {
  return kind === 'told' ? 'its process told' : 'an anchor names'
}
