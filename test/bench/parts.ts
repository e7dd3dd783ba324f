/**
 * The measurements. Each compares two targets in interleaved rounds (A, B, A, B, ...), so that a change of the machine's
 * mood meets both; the ratio is the median of the rounds' own ratios.
 * @module
 */
import { load } from './load.ts'
import { cpuMs, median, pinSelf, quantile, residentBytes } from './measure.ts'
import { openMany, openStream } from './streams.ts'
import {
  benchModels,
  gatewayExists,
  startBare,
  startGateway,
  startUpstream,
  type Target,
  type Upstream,
} from './targets.ts'

/** One quantity, measured on several targets in turn. */
export interface Comparison {
  readonly what: string
  readonly unit: string
  /** Per target, in the order of the rounds. */
  readonly values: Readonly<Record<string, number[]>>
  /** Share of its core each target got, where it could have used all of it. */
  readonly share: Readonly<Record<string, number[]>>
}

/** Requests after which nearly everything on the path has been compiled. */
const compiled = 15_000

/** Concurrency at which processor time per request is stated. */
const concurrency = 64

/** Below this share of its core a target was disturbed: its processor time is inflated. */
const undisturbed = 0.95

/** Rounds to believe: where the share of the core says something, the undisturbed ones, unless hardly any are left. */
function believed({ values, share }: Comparison): number[] {
  const rounds = [...(Object.values(values)[0] ?? [])].map((_, index) => index)
  const clean = rounds.filter((index) => Object.values(share).every((list) => (list[index] ?? 1) >= undisturbed))
  return clean.length >= 2 ? clean : rounds
}

/** Median over the rounds of the second target's value divided by the first's. */
export function ratio(comparison: Comparison): number {
  const [base = [], other = []] = Object.values(comparison.values)
  return median(believed(comparison).map((index) => (other[index] ?? Number.NaN) / (base[index] ?? Number.NaN)))
}

/** Median over the rounds of what the second target takes more than the first. */
export function added(comparison: Comparison): number {
  const [base = [], other = []] = Object.values(comparison.values)
  return median(believed(comparison).map((index) => (other[index] ?? Number.NaN) - (base[index] ?? Number.NaN)))
}

function comparison(what: string, unit: string, targets: readonly Target[]): Comparison {
  const empty = () => Object.fromEntries(targets.map((target) => [target.name, [] as number[]]))
  return { what, unit, values: empty(), share: empty() }
}

function note(into: Comparison, target: Target, value: number, share?: number): void {
  into.values[target.name]?.push(value)
  if (share !== undefined) into.share[target.name]?.push(share)
}

/** The same number of requests to each before anything is measured. */
export async function warmUp(targets: readonly Target[], requests: number): Promise<void> {
  for (const target of targets) await send(target, benchModels.whole, requests, 0)
}

function send(target: Target, model: string, requests: number, rate: number) {
  return load({ port: target.port, model, connections: concurrency, requests, rate, headers: target.headers })
}

/** Processor time per whole request, closed loop. */
export async function wholeRequests(targets: readonly Target[], rounds: number, requests: number): Promise<Comparison> {
  const result = comparison(`CPU per request, c = ${concurrency}`, 'us', targets)
  for (let round = 0; round < rounds; round++) {
    for (const target of targets) {
      const before = cpuMs(target.pid)
      const { completed, seconds } = await send(target, benchModels.whole, requests, 0)
      const used = cpuMs(target.pid) - before
      note(result, target, (used * 1000) / completed, used / 1000 / seconds)
    }
  }
  return result
}

/** Latency at a fixed rate, counted from the scheduled time. */
export async function fixedRate(
  targets: readonly Target[],
  rounds: number,
  rate: number,
  seconds: number,
): Promise<[p50: Comparison, p99: Comparison]> {
  const p50 = comparison(`latency p50 at ${rate} rps`, 'us', targets)
  const p99 = comparison(`latency p99 at ${rate} rps`, 'us', targets)
  for (let round = 0; round < rounds; round++) {
    for (const target of targets) {
      const result = await send(target, benchModels.whole, rate * seconds, rate)
      note(p50, target, result.p50us)
      note(p99, target, result.p99us)
    }
  }
  return [p50, p99]
}

/** Time to the first event of a stream, one stream at a time. */
export async function firstEvent(targets: readonly Target[], rounds: number, streams: number): Promise<Comparison> {
  const result = comparison('time to first event, p50', 'us', targets)
  for (let round = 0; round < rounds; round++) {
    for (const target of targets) {
      const times: number[] = []
      for (let index = 0; index < streams; index++) {
        const stream = openStream(target, benchModels.burst)
        times.push((await stream.first) * 1000)
        await stream.ended
      }
      note(result, target, quantile(times, 0.5))
    }
  }
  return result
}

