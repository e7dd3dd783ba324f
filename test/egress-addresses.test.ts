import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { compileAllowances, mayConnect } from '../src/egress/addresses.ts'
import { checkUrl, parseAllowance } from '../src/egress.ts'
import { Fault } from '../src/fault.ts'

const none = compileAllowances([])

const privateAddresses = [
  '0.0.0.0',
  '0.1.2.3',
  '10.0.0.1',
  '10.255.255.255',
  '100.64.0.1',
  '100.127.255.255',
  '127.0.0.1',
  '127.255.255.254',
  '169.254.0.1',
  '172.16.0.1',
  '172.31.255.255',
  '192.0.0.8',
  '192.0.2.1',
  '192.88.99.1',
  '192.168.0.1',
  '198.18.0.1',
  '198.19.255.255',
  '198.51.100.7',
  '203.0.113.9',
  '224.0.0.1',
  '239.255.255.255',
  '240.0.0.1',
  '255.255.255.255',
  '::',
  '::1',
  '::7f00:1',
  '100::1',
  'fc00::1',
  'fd00::1',
  'fe80::1',
  'fec0::1',
  'ff02::1',
  '5f00::1',
  '64:ff9b:1::1',
  '2001:db8::1',
  '2001:2::1',
  '3fff::1',
  // IPv4 inside IPv6: mapped (both spellings), NAT64, 6to4, Teredo
  '::ffff:127.0.0.1',
  '::ffff:7f00:1',
  '::ffff:10.1.2.3',
  '::ffff:c0a8:1',
  '64:ff9b::127.0.0.1',
  '64:ff9b::a00:1',
  '2002:7f00:1::',
  '2002:a00:1::1',
  '2002:808:808::1',
  '2001:0:4136:e378:8000:63bf:3fff:fdd2',
]
const metadataAddresses = [
  '169.254.169.254',
  '169.254.170.2',
  '100.100.100.200',
  '168.63.129.16',
  'fd00:ec2::254',
  '::ffff:169.254.169.254',
  '::ffff:a9fe:a9fe',
  '64:ff9b::169.254.169.254',
  '::ffff:100.100.100.200',
]
const publicAddresses = [
  '1.1.1.1',
  '8.8.8.8',
  '9.255.255.255',
  '11.0.0.1',
  '100.63.255.255',
  '100.128.0.1',
  '126.255.255.255',
  '128.0.0.1',
  '169.253.255.255',
  '172.15.255.255',
  '172.32.0.1',
  '192.167.255.255',
  '198.17.255.255',
  '223.255.255.255',
  '2606:4700:4700::1111',
  '2a00:1450:4001:80b::200e',
  '::ffff:8.8.8.8',
  '64:ff9b::8.8.8.8',
]

describe('an address', () => {
  for (const address of [...privateAddresses, ...metadataAddresses]) {
    it(`${address} is refused`, () => assert.equal(mayConnect(address, 443, none), false))
  }
  for (const address of publicAddresses) {
    it(`${address} is public`, () => assert.equal(mayConnect(address, 443, none), true))
  }
  it('is refused when it has a zone id or is no address at all', () => {
    for (const text of ['fe80::1%eth0', '2606:4700::1%1', 'localhost', '', '127.1', '0x7f000001']) {
      assert.equal(mayConnect(text, 443, none), false, text)
    }
  })
  it('is opened by an allowance only for that network and that port', () => {
    const allowed = compileAllowances(['127.0.0.1/32:8080', '10.1.0.0/16:443', '[::1]/128:11434'])
    assert.equal(mayConnect('127.0.0.1', 8080, allowed), true)
    assert.equal(mayConnect('127.0.0.1', 8081, allowed), false)
    assert.equal(mayConnect('127.0.0.2', 8080, allowed), false)
    assert.equal(mayConnect('10.1.255.1', 443, allowed), true)
    assert.equal(mayConnect('10.2.0.1', 443, allowed), false)
    assert.equal(mayConnect('::1', 11434, allowed), true)
    assert.equal(mayConnect('::1', 8080, allowed), false)
    assert.equal(mayConnect('::2', 11434, allowed), false)
  })
  it('of a cloud metadata service stays refused whatever is allowed', () => {
    const allowed = compileAllowances(['0.0.0.0/0:80', '[::]/0:80', '169.254.169.254/32:80', '[fd00:ec2::254]/128:80'])
    for (const address of metadataAddresses) assert.equal(mayConnect(address, 80, allowed), false, address)
    assert.equal(mayConnect('127.0.0.1', 80, allowed), true)
  })
})

