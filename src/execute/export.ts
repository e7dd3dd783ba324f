/** The ledger as a file: CSV, JSON or lines of JSON, in pages, as fast as whoever reads it. @module */
import type { Answer } from '../call.ts'
import { type Fault, fault } from '../fault.ts'
import type { Gateway } from '../gateway.ts'
import type { LedgerFilter } from '../stores/store.ts'
import { csvHead, csvLine } from './csv.ts'
import { ledgerView } from './ledger-view.ts'

const pageRows = 500

type Row = Readonly<Record<string, unknown>>

interface Format {
  readonly type: string
  readonly before: string
  readonly row: (row: Row, first: boolean) => string
  readonly after: string
}

/** What `format` may be. */
export const formats: Readonly<Record<string, Format>> = {
  csv: { type: 'text/csv; charset=utf-8; header=present', before: csvHead, row: csvLine, after: '' },
  json: {
    type: 'application/json',
    before: '{"data":[',
    row: (row, first) => `${first ? '' : ','}\n${JSON.stringify(row)}`,
    after: '\n]}\n',
  },
  jsonl: { type: 'application/jsonl', before: '', row: (row) => `${JSON.stringify(row)}\n`, after: '' },
}

export function exported(gateway: Gateway, name: string, filter: LedgerFilter): Answer | Fault {
  const format = Object.hasOwn(formats, name) ? formats[name] : undefined
  if (format === undefined) {
    const why = `must be one of ${Object.keys(formats).join(', ')}`
    return fault({ code: 'invalid_request', where: 'format', why })
  }
  const disposition = `attachment; filename="ledger.${name}"`
  const headers = ['content-type', format.type, 'content-disposition', disposition]
  return { kind: 'pieces', status: 200, headers, pieces: pieces(gateway, format, filter) }
}

async function* pieces({ store }: Gateway, format: Format, filter: LedgerFilter): AsyncGenerator<Buffer> {
  let text = format.before
  let first = true
  for (let after: string | undefined; ; ) {
    const rows = await store.ledger.page({ after, limit: pageRows }, filter)
    for (const row of rows) {
      text += format.row(ledgerView(row), first)
      first = false
    }
    if (rows.length < pageRows) break
    if (text !== '') yield Buffer.from(text)
    text = ''
    after = rows.at(-1)?.id
  }
  text += format.after
  if (text !== '') yield Buffer.from(text)
}
