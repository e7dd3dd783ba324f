/** Tool servers as child processes: well behaved ones from the registry, and every fault a child can have. @module */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { alive, callTool, openRig, type Rig, textOf, until } from './rig.ts'

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url))
const bin = (name: string) => here(`../../node_modules/.bin/${name}`)
const rogue = (mode: string) => [process.execPath, here('../upstreams/mcp-rogue.ts'), mode]

let rig: Rig
before(() => {
  rig = openRig()
})
after(() => rig.close())

describe('a tool server as a child process', () => {
  it('speaks the current revision when it can', async () => {
    const target = rig.child([process.execPath, here('../upstreams/mcp-stdio.ts')])
    await target.refresh()
    assert.deepEqual([target.state().status, target.state().era], ['healthy', 'modern'])
    const seen: unknown[] = []
    assert.equal(textOf(await callTool(target, 'steps', {}, { onProgress: (params) => seen.push(params) })), 'done')
    assert.equal(seen.length, 3)
  })

  it('speaks an older one when it must: the published everything and filesystem servers', async () => {
    const everything = rig.child([bin('mcp-server-everything')])
    const files = rig.child([bin('mcp-server-filesystem'), '/tmp'])
    await Promise.all([everything.refresh(), files.refresh()])
    assert.deepEqual([everything.state().era, files.state().era], ['legacy', 'legacy'])
    assert.equal(textOf(await callTool(everything, 'echo', { message: 'hi' })), 'Echo: hi')
    assert.match(textOf(await callTool(files, 'list_allowed_directories')), /\/tmp/)
  })

  it('may end on a question it does not know, and is started again for the older one', async () => {
    const target = rig.child(rogue('exit-on-probe'))
    await target.refresh()
    assert.deepEqual([target.state().status, target.state().era], ['healthy', 'legacy'])
  })

  it('may say nothing to a question it does not know', async () => {
    const target = rig.child(rogue('silent-on-probe'))
    await target.refresh()
    assert.deepEqual([target.state().status, target.state().era], ['healthy', 'legacy'])
  })

  it('may greet on stdout', async () => {
    const target = rig.child(rogue('noise'))
    await target.refresh()
    assert.equal(target.state().status, 'healthy')
  })

  it('gets its arguments verbatim and an environment built from empty', async () => {
    process.env.GATEHOUSE_TEST_CANARY = 'must not leak'
    const command = [...rogue('env'), '$(touch /tmp/x); *', '--flag=a b']
    const target = rig.child(command, { env: { TOKEN: 'env:SECRET', PLAIN: 'text' } })
    const { env, argv } = JSON.parse(textOf(await callTool(target, 'env')))
    delete process.env.GATEHOUSE_TEST_CANARY
    assert.deepEqual(argv.slice(1), ['$(touch /tmp/x); *', '--flag=a b'])
    assert.deepEqual(Object.keys(env).sort(), ['HOME', 'LANG', 'PATH', 'PLAIN', 'TOKEN'])
    assert.equal(env.TOKEN, 'value of env:SECRET')
  })

  it('is answered when it pings, and refused when it wants a model', async () => {
    const target = rig.child(rogue('asks'))
    assert.deepEqual(JSON.parse(textOf(await callTool(target, 'go'))), { 900: 'ok', 901: -32601 })
  })

  it('that crashes in a call costs that call, and is started again', async () => {
    const target = rig.child(rogue('crash'))
    const first = JSON.parse(textOf(await callTool(target, 'env'))).pid
    const outcome = await callTool(target, 'go')
    assert.ok('fault' in outcome && outcome.fault.body.code === 'upstream_error')
    assert.match(outcome.fault.body.why, /ended with code 1/)
    await until('it runs again', () => target.state().status === 'healthy')
    assert.notEqual(JSON.parse(textOf(await callTool(target, 'env'))).pid, first)
  })

  it('is started again after it was killed, and its tools stay listed meanwhile', async () => {
    const target = rig.child(rogue('killed'))
    await target.refresh()
    const { pid } = JSON.parse(textOf(await callTool(target, 'env')))
    process.kill(pid, 'SIGKILL')
    await until('the loss is noticed', () => target.state().status !== 'healthy')
    assert.equal(target.tools().length, 2)
    await until('it runs again', () => target.state().status === 'healthy')
    assert.equal(textOf(await callTool(target, 'go')), 'gone')
  })

  it('that floods its output with an endless line is ended', async () => {
    const target = rig.child(rogue('flood'))
    const outcome = await callTool(target, 'go')
    assert.ok('fault' in outcome && outcome.fault.body.code === 'upstream_error')
    assert.match(outcome.fault.body.why, /a line of more than/)
  })

  it('that cannot be started is a state with a reason', async () => {
    const target = rig.child(['/nonexistent/program'])
    await target.refresh()
    assert.equal(target.state().status, 'error')
    assert.match(target.state().lastFailure ?? '', /could not be started/)
  })

  it('leaves nothing behind when it is closed, however stubborn it is', async () => {
    const target = rig.child(rogue('stubborn'))
    await target.refresh()
    const { pid } = JSON.parse(textOf(await callTool(target, 'env')))
    const group = await groupOf(pid)
    assert.equal(group.length, 2)
    await target.close()
    await until('the group is gone', async () => (await groupOf(pid)).length === 0)
  })

  it('does not outlive a gateway that was killed', async () => {
    const script = here('./killed-gateway.ts')
    const gateway = spawn(process.execPath, [script, JSON.stringify(rogue('stubborn'))], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const pid = await new Promise<number>((resolve) =>
      gateway.stdout.once('data', (data) => resolve(Number(String(data)))),
    )
    assert.equal((await groupOf(pid)).length, 2)
    gateway.kill('SIGKILL')
    await until('the group is gone', async () => (await groupOf(pid)).length === 0)
    assert.equal(await alive(pid), false)
  })
})

/** Living processes of a process group. */
async function groupOf(group: number): Promise<number[]> {
  const found: number[] = []
  for (const name of await readdir('/proc')) {
    if (!/^[0-9]+$/.test(name)) continue
    const stat = await readFile(`/proc/${name}/stat`, 'utf8').catch(() => '')
    const [state, , pgrp] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    if (Number(pgrp) === group && state !== 'Z' && state !== 'X') found.push(Number(name))
  }
  return found
}