/** Processor time per chunk: that many streams of 100 chunks, one every 20 ms. */
export async function chunks(targets: readonly Target[], rounds: number, streams: number): Promise<Comparison> {
  const result = comparison(`CPU per chunk, ${streams} streams`, 'us', targets)
  for (let round = 0; round < rounds; round++) {
    for (const target of targets) {
      const before = cpuMs(target.pid)
      const open = await openMany(target, benchModels.paced, streams)
      const counts = await Promise.all(open.map((stream) => stream.ended))
      const used = cpuMs(target.pid) - before
      // 100 chunks, then the finish reason and the usage.
      const wrong = counts.find((count) => count !== 102)
      if (wrong !== undefined) throw new Error(`${target.name} passed on ${wrong} of 102 events of a stream`)
      note(result, target, (used * 1000) / (streams * 102))
    }
  }
  return result
}

/** Whether a caller has the first chunk while the upstream still holds back the second. Hangs are errors. */
export async function firstBeforeSecond(target: Target, upstream: Upstream): Promise<void> {
  const stream = openStream(target, benchModels.idle)
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${target.name} keeps the first chunk until the second comes`)), 5000)
  })
  await Promise.race([stream.first, late])
  await upstream.release()
  await Promise.race([stream.ended, late])
  clearTimeout(timer)
}

/**
 * Resident memory per open stream that is silent; twice `streams` are opened at once. Every round has fresh processes: memory once taken
 * is rarely returned.
 */
export async function memory(
  upstream: Upstream,
  starters: readonly (() => Promise<Target>)[],
  rounds: number,
  streams: number,
  warm: number,
): Promise<Comparison> {
  let result: Comparison | null = null
  for (let round = 0; round < rounds; round++) {
    for (const starter of starters) {
      const target = await starter()
      try {
        result ??= comparison(`memory per open stream, ${streams} streams`, 'KB', [])
        await warmUp([target], warm)
        // The first streams fill room the heap has taken already; what the next ones need is the price of a stream.
        const open = await openMany(target, benchModels.idle, streams)
        const before = residentBytes(target.pid)
        open.push(...(await openMany(target, benchModels.idle, streams)))
        const each = (residentBytes(target.pid) - before) / 1024 / streams
        const values = result.values as Record<string, number[]>
        values[target.name] = [...(values[target.name] ?? []), each]
        await upstream.release()
        await Promise.all(open.map((stream) => stream.ended))
      } finally {
        await target.stop()
      }
    }
  }
  if (result === null) throw new RangeError('memory needs at least one round')
  return result
}

export interface BenchRatios {
  /** Processor time per whole request, gateway over bare proxy. */
  readonly llm: number
  readonly chunks: number
  readonly memory: number
  /** Every value behind the ratios. */
  readonly comparisons: readonly Comparison[]
}

/**
 * The short form: the ratios alone, gateway over bare proxy. Without a gateway in this checkout two bare proxies are
 * compared, which shows the noise of the harness.
 *
 * @param options `requests` per round and target, at least 2,000 for the kernel's clock to resolve them
 * @throws {Error} any request or stream that went wrong
 */
export async function benchRatios(options: {
  readonly rounds: number
  readonly requests: number
  readonly streams?: number
  readonly idle?: number
}): Promise<BenchRatios> {
  const { rounds, requests, streams = 200, idle = 1000 } = options
  pinSelf(1)
  const upstream = await startUpstream()
  const starters = [() => startBare(upstream), second(upstream)]
  const targets: Target[] = []
  try {
    for (const starter of starters) targets.push(await starter())
    await warmUp(targets, Math.max(requests, compiled))
    for (const target of targets) await firstBeforeSecond(target, upstream)
    const whole = await wholeRequests(targets, rounds, requests)
    const paced = await chunks(targets, rounds, streams)
    for (const target of targets.splice(0)) await target.stop()
    const held = await memory(upstream, starters, rounds, idle, requests)
    return { llm: ratio(whole), chunks: ratio(paced), memory: ratio(held), comparisons: [whole, paced, held] }
  } finally {
    for (const target of targets) await target.stop()
    await upstream.stop()
  }
}

/** The gateway, or where it cannot be started another bare proxy. */
export function second(upstream: Upstream): () => Promise<Target> {
  return gatewayExists ? () => startGateway(upstream) : () => startBare(upstream, 'bare again')
}
