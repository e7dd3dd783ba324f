/** Prometheus metrics. Labels come from tables and configuration, never from what callers invent. @module */
import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { CallSummary, Metrics } from '../gateway.ts'

export interface MetricSources {
  readonly openHolds: () => number
  readonly inFlight: () => number
  readonly epoch: () => number
}

export function openMetrics(sources: MetricSources): Metrics {
  const registry = new Registry()
  const registers = [registry]
  const calls = new Counter({
    name: 'gatehouse_calls_total',
    help: 'Finished calls by kind, outcome, fault code and provider',
    labelNames: ['kind', 'outcome', 'code', 'provider'] as const,
    registers,
  })
  const seconds = new Histogram({
    name: 'gatehouse_call_seconds',
    help: 'Time from entry to the recorded end, upstream included',
    labelNames: ['kind'] as const,
    buckets: [0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300],
    registers,
  })
  const tokens = new Counter({
    name: 'gatehouse_tokens_total',
    help: 'Tokens charged',
    labelNames: ['direction', 'provider'] as const,
    registers,
  })
  const cost = new Counter({
    name: 'gatehouse_cost_usd_total',
    help: 'Dollars charged',
    labelNames: ['provider'] as const,
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

  // Looking a child up by its labels costs more than counting; each combination is looked up once.
  const bound = new Map<string, (summary: CallSummary) => void>()
  function bind({ call, ending, provider }: CallSummary): (summary: CallSummary) => void {
    const by = provider ?? ''
    const counted = calls.labels(call.kind, ending.outcome, ending.fault?.code ?? '', by)
    const timed = seconds.labels(call.kind)
    const input = tokens.labels('input', by)
    const output = tokens.labels('output', by)
    const spent = cost.labels(by)
    return (summary) => {
      counted.inc()
      timed.observe(summary.latencyMs / 1000)
      const { usage } = summary.ending
      if (usage.source === 'none') return
      input.inc(usage.input)
      output.inc(usage.output)
      if (summary.usd > 0) spent.inc(summary.usd / 1_000_000)
    }
  }

  return {
    call(summary) {
      const key = `${summary.call.kind} ${summary.ending.outcome} ${summary.ending.fault?.code ?? ''} ${summary.provider ?? ''}`
      let count = bound.get(key)
      if (count === undefined) {
        count = bind(summary)
        bound.set(key, count)
      }
      count(summary)
    },
    render: () => registry.metrics(),
  }
}
