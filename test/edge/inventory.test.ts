/** Every route is in the table, and each gives what it declares to strangers, holders and the administrator. @module */
import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import { allRoutes, openDoor } from '../../src/edge/server.ts'
import { walk } from '../../src/flow.ts'
import { type Answered, adminKey, hello, openVendor, startInside } from '../gateway.ts'

describe('the routes', () => {
  let inside: Awaited<ReturnType<typeof startInside>>
  const routes = allRoutes(walk)
  const vendor = openVendor()

  before(async () => {
    inside = await startInside({ vendor: await vendor })
  })

  it('of the opened door are those of the table, and no other', () => {
    const door = openDoor(inside.running.gateway, routes, { hosts: new Set(), origins: new Set() })
    const name = ({ method, path }: { method: string; path: string }) => `${method} ${path}`
    const mounted = door.app.routes.map(name).sort()
    assert.deepEqual(mounted, routes.map(name).sort())
    assert.equal(new Set(mounted).size, mounted.length)
  })

  it('declare who may knock, and only probes and the admin document let anybody in', () => {
    for (const route of routes) {
      assert.ok(['none', 'holder', 'admin'].includes(route.auth))
      assert.equal(route.path.startsWith('/admin/') && !route.path.endsWith('openapi.json'), route.auth === 'admin')
      if (route.metered) assert.ok(route.audited, route.path)
    }
    const open = routes.filter(({ auth }) => auth === 'none').map(({ path }) => path)
    for (const path of open) {
      assert.match(path, /^\/(healthz|readyz|metrics|admin\/v1\/openapi\.json|\.well-known\/.*)$/)
    }
  })

  /** Knocks at every route of a kind with a body that would be good for most. */
  async function knock(auth: 'holder' | 'admin', key: string | undefined, check: (name: string, a: Answered) => void) {
    for (const { method, path } of routes.filter((route) => route.auth === auth)) {
      const address = path.replace(/:\w+(\{[^}]*\})?/g, 'x').replace('*', 'x')
      const body = method === 'GET' || method === 'DELETE' ? undefined : hello
      check(`${method} ${address}`, await inside.ask(method, address, { key, body }))
    }
  }

  it('for holders and the administrator refuse strangers alike, before anything reaches a vendor', async () => {
    for (const auth of ['holder', 'admin'] as const) {
      for (const key of [undefined, 'sk-gate-made-up', 'wrong-admin-key-0123456789-0123456789']) {
        await knock(auth, key, (name, { status, headers, text }) => {
          // MCP reads a message before it asks who sent it; what is no message is told to be none.
          if (name.includes('/mcp') && key?.startsWith('wrong')) return assert.ok(status >= 400 && status < 500, name)
          assert.equal(status, 401, `${name}: ${text}`)
          assert.match(headers.get('www-authenticate') ?? '', /^Bearer/, name)
          assert.ok(!text.includes('unknown field') && !/expired|revoked|unknown/.test(text), name)
        })
      }
    }
    assert.equal((await vendor).requests.length, 0)
  })

  it('for the administrator refuse holders', async () => {
    const { key } = await inside.mintKey()
    const session = await inside.mintSession(key)
    for (const low of [key, session.key]) {
      await knock('admin', low, (name, { status, json }) => {
        assert.equal(status, 403, name)
        assert.equal(json.error.code, 'forbidden')
      })
    }
  })

  it('for holders make no call for the admin key', async () => {
    await knock('holder', adminKey, (name, { status }) =>
      assert.ok(status >= 400 && status < 500, `${name}: ${status}`),
    )
    assert.equal((await vendor).requests.length, 0)
  })

  it('that do not exist are 404 for everybody, and HEAD is no way around', async () => {
    const { key } = await inside.mintKey()
    for (const path of [
      '/',
      '/admin',
      '/admin/v1',
      '/v1',
      '/v1/unknown',
      '/v1/chat',
      '/V1/models',
      '/v1/models/',
      '/healthz/',
    ]) {
      for (const as of [undefined, key, adminKey]) {
        const { status } = await inside.ask('GET', path, { key: as })
        assert.equal(status, path === '/v1/models/' && as !== undefined ? 404 : status === 401 ? 401 : 404, path)
      }
    }
    assert.equal((await inside.ask('HEAD', '/v1/models')).status, 401)
    assert.equal((await inside.ask('HEAD', '/admin/v1/keys', { key })).status, 403)
    for (const method of ['PUT', 'OPTIONS', 'PROPFIND'])
      assert.ok([404, 405].includes((await inside.ask(method, '/v1/chat/completions', { key })).status), method)
  })

  it('are described by the admin document as they are', async () => {
    const { json } = await inside.ask('GET', '/admin/v1/openapi.json')
    const described = Object.entries<object>(json.paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path.replace(/\{(\w+)\}/g, ':$1')}`),
    )
    const mounted = routes.filter(({ auth }) => auth === 'admin').map(({ method, path }) => `${method} ${path}`)
    assert.deepEqual(described.sort(), mounted.sort())
  })
})
