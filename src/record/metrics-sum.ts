/** Metrics of several processes as one text: who scrapes one port asks whichever process answers. @module */

/** Not sums: the oldest configuration of any process, and whether everybody reaches Redis. */
const least = new Set(['gatehouse_config_epoch', 'gatehouse_redis_up'])

/** Adds up texts of the Prometheus format that come from the same program, series by series. */
export function sumOf(texts: readonly string[]): string {
  const [only] = texts
  if (texts.length === 1) return only as string
  // In the order of the first text; what only others have comes behind, with its own comments.
  const lines = new Map<string, number | null>()
  for (const text of texts) {
    for (const line of text.split('\n')) {
      const space = line.lastIndexOf(' ')
      if (line === '' || line.startsWith('#')) {
        if (line !== '') lines.set(line, null)
        continue
      }
      const series = line.slice(0, space)
      const value = Number(line.slice(space + 1))
      const before = lines.get(series)
      const name = series.replace(/\{.*/, '')
      if (before === undefined || before === null) lines.set(series, value)
      else lines.set(series, least.has(name) ? Math.min(before, value) : before + value)
    }
  }
  return `${[...lines].map(([series, value]) => (value === null ? series : `${series} ${value}`)).join('\n')}\n`
}
