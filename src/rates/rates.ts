/**
 * Rate limits of calls: everything a call needs is taken together or not at all, corrected when it ends. Counted in
 * this process always, and in the shared counters too where there are some: what this process alone has seen already
 * bounds it when the shared ones are emptied, and while they are away it goes on within its share.
 * @module
 */
import type { RateGrant, RateLeft, RateSpent, RateStanding, RateTarget } from '../call.ts'
import { type Fault, fault } from '../fault.ts'
import type { RateLimit, RateUnit } from './limit.ts'
import { folded, type RateAsk, type Want, wantsOf } from './match.ts'
import type { SharedChange, SharedRates, SharedRefused, SharedTaken } from './shared.ts'
import { createTable, type Refused, type Table, type Taken } from './table.ts'
import { capOf, type Room } from './window.ts'

/** The `rates` of a configuration. */
export interface RateRules {
  readonly limits: readonly RateLimit[]
  /** Processes among which a limit is divided while they count apart. */
  readonly replicas: number
}

/** Also says why nothing was taken. */
export interface Grant extends RateGrant {
  readonly refusal: Fault | null
}

export interface Rates {
  /** @returns a grant to be ended, also when it is a refusal; a promise only where shared counters are asked */
  admit(rules: RateRules, ask: RateAsk): Grant | Promise<Grant>
  /** Places at work held by calls of this process. */
  atWork(): number
  /** 1 while shared counters answer, 0 while they do not, null where there are none. */
  sharedUp(): 0 | 1 | null
}

export interface RatesDeps {
  /** Monotonic clock, ms: a jump of the wall clock neither refills nor locks out. */
  readonly mono: () => number
  readonly shared: SharedRates | null
}

/** What a grant needs of the room. */
interface Counting extends RatesDeps {
  readonly table: Table
  atWork: number
}

export function createRates(deps: RatesDeps): Rates {
  const counting: Counting = { ...deps, table: createTable(), atWork: 0 }
  return {
    admit(rules, ask) {
      const grant = new OpenGrant(counting, rules, ask)
      const refusal = grant.take(wantsOf(rules.limits, ask), null)
      if (!(refusal instanceof Promise)) return grant.answered(refusal)
      return refusal.then((why) => grant.answered(why))
    },
    atWork: () => counting.atWork,
    sharedUp: () => (deps.shared === null ? null : deps.shared.up() ? 1 : 0),
  }
}

/** A want that was granted. */
interface Kept {
  readonly local: Taken
  /** In the shared counters, or null where they were not there. */
  readonly slot: number | null
  /** For a target's own limits the targets they were asked for; null: the whole call. */
  readonly targets: string[] | null
}

class OpenGrant implements Grant {
  refusal: Fault | null = null
  #requests: RateLeft | null = null
  #tokens: RateLeft | null = null
  #kept = new Map<string, Kept>()
  #ended = false
  readonly #counting: Counting
  readonly #rules: RateRules
  readonly #ask: RateAsk

  constructor(counting: Counting, rules: RateRules, ask: RateAsk) {
    this.#counting = counting
    this.#rules = rules
    this.#ask = ask
  }

  get standing(): RateStanding {
    return { requests: this.#requests, tokens: this.#tokens }
  }

  answered(refusal: Fault | null): this {
    this.refusal = refusal
    return this
  }

  enter(target: RateTarget | null): Fault | null | Promise<Fault | null> {
    if (target === null) return null
    const name = canonical(target)
    // Not a route: what the target asks was taken with the rest.
    if (this.#ask.names.some((one) => folded(one) === name)) return null
    const wants = wantsOf(this.#rules.limits, { ...this.#ask, names: [name] })
    const fresh = wants.filter((want) => {
      const kept = this.#kept.get(want.key)
      kept?.targets?.push(name)
      return kept === undefined
    })
    this.#leave(new Set(wants.map(({ key }) => key)))
    return fresh.length === 0 ? null : this.take(fresh, name)
  }

  end(tried: readonly RateSpent[]): void {
    if (this.#ended) return
    this.#ended = true
    const changes: SharedChange[] = []
    for (const kept of this.#kept.values()) this.#change(kept, deltaOf(kept, tried), changes)
    this.#kept.clear()
    this.#tell(changes)
  }

  take(wants: readonly Want[], target: string | null): Fault | null | Promise<Fault | null> {
    if (wants.length === 0) return null
    const { table, shared, mono } = this.#counting
    if (shared === null || !shared.up()) return this.#alone(wants, target)
    // What this process alone refuses needs no asking: a loop of refusals stays here.
    const local = table.take(wants, mono(), 1)
    if (isRefused(local)) return this.#refuse(local, this.#rooms(wants, 1), target === null ? wants : [])
    return shared.take(wants, this.#ask.id).then((answer) => this.#together(wants, target, local, answer))
  }

  #together(
    wants: readonly Want[],
    target: string | null,
    local: readonly Taken[],
    answer: SharedTaken | SharedRefused | null,
  ): Fault | null {
    const { table, mono } = this.#counting
    if (answer?.taken === true) {
      this.#keep(local, target, answer.rooms, answer.slots)
      return null
    }
    for (const taken of local) table.change(taken, -taken.want.amount, mono())
    if (answer === null) return this.#alone(wants, target)
    return this.#refuse(
      { want: wants[answer.want] as Want, waitMs: answer.waitMs },
      answer.rooms,
      target === null ? wants : [],
    )
  }

  #alone(wants: readonly Want[], target: string | null): Fault | null {
    const { table, mono } = this.#counting
    const { replicas } = this.#rules
    const local = table.take(wants, mono(), replicas)
    const rooms = this.#rooms(wants, replicas)
    if (isRefused(local)) return this.#refuse(local, rooms, target === null ? wants : [])
    this.#keep(local, target, rooms, null)
    return null
  }

  #keep(local: readonly Taken[], target: string | null, rooms: readonly Room[], slots: readonly number[] | null): void {
    local.forEach((taken, index) => {
      const { want } = taken
      if (want.count.unit === 'concurrent') this.#counting.atWork++
      this.#kept.set(want.key, {
        local: taken,
        slot: slots?.[index] ?? null,
        targets: target === null ? null : [target],
      })
      this.#note(want, rooms[index] as Room)
    })
  }

