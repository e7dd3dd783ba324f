/** What can be told of an image, a sound or a file from its first bytes, without decoding it. @module */
import type { Media } from '../call.ts'

/** The part of a data URL before the data, and the data as base64 text. */
interface DataUrl {
  readonly type: string
  readonly data: string
}

export interface MediaPart {
  readonly media: Media
  /** Characters of the body that are data and not text. */
  readonly dataLength: number
}

/** Base64 text read for a header; a JPEG's sizes can stand behind a long preview. */
const headerLength = 256 * 1024

/** @param url as in an image part; anything but a data URL is fetched by the vendor and cannot be told */
export function imagePart(url: unknown, detail: unknown): MediaPart {
  const found = typeof url === 'string' ? readDataUrl(url) : null
  const size = found === null ? null : imageSize(bytesOf(found.data, headerLength))
  return {
    media: { kind: 'image', width: size?.width ?? null, height: size?.height ?? null, low: detail === 'low' },
    dataLength: found?.data.length ?? 0,
  }
}

/** @param data base64, as in an `input_audio` part, or a data URL */
export function audioPart(data: unknown): MediaPart {
  if (typeof data !== 'string' || /^https?:/i.test(data)) {
    return { media: { kind: 'audio', seconds: null }, dataLength: 0 }
  }
  const base64 = readDataUrl(data)?.data ?? data
  return { media: { kind: 'audio', seconds: secondsOf(base64) }, dataLength: base64.length }
}

/** @param data base64 with or without a data URL around it, or nothing where the vendor keeps the file */
export function filePart(data: unknown): MediaPart {
  const found = typeof data === 'string' ? readDataUrl(data) : null
  if (found === null) return { media: { kind: 'file', textBytes: null }, dataLength: 0 }
  const isText = /^(text\/|application\/(json|xml|x-yaml|yaml))/i.test(found.type)
  return {
    media: { kind: 'file', textBytes: isText ? byteLength(found.data) : null },
    dataLength: found.data.length,
  }
}

function readDataUrl(url: string): DataUrl | null {
  const head = /^data:([^,;]*)(?:;[^,;]*)*;base64,/i.exec(url.slice(0, 256))
  return head === null ? null : { type: head[1] as string, data: url.slice(head[0].length) }
}

function byteLength(base64: string): number {
  return Math.ceil((base64.length * 3) / 4)
}

function bytesOf(base64: string, most: number): Buffer {
  return Buffer.from(base64.slice(0, most), 'base64')
}

/** Slowest speech codec in use, 6 kbit/s, and the slowest MP3. */
const slowest = 750
const slowestMp3 = 1_000

/** Longest the sound can be: its bytes at the slowest rate its format has. */
function secondsOf(base64: string): number {
  const size = byteLength(base64)
  const head = bytesOf(base64, 64)
  const mark = (at: number, length: number) => head.toString('latin1', at, at + length)
  if (mark(0, 4) === 'RIFF' && mark(8, 4) === 'WAVE' && mark(12, 4) === 'fmt ' && head.length >= 34) {
    // The rate is written twice; a reader may go by either.
    const written = Math.min(head.readUInt32LE(28), head.readUInt32LE(24) * head.readUInt16LE(32))
    return size / Math.max(slowest, written)
  }
  const isMp3 = mark(0, 3) === 'ID3' || (head[0] === 0xff && ((head[1] ?? 0) & 0xe0) === 0xe0)
  return size / (isMp3 ? slowestMp3 : slowest)
}

interface Size {
  readonly width: number
  readonly height: number
}

/** Width and height from the header of a PNG, GIF, WebP or JPEG; null for anything else, or a header cut short. */
export function imageSize(bytes: Buffer): Size | null {
  try {
    const size = pngSize(bytes) ?? gifSize(bytes) ?? webpSize(bytes) ?? jpegSize(bytes)
    return size === null || size.width === 0 || size.height === 0 ? null : size
  } catch (error) {
    if (error instanceof RangeError) return null
    throw error
  }
}

function pngSize(bytes: Buffer): Size | null {
  if (bytes.toString('latin1', 0, 8) !== '\x89PNG\r\n\x1a\n' || bytes.toString('latin1', 12, 16) !== 'IHDR') return null
  return { width: bytes.readUInt32BE(16), height: bytes.readUInt32BE(20) }
}

function gifSize(bytes: Buffer): Size | null {
  if (!/^GIF8[79]a$/.test(bytes.toString('latin1', 0, 6))) return null
  return { width: bytes.readUInt16LE(6), height: bytes.readUInt16LE(8) }
}

function webpSize(bytes: Buffer): Size | null {
  if (bytes.toString('latin1', 0, 4) !== 'RIFF' || bytes.toString('latin1', 8, 12) !== 'WEBP') return null
  switch (bytes.toString('latin1', 12, 16)) {
    case 'VP8 ':
      return { width: bytes.readUInt16LE(26) & 0x3fff, height: bytes.readUInt16LE(28) & 0x3fff }
    case 'VP8L': {
      const packed = bytes.readUInt32LE(21)
      return { width: (packed & 0x3fff) + 1, height: ((packed >>> 14) & 0x3fff) + 1 }
    }
    case 'VP8X':
      return { width: bytes.readUIntLE(24, 3) + 1, height: bytes.readUIntLE(27, 3) + 1 }
    default:
      return null
  }
}

function jpegSize(bytes: Buffer): Size | null {
  if (bytes[0] !== 0xff || bytes[1] !== 0xd8) return null
  let at = 2
  for (;;) {
    if (bytes.readUInt8(at) !== 0xff) return null
    const marker = bytes.readUInt8(at + 1)
    // Fill bytes, and markers without a length.
    if (marker === 0xff) at += 1
    else if (marker === 0x01 || (marker >= 0xd0 && marker <= 0xd8)) at += 2
    else if (marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc) {
      return { width: bytes.readUInt16BE(at + 7), height: bytes.readUInt16BE(at + 5) }
    } else {
      const length = bytes.readUInt16BE(at + 2)
      if (length < 2) return null
      at += 2 + length
    }
  }
}
