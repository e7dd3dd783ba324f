import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import { explain, Fault } from '../src/fault.ts'
import { caps, isAnswer, isFault, ok, open, sentinel } from './egress-sentinel.ts'

function hasOpenssl(): boolean {
  try {
    execFileSync('openssl', ['version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

describe('an https place', { skip: hasOpenssl() ? false : 'openssl makes the certificate of this test' }, () => {
  let folder = ''
  let server: Server
  let port = 0
  let location = ''
  let certificate = ''
  const lookup = async () => [{ address: '127.0.0.1', family: 4 }]
  const trusted = getCACertificates('default')

  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'gatehouse-tls-'))
    const [key, cert] = [path.join(folder, 'key.pem'), path.join(folder, 'cert.pem')]
    const subject = ['-subj', '/CN=secure.example', '-addext', 'subjectAltName=DNS:secure.example']
    const make = [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-days',
      '2',
      ...subject,
    ]
    execFileSync('openssl', [...make, '-keyout', key, '-out', cert], { stdio: 'ignore' })
    certificate = await readFile(cert, 'utf8')
    server = createServer({ key: await readFile(key), cert: certificate }, (_request, response) => {
      response.writeHead(302, { location }).end()
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    port = (server.address() as AddressInfo).port
  })
  after(async () => {
    setDefaultCACertificates(trusted)
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
    await rm(folder, { recursive: true })
  })

  it('with a certificate nobody vouches for is not spoken to', async () => {
    const egress = open({ allowPrivate: [`127.0.0.1/32:${port}`], lookup })
    isFault(await egress.fetch({ url: `https://secure.example:${port}/`, ...caps }), 'upstream_error', /certificate/)
  })

  it('is not left for http by a redirect', async () => {
    setDefaultCACertificates([...trusted, certificate])
    const plain = await sentinel(ok)
    location = plain.url
    const egress = open({ allowPrivate: [`127.0.0.1/32:${port}`, plain.allow], lookup })
    const url = `https://secure.example:${port}/`
    assert.equal(isAnswer(await egress.fetch({ url, ...caps })).status, 302)
    isFault(await egress.fetch({ url, maxRedirects: 3, ...caps }), 'upstream_error', /leaves https/)
    assert.equal(plain.accepts, 0)
  })

  it('whose certificate is for another name is not spoken to', async () => {
    const egress = open({ allowPrivate: [`127.0.0.1/32:${port}`], lookup })
    const answer = await egress.fetch({ url: `https://other.example:${port}/`, ...caps })
    assert.ok(answer instanceof Fault)
    assert.match(explain(answer.body), /certificate/)
  })
})
