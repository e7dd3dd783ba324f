/** A worker's side of the words between the processes on one port; the parent (workers.ts) carries them. @module */
import cluster from 'node:cluster'
import type { Siblings } from '../main.ts'
import type { Welcome } from '../welcome.ts'

export type WorkerWord =
  | { readonly ready: { readonly url: string; readonly welcome: Welcome } }
  /** There is something to look at in the store. */
  | { readonly wake: true }
  /** What have you counted? `from` is the asking worker. */
  | { readonly ask: number; readonly from: number }
  /** The parent: so many were asked. */
  | { readonly asked: number; readonly of: number }
  | { readonly tell: number; readonly to: number; readonly text: string }

/** A sibling that does not answer is left out: a scrape must not wait for one that hangs. */
const patienceMs = 1000

/** Outside of a worker nobody is there. */
export function siblings(): Siblings {
  if (!cluster.isWorker) return { wake() {}, onWake() {}, texts: async () => [], onText() {} }
  const say = (word: WorkerWord) => void process.send?.(word)
  const hear = (listener: (word: WorkerWord) => void) => void process.on('message', listener)
  let asked = 0
  return {
    wake: () => say({ wake: true }),
    onWake: (listener) => hear((word) => 'wake' in word && listener()),
    texts() {
      const ask = ++asked
      return new Promise((resolve) => {
        const texts: string[] = []
        let expected = Number.POSITIVE_INFINITY
        const end = () => {
          clearTimeout(late)
          process.off('message', listen)
          resolve(texts)
        }
        const late = setTimeout(end, patienceMs)
        const listen = (word: WorkerWord) => {
          if ('asked' in word && word.asked === ask) expected = word.of
          if ('tell' in word && word.tell === ask) texts.push(word.text)
          if (texts.length >= expected) end()
        }
        process.on('message', listen)
        say({ ask, from: 0 })
      })
    },
    onText: (render) =>
      hear((word) => {
        if ('ask' in word) void render().then((text) => say({ tell: word.ask, to: word.from, text }))
      }),
  }
}

export function sayReady(url: string, welcome: Welcome): void {
  process.send?.({ ready: { url, welcome } } satisfies WorkerWord)
}
