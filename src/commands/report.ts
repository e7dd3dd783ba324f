/** What a command says: a report as text or JSON, or why it could not be done; and the exit status either way. @module */

/** Exit statuses, for scripts. */
export const exits = {
  done: 0,
  /** The answer is no: faults were found, a test failed, the gateway refused. */
  refused: 1,
  /** The command line is wrong. */
  usage: 2,
  /** No gateway answers at the address. */
  unreachable: 3,
  /** The admin key is missing or refused. */
  key: 4,
} as const

/** The lines `--help` ends with. */
export const exitHelp = `
Exit status: 0 done, 1 refused or faults found, 2 wrong command line, 3 no gateway answers, 4 admin key missing or refused.`

export interface Report {
  /** Printed with `--json`. */
  readonly json: unknown
  /** Printed otherwise; without a final line break. */
  readonly text: string
  readonly exit?: number
}

/** Why a command could not be done. Not an Error: it is told, not thrown. */
export class Failed {
  readonly exit: number
  readonly message: string
  constructor(exit: number, message: string) {
    this.exit = exit
    this.message = message
  }
}

/** Reports go to standard output, failures to standard error. The status is set and not forced, so pipes get everything. */
export function print(said: Report | Failed, asJson: boolean | undefined): void {
  // A reader that has seen enough (`| head`) is no failure.
  process.stdout.once('error', () => {})
  if (said instanceof Failed) {
    process.stderr.write(`gatehouse: ${plain(said.message)}\n`)
    process.exitCode = said.exit
    return
  }
  process.stdout.write(`${asJson === true ? JSON.stringify(said.json, null, 2) : said.text}\n`)
  process.exitCode = said.exit ?? exits.done
}

/**
 * Columns under their heads, as wide as their widest cell; the last one runs free.
 *
 * @param empty said instead when there are no rows
 */
export function table(heads: readonly string[], rows: readonly (readonly string[])[], empty: string): string {
  if (rows.length === 0) return empty
  const cells = [heads, ...rows].map((row) => row.map((cell) => (cell === '' ? '-' : plain(cell))))
  const widths = heads.map((_, at) => Math.max(...cells.map((row) => row[at]?.length ?? 0)))
  return cells
    .map((row) => row.map((cell, at) => (at === row.length - 1 ? cell : cell.padEnd(widths[at] ?? 0))).join('  '))
    .join('\n')
}

/** Names and values below each other; those without a value are left out. */
export function fields(pairs: readonly (readonly [string, string | null])[]): string {
  const given = pairs.filter((pair): pair is readonly [string, string] => pair[1] !== null)
  const width = Math.max(...given.map(([name]) => name.length))
  return given.map(([name, value]) => `${name.padEnd(width)}  ${plain(value)}`).join('\n')
}

/** Names and descriptions come from servers and callers; a terminal must not take them for commands. */
export function plain(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must go
  return text.replace(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, '?')
}
