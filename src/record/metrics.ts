/** Prometheus metrics. Labels come from tables and configuration, never from what callers invent. @module */
import { Counter, Gauge, Registry } from 'prom-client'
import type { CallSummary, Metrics } from '../gateway.ts'
import { createDurations } from './durations.ts'

export interface MetricSources {
  readonly openHolds: () => number
  readonly accounts: () => number
  readonly inFlight: () => number
  readonly epoch: () => number
  /** Whether Redis answers; null where none is used. */
  readonly redisUp: () => 0 | 1 | null
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
  const limited = new Counter({
    name: 'gatehouse_rate_limited_total',
    help: 'Calls refused by a rate limit, by what the limit counts per',
    labelNames: ['scope'] as const,
    registers,
  })
  const alerts = new Counter({
    name: 'gatehouse_budget_alerts_total',
    help: 'Budgets that reached a threshold, in percent; counted by the process that saw it first',
    labelNames: ['unit', 'threshold'] as const,
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
  gauge('gatehouse_accounts_in_memory', 'Accounts, keys and sessions kept in memory', sources.accounts)
  gauge('gatehouse_in_flight', 'Requests at work', sources.inFlight)
  gauge('gatehouse_config_epoch', 'Configuration snapshots since the start', sources.epoch)
  if (sources.redisUp() !== null) gauge('gatehouse_redis_up', 'Whether Redis answers', () => sources.redisUp() ?? 0)
  gauge('process_resident_memory_bytes', 'Resident memory', () => process.memoryUsage.rss())

  const durations = createDurations()
  let latest: Tally | null = null

  function tallyOf({ call, ending, provider: served }: CallSummary): Tally {
    const { kind } = call
    const { outcome } = ending
    const code = ending.fault?.code ?? ''
    const provider = served ?? ''
    // Most calls are like the one before, and comparing is cheaper than looking up.
    if (latest !== null) {
      const { labels } = latest
      if (labels.kind === kind && labels.outcome === outcome && labels.code === code && labels.provider === provider)
        return latest
    }
    const key = `${kind} ${outcome} ${code} ${provider}`
    latest = tallies.get(key) ?? { labels: { kind, outcome, code, provider }, calls: 0, input: 0, output: 0, cost: 0 }
    tallies.set(key, latest)
    return latest
  }

  return {
    call(summary) {
      const tally = tallyOf(summary)
      tally.calls++
      durations.observe(summary.call.kind, summary.latencyMs)
      const { usage, fault } = summary.ending
      if (fault?.body.code === 'rate_limited' && fault.body.scope !== undefined)
        limited.inc({ scope: fault.body.scope })
      if (usage.source === 'none') return
      tally.input += usage.input
      tally.output += usage.output
      tally.cost += summary.usd
    },
    alert: (unit, threshold) => alerts.inc({ unit, threshold }),
    render: async () => (await registry.metrics()) + durations.render(),
  }
}
