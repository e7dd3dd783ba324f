/** `gatehouse ledger`: whether the books add up, and taking them elsewhere. @module */
import { setTimeout } from 'node:timers/promises'
import type { Command } from 'commander'
import { readSettings } from '../main.ts'
import { readAnchors } from '../record/anchor.ts'
import type { VerifyFault } from '../record/chain-walk.ts'
import { type Verified, verify } from '../record/verify.ts'
import type { Flags, Settings } from '../settings.ts'
import { openSnapshot } from '../stores/open-snapshot.ts'
import { addLedgerExport } from './ledger-export.ts'
import { exits, Failed, fields, print, type Report } from './report.ts'

export function addLedger(program: Command): void {
  const group = program.command('ledger').description('the ledger: verify that it adds up, export it')

  group
    .command('verify')
    .description('compute every chain, balance and cost again from the rows and name the first that does not add up')
    .option('--home <dir>', 'folder with data/ (default: the current one); DATABASE_URL says where else the rows are')
    .option('--json', 'print JSON, for scripts')
    .action(async (options: Pick<Flags, 'home'> & { readonly json?: boolean }) => {
      print(await verified(options), options.json)
    })

  addLedgerExport(group)
}

/** A limit that begins counts what was before it a moment later, so a counter is at fault when it is so twice. */
const againMs = 2000

async function verified(flags: Pick<Flags, 'home'>): Promise<Report | Failed> {
  try {
    const settings = readSettings({ home: flags.home })
    const first = await verifiedNow(settings)
    if (first.fault?.where !== 'balances') return reportOf(first)
    await setTimeout(againMs)
    return reportOf(await verifiedNow(settings))
  } catch (error) {
    return new Failed(exits.refused, error instanceof Error ? error.message : String(error))
  }
}

async function verifiedNow(settings: Settings): Promise<Verified> {
  // Read before the rows, so that no anchor is newer than what it is held against.
  const anchors = readAnchors(settings.anchors)
  const snapshot = await openSnapshot(settings.database)
  try {
    const result = await verify(snapshot, anchors?.anchors ?? null)
    const unreadable = anchors?.unreadable ?? 0
    const notes = unreadable === 0 ? [] : [`${unreadable} lines of ${settings.anchors} cannot be read`]
    return { ...result, notes: [...result.notes, ...notes] }
  } finally {
    await snapshot.close()
  }
}

function reportOf(result: Verified): Report {
  const { fault, notes, rows, chains, audit_rows, counters, erased, removed, priced } = result
  const about = fields([
    ['rows', `${rows} in ${chains} ${chains === 1 ? 'chain' : 'chains'}`],
    ['audit rows', String(audit_rows)],
    ['counters', String(counters)],
    ['costs', `${priced} computed again`],
    ['erased', erased === 0 ? null : `the notes of ${erased}`],
    ['removed', removed === 0 ? null : `${removed} rows, by retention`],
  ])
  const told = notes.map((note) => `\nnote: ${note}`).join('')
  const verdict = fault === null ? 'everything adds up' : faultText(fault)
  return {
    json: { ok: fault === null, ...result },
    text: `${fault === null ? `${about}\n` : ''}${verdict}${told}`,
    exit: fault === null ? exits.done : exits.refused,
  }
}

function faultText({ where, wrong, writer, seq, id, message }: VerifyFault): string {
  const row = [
    ...(writer === null ? [] : [`writer ${writer}`]),
    ...(seq === null ? [] : [`seq ${seq}`]),
    ...(id === null ? [] : [`id ${id}`]),
  ].join(', ')
  return `does not add up: ${where}${row === '' ? '' : ` ${row}`}: ${message} (${wrong})`
}
