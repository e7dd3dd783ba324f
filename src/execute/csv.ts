/** Ledger rows as CSV (RFC 4180), safe to open in a spreadsheet. @module */

/** Columns in their order; a name here is a field of the row as `ledgerView` shows it. */
const columns = [
  ...['id', 'call', 'attempt', 'at', 'booked', 'account', 'session', 'kind', 'model', 'provider', 'upstream_model'],
  ...['tool', 'rule', 'outcome', 'code', 'usd', 'tokens', 'requests', 'tool_calls', 'input', 'output', 'cache_read'],
  ...['cache_write', 'reasoning', 'usage_source', 'price_version', 'overrun', 'latency_ms', 'first_byte_ms', 'step'],
  ...['traceparent', 'labels', 'writer', 'seq', 'hash'],
]

export const csvHead = `${columns.join(',')}\r\n`

export function csvLine(row: Readonly<Record<string, unknown>>): string {
  return `${columns.map((name) => csvCell(row[name])).join(',')}\r\n`
}

/** Text from callers that a spreadsheet would run as a formula begins with an apostrophe; a plain number is none. */
export function csvCell(value: unknown): string {
  if (value === null || value === undefined) return ''
  const text = typeof value === 'object' ? JSON.stringify(value) : String(value)
  const safe = /^[=+\-@\t\r]/.test(text) && !/^-?\d+(\.\d+)?$/.test(text) ? `'${text}` : text
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe
}