  /** @param wants what the headers tell of; nothing for a target, since another one may answer */
  #refuse({ want, waitMs }: Refused, rooms: readonly Room[], wants: readonly Want[]): Fault {
    wants.forEach((one, index) => {
      this.#note(one, rooms[index] as Room)
    })
    const { limit, count, whose } = want
    const by = `limit ${limit.name}: ${count.said} for ${whose}`
    return fault({ code: 'rate_limited', by, scope: limit.per.join('+'), retryAfterMs: Math.ceil(waitMs) })
  }

  #rooms(wants: readonly Want[], share: number): readonly Room[] {
    const now = this.#counting.mono()
    return wants.map((want) => this.#counting.table.room(want, now, share))
  }

  /** Keeps the tightest of each unit that has headers. */
  #note({ count }: Want, room: Room): void {
    const left = { limit: capOf(count, 1), ...room }
    if (count.unit === 'requests') this.#requests = tighter(this.#requests, left)
    if (count.unit === 'tokens') this.#tokens = tighter(this.#tokens, left)
  }

  /** The target that was tried before is at work no more. */
  #leave(stays: ReadonlySet<string>): void {
    const changes: SharedChange[] = []
    for (const [key, kept] of this.#kept) {
      const { want } = kept.local
      if (kept.targets === null || want.count.unit !== 'concurrent' || stays.has(key)) continue
      this.#change(kept, -want.amount, changes)
      this.#kept.delete(key)
    }
    this.#tell(changes)
  }

  #change(kept: Kept, delta: number, changes: SharedChange[]): void {
    if (delta === 0) return
    const { table, mono } = this.#counting
    const { want } = kept.local
    table.change(kept.local, delta, mono())
    if (want.count.unit === 'concurrent') this.#counting.atWork--
    if (kept.slot !== null) changes.push({ want, slot: kept.slot, delta })
  }

  #tell(changes: readonly SharedChange[]): void {
    if (changes.length > 0) this.#counting.shared?.change(changes, this.#ask.id)
  }
}

/** From what was taken to what was used, by the table in `admit/rates.ts`. */
function deltaOf({ local, targets }: Kept, tried: readonly RateSpent[]): number {
  const { count, amount } = local.want
  const unit: RateUnit = count.unit
  if (unit === 'concurrent') return -amount
  const about = tried.filter(
    ({ attempt: { target } }) => targets === null || (target !== null && targets.includes(canonical(target))),
  )
  if (unit !== 'tokens') return about.some(counts) ? 0 : -amount
  return about.reduce((sum, { settlement }) => sum + settlement.charged.tokens, 0) - amount
}

/** Whether the attempt may have reached an upstream, or was answered here. After a failure of ours, doubt counts. */
function counts({ ending: { outcome, dispatched, fault: why } }: RateSpent): boolean {
  return dispatched || outcome === 'answered' || why?.code === 'internal_error'
}

function canonical({ provider, model }: RateTarget): string {
  return folded(`${provider}/${model}`)
}

function tighter(known: RateLeft | null, left: RateLeft): RateLeft {
  if (known === null || left.remaining < known.remaining) return left
  return left.remaining === known.remaining && left.resetMs > known.resetMs ? left : known
}

function isRefused(taken: readonly Taken[] | Refused): taken is Refused {
  return 'waitMs' in taken
}
