/** What images, sounds and files count as, by the vendors' published rules and examples. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { Media } from '../../src/call.ts'
import { audioPart, filePart, imagePart, imageSize } from '../../src/tokens/media.ts'
import { familyOf, mediaTokens, overheadOf } from '../../src/tokens.ts'

const image = (width: number | null, height: number | null, low = false): Media => ({
  kind: 'image',
  width,
  height,
  low,
})
const tokens = (model: string, media: Media, context: number | null = null) =>
  mediaTokens(familyOf(model), media, context)

describe('an image', () => {
  it("counts by OpenAI's tiles", () => {
    // OpenAI's own examples: 1024 x 1024 are 4 tiles, 2048 x 4096 are 6.
    assert.equal(tokens('gpt-4o', image(1024, 1024)), 765)
    assert.equal(tokens('gpt-4o', image(2048, 4096)), 1105)
    assert.equal(tokens('gpt-4o', image(4096, 8192, true)), 85)
    assert.equal(tokens('gpt-4o', image(1, 1)), 255)
    assert.equal(tokens('gpt-4o', image(null, null)), 85 + 8 * 170)
    assert.equal(tokens('gpt-4o-mini', image(1024, 1024)), 2833 + 4 * 5667)
    assert.equal(tokens('gpt-5', image(1024, 1024)), 70 + 4 * 140)
  })

  it("counts by OpenAI's patches", () => {
    assert.equal(tokens('gpt-4.1-mini', image(1024, 1024)), Math.ceil(1024 * 1.62))
    assert.equal(tokens('gpt-4.1-nano', image(10_000, 10_000)), Math.ceil(1536 * 2.46))
    // Low detail changes nothing there.
    assert.equal(tokens('o4-mini', image(64, 64, true)), Math.ceil(4 * 1.72))
  })

  it("counts by Anthropic's area and Google's tiles", () => {
    // Anthropic's own example: 1000 x 1000 are about 1334.
    assert.equal(tokens('claude-sonnet-4-5', image(1000, 1000)), 1334)
    assert.equal(tokens('anthropic/claude-opus-4', image(null, null)), 4784)
    assert.equal(tokens('gemini-2.0-flash', image(384, 384)), 258)
    // Google's own example: 960 x 540 have a unit of 360 and so 3 x 2 tiles.
    assert.equal(tokens('gemini-2.5-pro', image(960, 540)), 6 * 258)
    assert.equal(tokens('google/gemini-2.5-pro', image(null, null)), 16 * 258)
  })

  it('is never more than one whose size is not known', () => {
    const models = [
      'gpt-4o',
      'gpt-4o-mini',
      'gpt-5-mini',
      'gpt-5.4',
      'o1',
      'claude-3',
      'gemini-2.0',
      'gemini-3-pro',
      'x',
    ]
    const side = fc.integer({ min: 1, max: 20_000 })
    fc.assert(
      fc.property(fc.constantFrom(...models), side, side, (model, width, height) => {
        const counted = tokens(model, image(width, height))
        assert.ok(Number.isSafeInteger(counted) && counted > 0)
        assert.ok(counted <= tokens(model, image(null, null)), `${model} ${width}x${height}: ${counted}`)
      }),
    )
  })

  it('tells its size in the header, whatever the format', () => {
    const png = Buffer.alloc(33)
    png.write('\x89PNG\r\n\x1a\n\0\0\0\rIHDR', 'latin1')
    png.writeUInt32BE(1920, 16)
    png.writeUInt32BE(1080, 20)
    const gif = Buffer.from('GIF89a\x80\x07\x38\x04', 'latin1')
    // A preview of some bytes, fill bytes, then the frame.
    const jpeg = Buffer.concat([
      Buffer.from([0xff, 0xd8, 0xff, 0xe0, 0, 6, 1, 2, 3, 4, 0xff, 0xff, 0xff, 0xc2, 0, 17, 8]),
      Buffer.from([0x04, 0x38, 0x07, 0x80, 3, 0, 0]),
    ])
    const webp = (kind: string, rest: number[]) =>
      Buffer.concat([Buffer.from(`RIFF\0\0\0\0WEBP${kind}\0\0\0\0`, 'latin1'), Buffer.from(rest)])
    const lossy = webp('VP8 ', [0, 0, 0, 0x9d, 0x01, 0x2a, 0x80, 0x07, 0x38, 0x04])
    const packed = (1920 - 1) | ((1080 - 1) << 14)
    const lossless = webp('VP8L', [0x2f, packed & 255, (packed >> 8) & 255, (packed >> 16) & 255, (packed >> 24) & 255])
    const extended = webp('VP8X', [0, 0, 0, 0, 0x7f, 0x07, 0, 0x37, 0x04, 0])
    for (const bytes of [png, gif, jpeg, lossy, lossless, extended]) {
      assert.deepEqual(imageSize(bytes), { width: 1920, height: 1080 })
      const { media, dataLength } = imagePart(`data:image/x;base64,${bytes.toString('base64')}`, 'high')
      assert.deepEqual(media, image(1920, 1080))
      assert.equal(dataLength, bytes.toString('base64').length)
      for (let cut = 0; cut < 10; cut++) assert.equal(imageSize(bytes.subarray(0, cut)), null)
    }
  })

  it('that cannot be read counts as the largest', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        const size = imageSize(Buffer.from(bytes))
        assert.ok(size === null || (size.width > 0 && size.height > 0))
      }),
    )
    for (const url of ['https://example.com/a.png', 'data:image/png,plain', 'data:image/png;base64,AAAA', 7, undefined])
      assert.deepEqual(imagePart(url, 'low').media, image(null, null, true))
  })
})

describe('a sound', () => {
  const base64 = (bytes: Buffer) => bytes.toString('base64')
  it('is as long as its bytes can be', () => {
    const wav = Buffer.alloc(48_000 + 44)
    wav.write('RIFF\0\0\0\0WAVEfmt ', 'latin1')
    wav.writeUInt32LE(24_000, 24)
    wav.writeUInt32LE(48_000, 28)
    wav.writeUInt16LE(2, 32)
    const seconds = (data: unknown) => {
      const { media } = audioPart(data)
      return media.kind === 'audio' ? media.seconds : assert.fail()
    }
    assert.ok(Math.abs((seconds(base64(wav)) as number) - 1) < 0.01)
    // A rate that is only claimed does not make it short.
    wav.writeUInt32LE(4_000_000_000, 28)
    assert.ok((seconds(base64(wav)) as number) > 0.99)
    const mp3 = Buffer.concat([Buffer.from('ID3'), Buffer.alloc(59_997)])
    assert.equal(seconds(base64(mp3)), 60)
    assert.equal(seconds('https://example.com/a.mp3'), null)
    assert.equal(tokens('gpt-4o-audio-preview', { kind: 'audio', seconds: 60 }), 616)
    assert.equal(tokens('gemini-2.5-flash', { kind: 'audio', seconds: null }, 8_000), 8_000)
  })
})

describe('a file', () => {
  it('of text counts its bytes, any other what the model takes at most', () => {
    const text = Buffer.from('one,two\n'.repeat(100))
    const { media, dataLength } = filePart(`data:text/csv;charset=utf-8;base64,${text.toString('base64')}`)
    assert.equal(dataLength, text.toString('base64').length)
    assert.ok(media.kind === 'file' && (media.textBytes as number) >= text.length)
    const pdf = filePart('data:application/pdf;base64,JVBERi0xLjcK').media
    assert.equal(tokens('gpt-4o', pdf), 460_000)
    assert.equal(tokens('gpt-4o', pdf, 128_000), 128_000)
    assert.deepEqual(filePart(undefined).media, { kind: 'file', textBytes: null })
  })
})

describe('a family', () => {
  it('is found by what its models are called, whoever serves them', () => {
    const same = (a: string, b: string) => assert.equal(familyOf(a), familyOf(b), `${a} ${b}`)
    same('openai/gpt-4o', 'gpt-4o-2024-11-20')
    same('us.anthropic.claude-haiku-4-5-20251001-v1:0', 'claude-opus-4-7')
    same('meta.llama3-1-70b-instruct-v1:0', 'meta-llama/Llama-3.3-70B')
    same('nobody/knows', 'this-one')
    for (const [model, encoding] of [
      ['gpt-5-mini', 'o200k_base'],
      ['o3', 'o200k_base'],
      ['openai/gpt-oss-120b', 'o200k_base'],
      ['gpt-4-turbo', 'cl100k_base'],
      ['gpt-3.5-turbo', 'cl100k_base'],
      ['text-embedding-3-small', 'cl100k_base'],
    ] as const) {
      assert.deepEqual([familyOf(model).encoding, familyOf(model).margin], [encoding, 1], model)
    }
    for (const model of ['claude-sonnet-4-5', 'gemini-2.5-pro', 'mistral-large', 'deepseek-chat', 'x'])
      assert.ok(familyOf(model).margin > 1, model)
  })

  it('adds for messages and tools', () => {
    const family = familyOf('claude-haiku-4-5')
    assert.ok(overheadOf(family, 2, 0) > overheadOf(family, 1, 0))
    // Anthropic puts some 350 to 530 tokens in front where there are tools.
    assert.ok(overheadOf(family, 1, 1) - overheadOf(family, 1, 0) >= 530)
  })
})
