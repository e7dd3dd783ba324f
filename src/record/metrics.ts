/** Prometheus metrics. Labels come from tables and configuration, never from what callers invent. @module */
import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { CallSummary, Metrics } from '../gateway.ts'

export interface MetricSources {
  readonly openHolds: () => number
  readonly inFlight: () => number
  readonly epoch: () => number
}

/** What has been counted of calls that are alike in every label. */
interface Tally {
  readonly labels: { readonly kind: string; readonly outcome: string; readonly code: string; readonly provider: string }
  calls: number
  input: number
  output: number
  /** Micro-dollars. */
  cost: number
}

export function openMetrics(sources: MetricSources): Metrics {
  const registry = new Registry()
  const registers = [registry]
  // Calls are added up in plain numbers and told to the registry when somebody looks: its own counting costs more.
  const tallies = new Map<string, Tally>()
  const counter = (name: string, help: string, labelNames: string[], tell: (counter: Counter, tally: Tally) => void) =>
    new Counter({
      name,
      help,
      labelNames,
      registers,
      collect() {
        this.reset()
        for (const tally of tallies.values()) tell(this, tally)
      },
    })
  counter(
    'gatehouse_calls_total',
    'Finished calls by kind, outcome, fault code and provider',
    ['kind', 'outcome', 'code', 'provider'],
    (told, { labels, calls }) => told.inc({ ...labels }, calls),
  )
  counter('gatehouse_tokens_total', 'Tokens charged', ['direction', 'provider'], (told, { labels, input, output }) => {
    const { provider } = labels
    if (input > 0) told.inc({ direction: 'input', provider }, input)
    if (output > 0) told.inc({ direction: 'output', provider }, output)
  })
  counter('gatehouse_cost_usd_total', 'Dollars charged', ['provider'], (told, { labels, cost }) => {
    if (cost > 0) told.inc({ provider: labels.provider }, cost / 1_000_000)
  })
  const seconds = new Histogram({
    name: 'gatehouse_call_seconds',
    help: 'Time from entry to the recorded end, upstream included',
    labelNames: ['kind'] as const,
    buckets: [0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300],
    registers,
  })
  const gauge = (name: string, help: string, read: () => number) =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(read())
      },
    })
  gauge('gatehouse_open_holds', 'Holds not yet settled', sources.openHolds)
  gauge('gatehouse_in_flight', 'Requests at work', sources.inFlight)
  gauge('gatehouse_config_epoch', 'Configuration snapshots since the start', sources.epoch)
  gauge('process_resident_memory_bytes', 'Resident memory', () => process.memoryUsage.rss())

  // Looking a histogram's child up by its labels costs more than observing.
  const timed = new Map<string, { observe(value: number): void }>()
  function timer(kind: string): { observe(value: number): void } {
    let child = timed.get(kind)
    if (child === undefined) {
      child = seconds.labels(kind)
      timed.set(kind, child)
    }
    return child
  }

  function tallyOf({ call, ending, provider }: CallSummary): Tally {
    const labels = {
      kind: call.kind,
      outcome: ending.outcome,
      code: ending.fault?.code ?? '',
      provider: provider ?? '',
    }
    const key = `${labels.kind} ${labels.outcome} ${labels.code} ${labels.provider}`
    let tally = tallies.get(key)
    if (tally === undefined) {
      tally = { labels, calls: 0, input: 0, output: 0, cost: 0 }
      tallies.set(key, tally)
    }
    return tally
  }

  return {
    call(summary) {
      const tally = tallyOf(summary)
      tally.calls++
      timer(summary.call.kind).observe(summary.latencyMs / 1000)
      const { usage } = summary.ending
      if (usage.source === 'none') return
      tally.input += usage.input
      tally.output += usage.output
      tally.cost += summary.usd
    },
    render: () => registry.metrics(),
  }
}
