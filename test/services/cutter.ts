/** A way to a TCP server that can be cut at the worst moment. @module */
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { after } from 'node:test'

export interface Cutter {
  readonly port: number
  /** The next message with this text reaches the server, and its answer never comes back: the connection is cut. */
  cutAfter(text: string): Promise<void>
  /** Nobody comes through, and who is through is cut off; until `open`. */
  close(): void
  open(): void
}

const cutters: { end(): void }[] = []
after(() => {
  for (const { end } of cutters) end()
})

/** Listens on a port of its own and passes everything on. */
export async function startCutter(to: number): Promise<Cutter> {
  const open = new Set<Socket>()
  let shut = false
  let wanted: { readonly text: string; readonly cut: () => void } | null = null
  const server = createServer((near) => {
    if (shut) return near.destroy()
    const far = connect(to, '127.0.0.1')
    let doomed: (() => void) | null = null
    for (const socket of [near, far]) {
      open.add(socket)
      socket.on('error', () => undefined)
      socket.on('close', () => {
        open.delete(socket)
        near.destroy()
        far.destroy()
      })
    }
    near.on('data', (chunk) => {
      if (wanted !== null && chunk.includes(wanted.text)) {
        doomed = wanted.cut
        wanted = null
      }
      far.write(chunk)
    })
    far.on('data', (chunk) => {
      if (doomed === null) return near.write(chunk)
      near.destroy()
      doomed()
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const cutAll = () => {
    for (const socket of open) socket.destroy()
  }
  cutters.push({
    end() {
      server.close()
      cutAll()
    },
  })
  return {
    port: (server.address() as { port: number }).port,
    cutAfter: (text) =>
      new Promise((resolve) => {
        wanted = { text, cut: resolve }
      }),
    close() {
      shut = true
      cutAll()
    },
    open() {
      shut = false
    },
  }
}
