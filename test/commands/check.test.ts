/** What `gatehouse check` and `gatehouse policy` say about a folder. @module */
import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import { check } from '../../src/commands/check.ts'
import { explain, testPolicies } from '../../src/commands/policy.ts'
import { Failed, type Report } from '../../src/commands/report.ts'
import { gatehouse, openHome } from './rig.ts'

function home(t: TestContext, files: Readonly<Record<string, string>> = {}): string {
  const { path, remove } = openHome({ 'registry/models.yaml': '{}\n', 'policies/tests/demo.yaml': '[]\n', ...files })
  t.after(remove)
  return path
}

/** The lines said, with the exit status. */
function lines(said: Report | Failed): readonly (string | number)[] {
  if (said instanceof Failed) throw new Error(said.message)
  return [...said.text.split('\n'), said.exit ?? 0]
}

describe('gatehouse check', () => {
  it('finds nothing wrong with what ships', async () => {
    const { status, out } = await gatehouse(['check', '--home', process.cwd()])
    assert.match(out, /13 policy tests\nno faults\n$/)
    assert.equal(status, 0)
  })

  it('names file, line and column of every fault in every file', async (t) => {
    const path = home(t, {
      'policies/routes.yaml': 'fast:\n  strategy: fallback\n  to: [{ provider: opnai, model: x }]\n',
      'policies/tools/broken.yaml': 'role: demo\nallow:\n  - tools: [a__b]\n    when: args.amount >\n',
      'registry/servers/shop.yaml': 'kind: openapi\nspec: ./x.yaml\n',
      'policies/tests/bad.yaml': '- { role: demo, tool: a__b, expect: perhaps }\n',
    })
    const said = lines(await check({ home: path }))
    const starts = said.map((line) => String(line).split(' ')[0])
    assert.deepEqual(starts.slice(0, 4), [
      'policies/routes.yaml:3:20',
      'registry/servers/shop.yaml:1:1',
      'policies/tools/broken.yaml:4:11',
      'policies/tests/bad.yaml:1:37',
    ])
    assert.deepEqual(said.slice(-2), ['4 faults', 1])
  })

  it('says where a document of a server is named that cannot be read', async (t) => {
    const path = home(t, {
      'registry/servers/shop.yaml': 'kind: openapi\nbase_url: https://example.com\nspec: ./gone.yaml\n',
    })
    const said = lines(await check({ home: path }))
    assert.match(String(said[0]), /^registry\/servers\/shop\.yaml:3:7 spec: /)
    assert.equal(said.at(-1), 1)
  })

  it('runs the policy tests and says which rule answered otherwise', async (t) => {
    const path = home(t, {
      'policies/tests/demo.yaml':
        '- { role: demo, tool: petstore__listPets, expect: allow }\n- { role: demo, tool: petstore__deletePet, expect: allow }\n',
    })
    const [first, ...rest] = lines(await check({ home: path }))
    assert.match(
      String(first),
      /^policies\/tests\/demo\.yaml:2:1 petstore__deletePet .* expected allow, got deny \(demo\.yaml#deny\[0\], policies\/tools\/demo\.yaml:14\): destructive/,
    )
    assert.equal(rest.at(-1), 1)
  })

  it('finds a condition on an argument that no tool has, at the condition', async (t) => {
    const path = home(t, {
      'policies/tools/typo.yaml': [
        'role: clerk',
        'allow:',
        '  - tools: [petstore__createPet]',
        "    when: 'size(args.bdy.name) <= 40'",
        '',
      ].join('\n'),
    })
    const said = lines(await check({ home: path }))
    assert.equal(
      said[0],
      'policies/tools/typo.yaml:4:11 the condition reads args.bdy, which petstore__createPet does not take; it takes: body',
    )
    assert.equal(said.at(-1), 1)
  })

  it('only notes it where another tool has the argument, or a server that is not read here could', async (t) => {
    const some = 'role: a\nallow:\n  - tools: ["petstore__*Pet"]\n    when: args.petId == "1"\n'
    const other = 'role: b\nallow:\n  - tools: ["*__createPet"]\n    when: args.name == "x"\n'
    const path = home(t, {
      'policies/tools/some.yaml': some,
      'policies/tools/other.yaml': other,
      'registry/servers/remote.yaml': 'kind: mcp\nurl: https://mcp.example.com/mcp\n',
    })
    const said = lines(await check({ home: path }))
    assert.deepEqual(said.slice(-2), ['no faults', 0])
    assert.deepEqual(
      said.filter((line) => String(line).startsWith('note: ')),
      [
        'note: policies/tools/other.yaml:4:11 the condition reads args.name, which petstore__createPet does not take; it takes: body',
        'note: policies/tools/some.yaml:4:11 the condition reads args.petId, which petstore__createPet does not take; it takes: body',
      ],
    )
  })

  it('notes a test of a tool that no server has, since it would pass whatever the policies say', async (t) => {
    const path = home(t, { 'policies/tests/demo.yaml': '- { role: demo, tool: petstore__deltePet, expect: deny }\n' })
    const said = lines(await check({ home: path }))
    const note = 'policies/tests/demo.yaml:1:1 no server in registry/servers/ has the tool petstore__deltePet'
    assert.equal(said[0], `note: ${note}`)
    assert.equal(said.at(-1), 0)
  })

  it('prints the same as JSON for scripts', async (t) => {
    const path = home(t, { 'registry/models.yaml': 'x: { provider: nobody }\n' })
    const said = await check({ home: path })
    assert.ok(!(said instanceof Failed))
    const { ok, faults } = said.json as { ok: boolean; faults: { file: string; line: number }[] }
    assert.deepEqual([ok, faults.length, faults[0]?.file, faults[0]?.line], [false, 1, 'registry/models.yaml', 1])
  })

  it('says so when the folder holds nothing to check', async (t) => {
    const path = home(t)
    const said = await check({ home: `${path}/examples` })
    assert.ok(said instanceof Failed)
    assert.match(said.message, /has neither registry\/ nor policies\//)
    assert.equal(said.exit, 1)
  })
})

describe('gatehouse policy', () => {
  it('counts the tests and names those that failed', async (t) => {
    const path = home(t, {
      'policies/tests/demo.yaml':
        '- { role: demo, tool: petstore__getPet, expect: allow }\n- { role: x, tool: petstore__getPet, expect: allow }\n',
    })
    const [failed, count, exit] = lines(await testPolicies({ home: path }))
    assert.match(String(failed), /^policies\/tests\/demo\.yaml:2:1 .* got deny \(default-deny\)/)
    assert.deepEqual([count, exit], ['1 passed, 1 failed', 1])
  })

  it('explains a decision with its rule, file and line', async (t) => {
    const path = home(t)
    const ask = async (tool: string, args?: Record<string, unknown>) =>
      lines(await explain({ home: path, role: ['demo'], tool, ...(args && { args }) }))
    assert.deepEqual(await ask('petstore__createPet', { body: { name: 'Rex' } }), [
      'decision  allow',
      'rule      demo.yaml#allow[3]',
      'at        policies/tools/demo.yaml:11',
      'roles     demo',
      0,
    ])
    assert.match(String((await ask('petstore__createPet'))[0]), /allow \(to be listed/)
    const denied = await ask('petstore__deletePet', {})
    assert.deepEqual(denied.slice(0, 2), ['decision  deny', 'rule      demo.yaml#deny[0]'])
    assert.match(denied.join('\n'), /reason +destructive operations need a person/)
    assert.match((await ask('everything__echo', {})).join('\n'), /note: no server in registry\/servers\/ has this tool/)
  })

  it('says which rule on trial would have denied', async (t) => {
    const trial = 'role: demo\nmode: log\ndeny:\n  - tools: [petstore__getPet]\n'
    const path = home(t, { 'policies/tools/trial.yaml': trial })
    const said = lines(await explain({ home: path, role: ['demo'], tool: 'petstore__getPet', args: {} }))
    assert.ok(
      said.includes('on trial  trial.yaml#deny[0] (policies/tools/trial.yaml:4) would deny it'),
      said.join('\n'),
    )
  })

  it('takes arguments only as a call would: one JSON object, no key twice', async (t) => {
    const path = home(t)
    const wrong = ['{"a": 1, "a": 2}', '[1]']
    const question = ['policy', 'explain', '--home', path, '--role', 'demo', '--tool', 'petstore__getPet', '--args']
    const said = await Promise.all(wrong.map((args) => gatehouse([...question, args])))
    assert.deepEqual(
      said.map(({ status }) => status),
      [2, 2],
    )
    const neither = await explain({ home: path, role: [], tool: 'petstore__getPet' })
    assert.ok(neither instanceof Failed && neither.exit === 2)
  })
})
