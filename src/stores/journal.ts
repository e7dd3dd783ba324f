/**
 * Dispatch marks in a file per process. What has been written to it survives the death of the process, since the kernel
 * has it; it is not forced to the disk, so a power loss may take the last marks along. A line costs one small write,
 * where a row in the database would cost a commit before every call.
 * @module
 */
import {
  closeSync,
  existsSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import type { Marks } from './database.ts'
import type { Mark } from './store.ts'

/** When a file has grown to this, it is written anew with what is still out. */
const rotateBytes = 4 * 1024 * 1024

interface Waiting {
  readonly writer: string
  text: string
  /** One promise for everyone in the turn. */
  readonly written: PromiseWithResolvers<void>
}

/** @param folder is made where missing; null keeps nothing, for a store that ends with its process */
export function openJournal(folder: string | null): Marks & { close(): void } {
  let open: { readonly writer: string; fd: number; size: number } | null = null
  let waiting: Waiting | null = null
  /** Lines that are out, by id: what a fresh file begins with. */
  const out = new Map<string, string>()

  function fileOf(writer: string): string {
    return join(folder as string, `${writer}.marks`)
  }

  function rotate(writer: string): void {
    const next = `${fileOf(writer)}.next`
    const fd = openSync(next, 'w', 0o600)
    const text = [...out.values()].join('')
    writeSync(fd, text)
    renameSync(next, fileOf(writer))
    if (open !== null) closeSync(open.fd)
    open = { writer, fd, size: text.length }
  }

  function write(writer: string, text: string): void {
    if (open?.writer !== writer || open.size > rotateBytes) {
      mkdirSync(folder as string, { recursive: true, mode: 0o700 })
      rotate(writer)
    }
    const current = open as { fd: number; size: number }
    try {
      writeSync(current.fd, text)
      current.size += text.length
    } catch (error) {
      // Half a line would spoil the next one.
      ftruncateSync(current.fd, current.size)
      throw error
    }
  }

  /** Calls that leave in one turn of the event loop share a write. */
  function flush(): void {
    const { writer, text, written } = waiting as Waiting
    waiting = null
    try {
      write(writer, text)
      written.resolve()
    } catch (error) {
      written.reject(error)
    }
  }

  return {
    add(writer, marks) {
      if (folder === null) return
      if (waiting === null || waiting.writer !== writer) {
        if (waiting !== null) flush()
        waiting = { writer, text: '', written: Promise.withResolvers<void>() }
        setImmediate(() => waiting !== null && flush())
      }
      for (const mark of marks) {
        const line = textOf(mark)
        out.set(mark.line.id, line)
        waiting.text += line
      }
      return waiting.written.promise
    },
    forget(_, ids) {
      for (const id of ids) out.delete(id)
    },
    async of(writer) {
      if (folder === null || !existsSync(fileOf(writer))) return []
      const found = new Map<string, Mark>()
      // What stands behind the last line feed was being written when the process died: its call had not left yet.
      for (const line of readFileSync(fileOf(writer), 'utf8').split('\n').slice(0, -1)) {
        const mark = markOf(line)
        // A later line of the same attempt is its hold after it has grown.
        if (mark !== null) found.set(mark.line.id, mark)
      }
      return [...found.values()]
    },
    async drop(writer) {
      if (folder === null) return
      if (open?.writer === writer) this.close()
      rmSync(fileOf(writer), { force: true })
      rmSync(`${fileOf(writer)}.next`, { force: true })
    },
    close() {
      if (open !== null) closeSync(open.fd)
      open = null
    },
  }
}

function textOf({ line, head }: Mark): string {
  const { id, account, at, booked, usd, tokens, requests, tool_calls } = line
  return `${id}\t${account}\t${at}\t${booked}\t${usd}\t${tokens}\t${requests}\t${tool_calls}\t${head}\n`
}

function markOf(text: string): Mark | null {
  const [id, account, at, booked, usd, tokens, requests, calls, head] = text.split('\t')
  if (id === undefined || account === undefined || head === undefined) return null
  const line = {
    id,
    account,
    at: Number(at),
    booked: Number(booked),
    usd: Number(usd),
    tokens: Number(tokens),
    requests: Number(requests),
    tool_calls: Number(calls),
  }
  return { line, head }
}