describe('an allowance', () => {
  it('is read from CIDR:port', () => {
    assert.deepEqual(parseAllowance('10.0.0.0/8:443'), { address: '10.0.0.0', prefix: 8, family: 'ipv4', port: 443 })
    const loopback = { address: '::1', prefix: 128, family: 'ipv6', port: 11434 }
    assert.deepEqual(parseAllowance('[::1]/128:11434'), loopback)
    assert.deepEqual(parseAllowance('[::1/128]:11434'), loopback)
  })
  it('says what is wrong with it', () => {
    for (const text of [
      '',
      '127.0.0.1',
      '127.0.0.1:80',
      '127.0.0.1/32',
      '127.0.0.1/33:80',
      '[::1]/129:80',
      '::1/128:80',
      '300.0.0.1/8:80',
      '127.1/32:80',
      '127.0.0.1/32:0',
      '127.0.0.1/32:65536',
      'localhost/32:80',
      '127.0.0.1/32:80-90',
      '[1.2.3.4]/32:80',
    ]) {
      assert.equal(typeof parseAllowance(text), 'string', text)
    }
  })
})

describe('a URL', () => {
  const refused = (url: string, allow: string[] = []) => assert.ok(checkUrl(url, allow) instanceof Fault, url)

  it('with a literal private host is refused in every spelling that the URL parser accepts', () => {
    for (const host of [
      '127.0.0.1',
      '0x7f000001',
      '2130706433',
      '017700000001',
      '127.1',
      '0',
      '0x7f.1',
      '127.0.0.1.',
      '①②⑦.0.0.1',
      '127。0。0。1',
      '127.0.0%2e1',
      '%31%32%37.0.0.1',
      '12\t7.0.0.1',
      '127.0\n.0.1',
      '[::1]',
      '[0:0:0:0:0:0:0:1]',
      '[::ffff:127.0.0.1]',
      '[::ffff:7f00:1]',
      '[64:ff9b::7f00:1]',
      '169.254.169.254',
      '0xa9fea9fe',
      '[fd00:ec2::254]',
    ]) {
      refused(`http://${host}/`)
      refused(`http://${host}:8080/latest`)
    }
  })
  it('of another scheme, with a user name, or without a host is refused', () => {
    for (const url of [
      'ftp://example.com/',
      'file:///etc/passwd',
      'gopher://example.com/',
      'data:text/plain,x',
      'javascript:1',
      'http://user@example.com/',
      'http://user:pass@example.com/',
      'http://@127.0.0.1/',
      'example.com',
      '//example.com',
      '',
      'http://',
      'http://[fe80::1%25eth0]/',
      'http://example.com:99999/',
    ]) {
      refused(url)
    }
  })
  it('of a name is normalised and judged later, by what the name resolves to', () => {
    const url = checkUrl('https://EXAMPLE.com.:443/a?b', [])
    assert.ok(url instanceof URL)
    assert.equal(url.href, 'https://example.com/a?b')
    assert.ok(checkUrl('http://localhost/', []) instanceof URL)
  })
  it('with a literal private host is read when its address and port are allowed', () => {
    assert.ok(checkUrl('http://127.1:8790/x', ['127.0.0.1/32:8790']) instanceof URL)
    refused('http://127.0.0.1:8791/x', ['127.0.0.1/32:8790'])
    assert.ok(checkUrl('http://[::1]:8790/x', ['[::1]/128:8790']) instanceof URL)
  })
})
