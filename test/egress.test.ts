import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { connectFault, createEgress, neverSent } from '../src/egress.ts'
import { explain } from '../src/fault.ts'
import { answers, caps, closers, isAnswer, isFault, ok, open, sentinel } from './egress-sentinel.ts'

describe('a private place', () => {
  it('is not connected when its address is written in any way', async () => {
    const inside = await sentinel(ok)
    const egress = open()
    for (const host of [
      '127.0.0.1',
      '127.1',
      '0x7f000001',
      '2130706433',
      '017700000001',
      '0',
      '①②⑦.0.0.1',
      '127。0。0。1',
      '[::ffff:127.0.0.1]',
    ]) {
      isFault(await egress.fetch({ url: `http://${host}:${inside.port}/`, ...caps }), 'upstream_error', /not allowed/)
    }
    assert.equal(inside.accepts, 0)
  })

  it('is not connected over IPv6 either', async () => {
    const inside = await sentinel(ok, '::1')
    isFault(await open().fetch({ url: `${inside.url}/`, ...caps }), 'upstream_error', /not allowed/)
    assert.equal(inside.accepts, 0)
  })

  it('is not connected when a name leads there, be it localhost or one of somebody else', async () => {
    const inside = await sentinel(ok)
    isFault(await open().fetch({ url: `http://localhost:${inside.port}/`, ...caps }), 'upstream_error', /not allowed/)
    isFault(await open().fetch({ url: `http://localhost.:${inside.port}/`, ...caps }), 'upstream_error', /not allowed/)
    const egress = open({ lookup: answers('127.0.0.1') })
    for (const name of ['intranet', 'inside.example.com', '169.254.169.254.nip.io', 'a.localhost']) {
      isFault(await egress.fetch({ url: `http://${name}:${inside.port}/`, ...caps }), 'upstream_error', /not allowed/)
    }
    assert.equal(inside.accepts, 0)
  })

  it('is not connected when only one of many answers is private', async () => {
    const inside = await sentinel(ok)
    const many = Array.from({ length: 99 }, (_, i) => `8.8.8.${i + 1}`)
    for (const list of [
      ['8.8.8.8', '127.0.0.1'],
      ['127.0.0.1', '8.8.8.8'],
      [...many, '10.0.0.1'],
      ['8.8.8.8', '::1'],
    ]) {
      const egress = open({ lookup: answers(...list) })
      isFault(
        await egress.fetch({ url: `http://mixed.example:${inside.port}/`, ...caps }),
        'upstream_error',
        /not allowed/,
      )
    }
    assert.equal(inside.accepts, 0)
  })

  it('looks the same from outside whether something listens there or not', async () => {
    const inside = await sentinel(ok)
    const closed = await sentinel(ok)
    await closers.pop()?.()
    const egress = open({ lookup: answers('127.0.0.1') })
    const texts = new Set<string>()
    for (const url of [inside.url, closed.url, `http://10.255.255.1:${inside.port}`]) {
      texts.add(explain(isFault(await egress.fetch({ url, upstream: 'x', ...caps }), 'upstream_error').body))
    }
    for (const port of [inside.port, closed.port]) {
      const url = `http://name.example:${port}`
      texts.add(explain(isFault(await egress.fetch({ url, upstream: 'x', ...caps }), 'upstream_error').body))
    }
    assert.equal(texts.size, 1, [...texts].join('\n'))
    assert.doesNotMatch([...texts].join(), /canary|127\.0\.0\.1|10\.255/)
  })

  it('is connected when the environment or the row allows exactly that address and port', async () => {
    const inside = await sentinel(ok)
    const inside6 = await sentinel(ok, '::1')
    const environment = open({ allowPrivate: [inside.allow], lookup: answers('127.0.0.1') })
    assert.equal(isAnswer(await environment.fetch({ url: inside.url, ...caps })).body.toString(), 'secret canary')
    isAnswer(await environment.fetch({ url: `http://named.example:${inside.port}/`, ...caps }))
    const row = open()
    isAnswer(await row.fetch({ url: inside.url, allowPrivate: [inside.allow], ...caps }))
    isAnswer(await row.fetch({ url: inside6.url, allowPrivate: [inside6.allow], ...caps }))
    isFault(
      await row.fetch({ url: inside.url, allowPrivate: [`127.0.0.1/32:${inside.port + 1}`], ...caps }),
      'upstream_error',
    )
  })

  it('allowed for one row is not reached through the connections of that row by another', async () => {
    const inside = await sentinel(ok)
    const egress = open()
    isAnswer(await egress.fetch({ url: inside.url, allowPrivate: [inside.allow], ...caps }))
    isFault(await egress.fetch({ url: inside.url, ...caps }), 'upstream_error', /not allowed/)
    assert.notEqual(egress.pool(inside.url, [inside.allow]), egress.pool(inside.url, []))
    assert.equal(egress.pool(`${inside.url}/v1`, []), egress.pool(inside.url, []))
    assert.equal(inside.requests.length, 1)
  })

  it('is refused by a pool too, with an error that becomes the same fault', async () => {
    const inside = await sentinel(ok)
    const egress = open({ lookup: answers('127.0.0.1') })
    for (const origin of [inside.url, `http://named.example:${inside.port}`]) {
      const error = await egress
        .pool(origin, [])
        .request({ path: '/', method: 'GET' })
        .catch((caught: unknown) => caught)
      isFault(connectFault(error, 'house'), 'upstream_error', /^house failed: .*not allowed/)
      assert.ok(neverSent(error))
    }
    assert.equal(inside.accepts, 0)
  })
})

