import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'

const folder = mkdtempSync(join(tmpdir(), 'gatehouse-report-'))
after(() => rmSync(folder, { recursive: true }))

/** Runs test files with the reporter, as a user would. */
function report(files: Record<string, string>): { lines: string[]; text: string } {
  const paths = Object.entries(files).map(([name, content]) => {
    const path = join(folder, name)
    writeFileSync(path, `import { describe, it, test, before } from 'node:test'\n${content}`)
    return path
  })
  const { NODE_TEST_CONTEXT: _, ...env } = process.env
  const reporter = join(import.meta.dirname, 'report.ts')
  const result = spawnSync(process.execPath, ['--test', `--test-reporter=${reporter}`, ...paths], {
    env,
    encoding: 'utf8',
  })
  return { text: result.stdout, lines: result.stdout.trimEnd().split('\n') }
}

describe('the report of a test run', () => {
  it('counts leaves, not the suites and tests around them', () => {
    const { lines } = report({
      'good.mjs': `
        describe('suite', () => { describe('inner', () => { it('a', () => {}) }); it.skip('b', () => {}) })
        test('parent', async (t) => { await t.test('c', () => {}); await t.test('d', () => {}) })
        test.todo('e')`,
    })
    assert.equal(lines.at(-1), '3 passed, 0 failed, 2 skipped')
  })

  it('shows each failure with its path, place and cause, and what the file printed', () => {
    const { lines, text } = report({
      'bad.mjs': `
        describe('suite', () => { it('breaks', () => { console.log('a hint'); throw new Error('the cause') }) })`,
      'quiet.mjs': `test('fine', () => { console.log('noise') })`,
    })
    assert.equal(lines.at(-1), '1 passed, 1 failed, 0 skipped')
    assert.match(text, /1\) suite > breaks\n.*bad\.mjs:3\n.*the cause/)
    assert.match(text, /a hint/)
    assert.doesNotMatch(text, /noise/)
  })

  it('counts a file that cannot be loaded and a suite whose hook failed', () => {
    const crash = report({ 'crash.mjs': `import './missing.mjs'` })
    assert.equal(crash.lines.at(-1), '0 passed, 1 failed, 0 skipped')
    assert.match(crash.text, /missing\.mjs/)
    const hook = report({
      'hook.mjs': `describe('s', () => { before(() => { throw new Error('hook') }); it('x', () => {}) })`,
    })
    assert.match(hook.lines.at(-1) ?? '', /^0 passed, [12] failed, 0 skipped$/)
  })

  it('does not count a file without tests', () => {
    const { lines } = report({ 'empty.mjs': '', 'one.mjs': `test('one', () => {})` })
    assert.equal(lines.at(-1), '1 passed, 0 failed, 0 skipped')
  })
})
