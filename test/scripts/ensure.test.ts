import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'

let clone: string

beforeEach(() => {
  clone = mkdtempSync(join(tmpdir(), 'gatehouse-ensure-'))
  mkdirSync(join(clone, 'scripts'))
  copyFileSync(join(import.meta.dirname, '..', '..', 'scripts', 'ensure.mjs'), join(clone, 'scripts', 'ensure.mjs'))
  writeFileSync(join(clone, 'package-lock.json'), '{}')
  // Stands in for npm: it says what it was asked and leaves what an installation leaves.
  writeFileSync(
    join(clone, 'npm.cjs'),
    `const fs = require('fs'); console.log('npm', ...process.argv.slice(2))
     fs.mkdirSync('node_modules/.bin', { recursive: true }); fs.writeFileSync('node_modules/.package-lock.json', '{}')
     fs.rmSync('node_modules/.bin/node', { force: true }); fs.symlinkSync(process.execPath, 'node_modules/.bin/node')`,
  )
})
afterEach(() => rmSync(clone, { recursive: true }))

function ensure(npm = 'npm.cjs') {
  const env = { ...process.env, npm_execpath: join(clone, npm), npm_node_execpath: process.execPath }
  return spawnSync(process.execPath, [join(clone, 'scripts', 'ensure.mjs')], { cwd: tmpdir(), env, encoding: 'utf8' })
}

function installed(node?: string) {
  mkdirSync(join(clone, 'node_modules', '.bin'), { recursive: true })
  writeFileSync(join(clone, 'node_modules', '.package-lock.json'), '{}')
  if (node !== undefined) symlinkSync(node, join(clone, 'node_modules', '.bin', 'node'))
}

describe('what runs before the npm scripts', () => {
  it('installs in a fresh clone, in the clone, from the lock file', () => {
    const { status, stdout } = ensure()
    assert.deepEqual([status, stdout], [0, 'npm ci --no-audit --no-fund\n'])
  })

  it('does nothing when everything is there', () => {
    installed(process.execPath)
    const { status, stdout, stderr } = ensure()
    assert.deepEqual([status, stdout, stderr], [0, '', ''])
  })

  it('installs again when the lock file is newer than the installation', () => {
    installed()
    utimesSync(join(clone, 'package-lock.json'), new Date(), new Date(Date.now() + 60_000))
    assert.match(ensure().stdout, /^npm ci/)
  })

  it('says so and fails when the installation fails', () => {
    const { status, stderr } = ensure('no-npm.cjs')
    assert.notEqual(status, 0)
    assert.match(stderr, /Installing the dependencies failed\. Run "npm ci" in /)
  })

  it('names the Node that is needed when the scripts would get an old one', () => {
    const old = join(clone, 'old-node')
    writeFileSync(old, '#!/bin/sh\necho v20.20.2\n', { mode: 0o755 })
    installed(old)
    const { status, stderr } = ensure()
    assert.equal(status, 1)
    assert.match(stderr, /needs Node 22\.19 or newer .* v20\.20\.2/)
  })
})