describe('a name server that changes its answer', () => {
  it('is asked once per connection, and the address that was judged is the one connected', async () => {
    const inside = await sentinel(ok)
    let asked = 0
    // Allowed (as a public one would be) to the first question, private to every later one: the way in, were there a second.
    const egress = open({
      allowPrivate: [`127.0.0.2/32:${inside.port}`],
      lookup: async () => {
        asked += 1
        return [{ address: asked === 1 ? '127.0.0.2' : '127.0.0.1', family: 4 }]
      },
    })
    const url = `http://rebind.example:${inside.port}/`
    isFault(await egress.fetch({ url, ...caps }), 'upstream_error', /nothing accepts/)
    assert.equal(asked, 1)
    isFault(await egress.fetch({ url, ...caps }), 'upstream_error', /not allowed/)
    assert.equal(asked, 2)
    assert.equal(inside.accepts, 0)
  })

  it('is judged again for a new connection after an allowed one', async () => {
    const inside = await sentinel((_request, response) => response.writeHead(200, { connection: 'close' }).end('x'))
    const other = ['127.0.0.1', '127.0.0.2']
    const egress = open({
      allowPrivate: [inside.allow],
      lookup: async () => [{ address: other.shift() as string, family: 4 }],
    })
    const url = `http://rebind.example:${inside.port}/`
    isAnswer(await egress.fetch({ url, ...caps }))
    isFault(await egress.fetch({ url, ...caps }), 'upstream_error', /not allowed/)
  })

  it('is given two seconds and no more', async () => {
    const fault = isFault(
      await open({ lookup: () => new Promise(() => {}) }).fetch({
        url: 'http://slow.example/',
        maxBytes: 10,
        timeoutMs: 60_000,
      }),
      'upstream_error',
    )
    assert.match(explain(fault.body), /could not be resolved/)
  })

  it('may fail or answer nothing without a word of it reaching the caller', async () => {
    for (const lookup of [() => Promise.reject(new Error('ENOTFOUND secret.internal')), answers()]) {
      const fault = isFault(await open({ lookup }).fetch({ url: 'http://gone.example/', ...caps }), 'upstream_error')
      assert.match(explain(fault.body), /could not be resolved/)
      assert.doesNotMatch(explain(fault.body), /secret/)
    }
  })

  it('is asked once for connections opened together', async () => {
    const inside = await sentinel(ok)
    let asked = 0
    const lookup = async () => {
      asked += 1
      await new Promise((resolve) => setImmediate(resolve))
      return [{ address: '127.0.0.1', family: 4 }]
    }
    const egress = open({ allowPrivate: [inside.allow], lookup })
    const url = `http://storm.example:${inside.port}/`
    const all = await Promise.all(Array.from({ length: 20 }, () => egress.fetch({ url, ...caps })))
    for (const one of all) isAnswer(one)
    assert.ok(asked < 20, `${asked} questions`)
  })
})

describe('egress', () => {
  it('takes no notice of proxy variables', async () => {
    const proxy = await sentinel(ok)
    const server = await sentinel(ok)
    const names = ['HTTP_PROXY', 'http_proxy', 'HTTPS_PROXY', 'ALL_PROXY', 'NODE_USE_ENV_PROXY']
    const before = names.map((name) => process.env[name])
    try {
      for (const name of names) process.env[name] = name === 'NODE_USE_ENV_PROXY' ? '1' : proxy.url
      isAnswer(await open({ allowPrivate: [server.allow, proxy.allow] }).fetch({ url: server.url, ...caps }))
    } finally {
      names.forEach((name, i) => {
        if (before[i] === undefined) delete process.env[name]
        else process.env[name] = before[i]
      })
    }
    assert.equal(proxy.accepts, 0)
    assert.equal(server.accepts, 1)
  })

  it('names what to do when nothing listens at an allowed address', async () => {
    const server = await sentinel(ok)
    await closers.pop()?.()
    const egress = open({ allowPrivate: [server.allow] })
    isFault(
      await egress.fetch({ url: server.url, upstream: 'petstore', ...caps }),
      'upstream_error',
      /^petstore failed: .*start it/,
    )
  })

  it('does not let a header be split or the connection be redefined', async () => {
    const server = await sentinel(ok)
    const egress = open({ allowPrivate: [server.allow] })
    for (const value of ['a\r\nx-evil: 1', 'a\nb', 'a\0b']) {
      isFault(await egress.fetch({ url: server.url, headers: ['x-a', value], ...caps }), 'upstream_error')
    }
    await assert.rejects(egress.fetch({ url: server.url, headers: ['Host', 'evil'], ...caps }), TypeError)
    assert.equal(server.requests.length, 0)
  })

  it('refuses to start with a malformed allowance', () => {
    assert.throws(() => createEgress({ allowPrivate: ['127.0.0.1'] }), /CIDR:port/)
  })

  it('keeps answering for more places than it keeps connections for', async () => {
    const server = await sentinel(ok)
    const egress = open({ allowPrivate: [server.allow], lookup: answers('127.0.0.1') })
    const urls = Array.from({ length: 100 }, (_, i) => `http://h${i}.example:${server.port}/`)
    for (const one of await Promise.all(urls.map((url) => egress.fetch({ url, ...caps })))) isAnswer(one)
  })
})
