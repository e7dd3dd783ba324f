/** `gatehouse policy`: what the policies say, and whether it is what was meant. @module */
import { type Command, InvalidArgumentError } from 'commander'
import type { Account, Tool } from '../call.ts'
import { describeFault } from '../config/document.ts'
import { loadPolicyTests } from '../config/load.ts'
import { Fault, explain as told } from '../fault.ts'
import { parseStrict } from '../json.ts'
import { type Decision, decide, rolesOf } from '../policy/decide.ts'
import { several } from './account-view.ts'
import { reached } from './admin-api.ts'
import { failure, type HomeOptions, runTests } from './check.ts'
import { type Home, readHome, usable } from './home.ts'
import { askAbout, roleAccount } from './policy-subject.ts'
import { exits, Failed, fields, print, type Report } from './report.ts'

export interface Question extends HomeOptions {
  readonly key?: string
  readonly role: readonly string[]
  readonly tool: string
  readonly args?: Readonly<Record<string, unknown>>
  readonly url?: string
}

export function addPolicy(program: Command): void {
  const group = program.command('policy').description('what the policies say')

  group
    .command('test')
    .description('run policies/tests/*.yaml')
    .option('--home <dir>', 'folder with registry/ and policies/ (default: the current one)')
    .option('--json', 'print JSON, for scripts')
    .action(async (options: HomeOptions) => print(await testPolicies(options), options.json))

  group
    .command('explain')
    .description('the decision about one tool call, the rule, and the file and line it comes from')
    .requiredOption('--tool <name>', '<server>__<tool>')
    .option('--args <json>', 'the arguments; left out: whether the tool is listed', objectOption)
    .option('--key <id>', 'a key or session by id, asked of the running gateway')
    .option('--role <role>', 'instead of a key, without a gateway; may be repeated', several, [])
    .option('--home <dir>', 'folder with registry/ and policies/ (default: the current one)')
    .option(
      '--url <url>',
      'the gateway, for --key (default: GATEHOUSE_PUBLIC_URL, else http://127.0.0.1 with PORT or 8787)',
    )
    .option('--json', 'print JSON, for scripts')
    .action(async (options: Question) => print(await explain(options), options.json))
}

/** Runs the policy tests of a home. */
export async function testPolicies(options: HomeOptions): Promise<Report | Failed> {
  const home = usable(await readHome(options))
  if (home instanceof Failed) return home
  const tests = await loadPolicyTests(home.path)
  if ('faults' in tests) {
    return new Failed(exits.refused, `the tests have faults:\n${tests.faults.map(describeFault).join('\n')}`)
  }
  const results = runTests(home, tests.tests)
  const failures = results.filter(({ passed }) => !passed).map(failure)
  const passed = results.length - failures.length
  return {
    json: { passed, failed: failures.length, failures },
    text: [...failures.map(describeFault), `${passed} passed, ${failures.length} failed`].join('\n'),
    exit: failures.length === 0 ? exits.done : exits.refused,
  }
}

/** One decision, for roles from the files of a home, for a key with what the gateway says of it. */
export async function explain(options: Question): Promise<Report | Failed> {
  const { key, role, tool: name } = options
  if ((key === undefined) === (role.length === 0)) return new Failed(exits.usage, 'give either --key or --role')
  if (!/^.+?__.+$/.test(name)) return new Failed(exits.usage, `"${name}" is no tool name; write <server>__<tool>`)
  const home = usable(await readHome(options))
  if (home instanceof Failed) return home
  if (key === undefined) {
    const known = home.tools.find((tool) => tool.outward === name)
    const isHidden = known === undefined && home.unlisted.includes(name.slice(0, name.indexOf('__')))
    const note = isHidden
      ? 'only a running gateway knows the tools of this server; the tool is taken by its name'
      : 'no server in registry/servers/ has this tool; a call would answer tool_not_found'
    return answer(home, options, roleAccount(role), known, known === undefined ? [note] : [])
  }
  const subject = await reached(options, (api) => askAbout(api, key, name, home.config.hash))
  return subject instanceof Failed ? subject : answer(home, options, subject.account, subject.tool, subject.notes)
}

function answer(
  home: Home,
  { tool: name, args, role, key }: Question,
  account: Account,
  known: Tool | undefined,
  notes: readonly string[],
): Report {
  const at = name.indexOf('__')
  const tool = known ?? { server: name.slice(0, at), name: name.slice(at + 2), outward: name, definition: {} }
  const decision = decide(home.config.policy, { account, tool, args: args ?? null })
  const place = placeText(decision)
  const trial = decision.wouldDeny
  const said = decision.allowed ? 'allow' : 'deny'
  const roles = key === undefined ? role : rolesOf(account)
  return {
    json: {
      tool: name,
      args: args ?? null,
      decision: said,
      rule: decision.rule,
      reason: decision.reason,
      file: decision.file === null ? null : `policies/tools/${decision.file}`,
      line: decision.line,
      mode: decision.mode,
      would_deny: trial === null ? null : trial.id,
      key: key ?? null,
      roles,
      notes,
    },
    text: [
      fields([
        ['decision', args === undefined ? `${said} (to be listed; give --args for a call)` : said],
        ['rule', decision.rule],
        ['at', place],
        ['reason', decision.reason],
        ['on trial', trial === null ? null : `${trial.id} (policies/tools/${trial.file}:${trial.line}) would deny it`],
        ['roles', roles.join(' ') || 'none'],
      ]),
      ...notes.map((note) => `note: ${note}`),
    ].join('\n'),
  }
}

function placeText({ file, line }: Decision): string | null {
  return file === null ? null : `policies/tools/${file}:${line}`
}

/** Read as a call would be, so that what is explained is what would be decided. */
function objectOption(text: string): Readonly<Record<string, unknown>> {
  const read = parseStrict(Buffer.from(text), 'the JSON')
  if (read instanceof Fault) throw new InvalidArgumentError(told(read.body))
  const { value } = read
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new InvalidArgumentError('The arguments are a JSON object, as in {"amount": 5}.')
  }
  return value as Record<string, unknown>
}
