/** Strict JSON: one document, one reading. @module */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { Fault } from '../src/fault.ts'
import { maxDepth, maxKeys, parseStrict, scalarEnd, skipSpace, stringAt, stringEnd } from '../src/json.ts'

const parse = (text: string | Buffer) => parseStrict(Buffer.from(text), 'body')
const why = (text: string | Buffer) => {
  const result = parse(text)
  assert.ok(result instanceof Fault, text.toString().slice(0, 60))
  assert.equal(result.body.code, 'invalid_request')
  return 'why' in result.body ? result.body.why : ''
}

describe('the strict parser', () => {
  it('takes what JSON.parse takes, with the same value', () => {
    // A number that is not exact as a double, or a "__proto__" key, is refused on purpose.
    const exact = fc.oneof(
      fc.maxSafeInteger(),
      fc.double({ noNaN: true, noDefaultInfinity: true, maxExcluded: true, max: 1, min: -1 }),
    )
    const { tree } = fc.letrec((tie) => ({
      tree: fc.oneof(
        { depthSize: 'small' },
        exact,
        fc.boolean(),
        fc.constant(null),
        fc.string({ unit: 'grapheme' }),
        tie('array'),
        tie('object'),
      ),
      array: fc.array(tie('tree'), { maxLength: 5 }),
      object: fc.dictionary(
        fc.string({ unit: 'grapheme' }).filter((key) => key !== '__proto__'),
        tie('tree'),
        { maxKeys: 5 },
      ),
    }))
    fc.assert(
      fc.property(tree, fc.constantFrom(undefined, 1, '\t'), (value, indent) => {
        const text = JSON.stringify(value, null, indent)
        const result = parse(text)
        assert.ok(!(result instanceof Fault), `${text} ${result instanceof Fault && JSON.stringify(result.body)}`)
        assert.deepEqual(result.value, JSON.parse(text))
      }),
      { numRuns: 1000 },
    )
  })

  it('never takes what JSON.parse refuses', () => {
    const bits = fc.constantFrom(
      '{',
      '}',
      '[',
      ']',
      ',',
      ':',
      '"',
      '\\',
      '"a"',
      '1',
      '-',
      '.',
      'e',
      'null',
      ' ',
      '\\u00',
      'tru',
    )
    fc.assert(
      fc.property(fc.array(bits, { maxLength: 12 }), (parts) => {
        const text = parts.join('')
        let valid = true
        try {
          JSON.parse(text)
        } catch {
          valid = false
        }
        if (!valid) assert.ok(parse(text) instanceof Fault)
      }),
      { numRuns: 3000 },
    )
  })

  it('refuses a key that stands twice in one object, however it is written', () => {
    for (const text of [
      ...['{"a":1,"a":2}', '{"a":1,"\\u0061":2}', '{"b":{"a":1,"c":[{}],"a":2}}', '[{"a":1,"a":1}]', '{"":1,"":2}'],
      ...['{"a" :1 , "a"\n: 2}', '{"é":1,"\\u00e9":2}', '{"a\\"":1,"a\\u0022":2}'],
    ])
      assert.match(why(text), /twice/, text)
    for (const text of ['{"a":{"a":1}}', '[{"a":1},{"a":1}]', '{"a":"a","b":"a"}', '{"a":["a","a"]}', '{"a":1,"A":2}'])
      assert.ok(!(parse(text) instanceof Fault), text)
    fc.assert(
      fc.property(fc.string(), fc.string(), (key, other) => {
        const text = `{${JSON.stringify(key)}:1,${JSON.stringify(other)}:2}`
        if (key !== '__proto__' && other !== '__proto__') assert.equal(parse(text) instanceof Fault, key === other)
      }),
    )
  })

  it('refuses numbers that a double does not hold', () => {
    for (const number of ['9007199254740993', '-9007199254740992', '12345678901234567890', '1e400', '-1e309'])
      for (const text of [number, `[${number}]`, `{"a":${number} }`]) assert.match(why(text), /does not survive/, text)
    for (const number of ['0', '-0', '9007199254740991', '-9007199254740991', '0.1', '1e3', '1.50', '1E-5'])
      assert.ok(!(parse(number) instanceof Fault), number)
    assert.ok(!(parse('{"a":"12345678901234567890"}') instanceof Fault))
  })

  it('refuses what two readers could take differently', () => {
    assert.match(why('{"__proto__":{}}'), /__proto__/)
    assert.match(why('{"a":{"\\u005f_proto__":1}}'), /__proto__/)
    assert.match(why('"\\ud800"'), /surrogate/)
    assert.match(why('{"\\udc00a":1}'), /surrogate/)
    assert.match(why('\ufeff{}'), /not valid JSON/)
    assert.match(why(Buffer.from([0x22, 0xc3, 0x28, 0x22])), /UTF-8/)
    assert.match(why(Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22])), /UTF-8/)
    for (const text of [
      '',
      ' ',
      '{} {}',
      '{"a":1,}',
      '[1,]',
      "{'a':1}",
      '{a:1}',
      '01',
      '+1',
      '.5',
      '1.',
      'NaN',
      '"\t"',
      '/**/1',
      'nul',
    ])
      assert.match(why(text), /not valid JSON/, text)
    assert.ok(!(parse('"\\ud83d\\ude42 🙂 __proto__"') instanceof Fault))
  })

  it('is bounded in depth and keys', () => {
    const nested = (depth: number) => `${'['.repeat(depth)}${']'.repeat(depth)}`
    assert.ok(!(parse(nested(maxDepth)) instanceof Fault))
    assert.match(why(nested(maxDepth + 1)), /deeper/)
    const keys = (count: number) => `{${Array.from({ length: count }, (_, i) => `"k${i}":1`).join()}}`
    assert.ok(!(parse(keys(maxKeys)) instanceof Fault))
    assert.match(why(keys(maxKeys + 1)), /more than/)
    assert.ok(!(parse(`"${'['.repeat(maxDepth * 2)}"`) instanceof Fault))
  })
})

describe('the readers of bytes', () => {
  it('find the end and the value of every string', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.string(), (value, behind) => {
        const literal = Buffer.from(JSON.stringify(value))
        const bytes = Buffer.concat([Buffer.from('['), literal, Buffer.from(behind)])
        const end = stringEnd(bytes, 1)
        assert.equal(end, 1 + literal.length)
        assert.equal(stringAt(bytes, 1, end), value.toWellFormed() === value ? value : JSON.parse(literal.toString()))
      }),
    )
  })

  it('stop at the end of the bytes', () => {
    assert.equal(stringEnd(Buffer.from('"abc'), 0), 4)
    assert.equal(stringEnd(Buffer.from('"abc\\"'), 0), 6)
    assert.equal(scalarEnd(Buffer.from('true'), 0), 4)
    assert.equal(scalarEnd(Buffer.from('12,'), 0), 2)
    assert.equal(skipSpace(Buffer.from(' \t\r\n'), 0), 4)
    assert.equal(skipSpace(Buffer.from('\u00a0'), 0), 0)
  })
})
