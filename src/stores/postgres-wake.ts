/** Being woken: a connection that listens for what other processes announce, and is made anew when it was lost. @module */
import type pg from 'pg'
import { channel } from './database.ts'
import { type Address, connect, discard } from './postgres-connection.ts'

/** How long after a lost connection the next is tried, ms. */
const retryMs = 1000

export interface WakeOptions {
  /** Something was announced, or may have been while nobody listened. */
  readonly onWake: () => void
  /** Whether a server process is ours; what this process announces itself does not wake it. */
  readonly isOwn: (processId: number) => boolean
}

/** Listens for as long as it is not closed. Hints only: whoever looks around regularly misses nothing without them. */
export function listenForWakes(address: Address, { onWake, isOwn }: WakeOptions): { close(): Promise<void> } {
  let client: pg.Client | null = null
  let timer: NodeJS.Timeout | null = null
  let closed = false
  let connecting = open(false)

  async function open(again: boolean): Promise<void> {
    timer = null
    try {
      const made = await connect(address)
      made.on('notification', ({ processId }) => {
        if (!closed && !isOwn(processId)) onWake()
      })
      made.once('end', later)
      await made.query(`listen ${channel}`)
      client = made
      if (closed) discard(made)
      else if (again) onWake()
    } catch {
      later()
    }
  }

  function later(): void {
    client = null
    if (closed || timer !== null) return
    timer = setTimeout(() => {
      connecting = open(true)
    }, retryMs)
    timer.unref()
  }

  return {
    async close() {
      closed = true
      if (timer !== null) clearTimeout(timer)
      await connecting
      await client?.end().catch(() => undefined)
    },
  }
}
