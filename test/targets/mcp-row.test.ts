import assert from 'node:assert/strict'
import { test } from 'node:test'
import { mcpRowSchema, unpinned } from '../../src/targets/mcp-row.ts'

test('a package runner has to name an exact version', () => {
  const pinned = [
    ['npx', '-y', '@scope/server@1.2.3', './x'],
    ['npx', 'server@1.2.3-beta.1'],
    ['/usr/bin/npx', '--yes', '--package=server@1.0.0', 'run-it'],
    ['npx', '-p', '@scope/a@1.0.0', 'run-it', '--port', '1'],
    ['uvx', 'mcp-server-git==2026.1.2', '--repository', '.'],
    ['pnpm', 'dlx', 'server@1.2.3'],
    ['node', 'server.js'],
    ['./my-server'],
  ]
  for (const command of pinned) assert.equal(unpinned(command), null, command.join(' '))
  const loose = [
    ['npx', '-y', '@scope/server'],
    ['npx', 'server@latest'],
    ['npx', 'server@1'],
    ['npx', 'server@^1.2.3'],
    ['npx', 'https://example.com/server.tgz'],
    ['npx', '-p', 'a@1.0.0', '-p', 'b', 'run-it'],
    ['npx', '-y'],
    ['npx', '-c', 'server@1.2.3'],
    ['bunx', 'server'],
    ['npm', 'exec', '--', 'server'],
    ['pnpm', 'dlx', 'server@latest'],
    ['uvx', 'mcp-server-git'],
  ]
  for (const command of loose) assert.notEqual(unpinned(command), null, command.join(' '))
})

test('an environment value is a literal or a reference, never a broken reference', () => {
  const env = (value: string) =>
    mcpRowSchema.safeParse({ kind: 'mcp', command: ['node', 'x.js'], env: { A: value } }).success
  assert.deepEqual(['plain', '', 'env:TOKEN', 'file:/run/x', 'env:', 'env:1X', 'file:'].map(env), [
    true,
    true,
    true,
    true,
    false,
    false,
    false,
  ])
})

test('what belongs to a child process is refused on a URL, and the other way round', () => {
  const row = (over: object) => mcpRowSchema.safeParse({ kind: 'mcp', ...over }).success
  assert.equal(row({ url: 'https://x.example/mcp', auth: { kind: 'bearer', secret: 'env:T' } }), true)
  assert.equal(row({ url: 'https://x.example/mcp', env: { A: 'b' } }), false)
  assert.equal(row({ url: 'https://x.example/mcp', cwd: '.' }), false)
  assert.equal(row({ command: ['node'], auth: { kind: 'bearer', secret: 'env:T' } }), false)
  assert.equal(row({ url: 'ftp://x.example/mcp' }), false)
})
