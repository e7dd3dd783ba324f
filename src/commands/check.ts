/** `gatehouse check`: everything in registry/ and policies/ that would not work, with its place. @module */
import type { Command } from 'commander'
import { type ConfigFault, describeFault } from '../config/document.ts'
import { loadPolicyTests } from '../config/load.ts'
import { type PolicyTest, type PolicyTestResult, runPolicyTests } from '../policy/policy-tests.ts'
import { judgeConditions } from './conditions.ts'
import { type Home, readHome } from './home.ts'
import { exits, Failed, print, type Report } from './report.ts'

export interface HomeOptions {
  readonly home?: string
  readonly json?: boolean
}

export function addCheck(program: Command): void {
  program
    .command('check')
    .description('validate registry/ and policies/ and run the policy tests')
    .option('--home <dir>', 'folder with registry/ and policies/ (default: the current one)')
    .option('--json', 'print JSON, for scripts')
    .action(async (options: HomeOptions) => print(await check(options), options.json))
}

/** Reads a home whole. @returns faults and notes with their places, exit status 1 on any fault */
export async function check(options: HomeOptions): Promise<Report | Failed> {
  const home = await readHome(options)
  if (home instanceof Failed) return home
  const tests = await loadPolicyTests(home.path)
  const testFaults = 'faults' in tests ? tests.faults : []
  if ('broken' in home) return report([...home.broken, ...testFaults], [], null)
  const conditions = await judgeConditions(home)
  const results = 'tests' in tests ? runTests(home, tests.tests) : []
  const failed = results.filter(({ passed }) => !passed)
  return report(
    [...home.faults, ...testFaults, ...conditions.faults, ...failed.map(failure)],
    [...home.notes, ...conditions.notes, ...('tests' in tests ? strangers(home, tests.tests) : [])],
    { ...counts(home), policy_tests: results.length },
  )
}

/** The tests of a home against its policies, with the tools that are known. */
export function runTests(home: Home, tests: readonly PolicyTest[]): readonly PolicyTestResult[] {
  return runPolicyTests(home.config.policy, tests, new Map(home.tools.map((tool) => [tool.outward, tool])))
}

/** Tests of tools that nobody has: one that expects a refusal passes whatever the policies say. */
function strangers({ tools, unlisted }: Home, tests: readonly PolicyTest[]): readonly string[] {
  const known = new Set(tools.map((tool) => tool.outward))
  return tests
    .filter(({ row }) => !known.has(row.tool) && !unlisted.includes(row.tool.slice(0, row.tool.indexOf('__'))))
    .map(({ file, line, row }) => `${file}:${line}:1 no server in registry/servers/ has the tool ${row.tool}`)
}

/** A failed policy test as a fault at its place. */
export function failure({ test, decision }: PolicyTestResult): ConfigFault {
  const { file, line, row } = test
  const rule =
    decision.file === null ? decision.rule : `${decision.rule}, policies/tools/${decision.file}:${decision.line}`
  const got = `${decision.allowed ? 'allow' : 'deny'} (${rule})`
  const why = decision.reason === null ? '' : `: ${decision.reason}`
  const message = `${row.tool} for the role "${row.role}": expected ${row.expect}, got ${got}${why}`
  return { file, line, column: 1, message }
}

function counts({ config, tools }: Home): Record<string, number> {
  const { providers, models, routes, servers, policy } = config
  return {
    providers: providers.size,
    models: models.size,
    routes: routes.size,
    servers: servers.size,
    policies: [...policy.byRole.values()].flat().length,
    tools_known_from_files: tools.length,
  }
}

function report(
  faults: readonly ConfigFault[],
  notes: readonly string[],
  found: Readonly<Record<string, number>> | null,
): Report {
  const lines = [...faults.map(describeFault), ...notes.map((note) => `note: ${note}`)]
  if (found !== null) {
    lines.push(
      Object.entries(found)
        .map(([what, count]) => `${count} ${what.replaceAll('_', ' ')}`)
        .join(', '),
    )
  }
  lines.push(faults.length === 0 ? 'no faults' : `${faults.length} ${faults.length === 1 ? 'fault' : 'faults'}`)
  return {
    json: { ok: faults.length === 0, faults, notes, found },
    text: lines.join('\n'),
    exit: faults.length === 0 ? exits.done : exits.refused,
  }
}
