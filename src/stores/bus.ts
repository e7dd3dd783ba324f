/**
 * Hints between processes: what was revoked, what should be recalled. A message may be lost, come twice or come late;
 * whoever listens must be right without it, only later.
 * @module
 */

export interface Bus {
  /** Tells every listener of the topic, here at once and elsewhere when it gets there. Never throws. */
  publish(topic: string, text: string): void
  /** @returns how to stop listening */
  subscribe(topic: string, listener: (text: string) => void): () => void
  close(): Promise<void>
}

/** The listeners of one process. */
export interface Listeners {
  tell(topic: string, text: string): void
  /** @returns how to stop listening */
  add(topic: string, listener: (text: string) => void): () => void
  topics(): readonly string[]
  clear(): void
}

/** @param onError a listener threw; the others hear the message all the same */
export function createListeners(onError: (error: unknown) => void): Listeners {
  const byTopic = new Map<string, Set<(text: string) => void>>()
  return {
    tell(topic, text) {
      for (const listener of [...(byTopic.get(topic) ?? [])]) {
        try {
          listener(text)
        } catch (error) {
          onError(error)
        }
      }
    },
    add(topic, given) {
      // Listening twice with one function is two listeners.
      const listener = (text: string) => given(text)
      const all = byTopic.get(topic) ?? new Set()
      byTopic.set(topic, all.add(listener))
      return () => {
        all.delete(listener)
        if (all.size === 0 && byTopic.get(topic) === all) byTopic.delete(topic)
      }
    },
    topics: () => [...byTopic.keys()],
    clear: () => byTopic.clear(),
  }
}

/** Within this process. */
export function memoryBus(onError: (error: unknown) => void = () => {}): Bus {
  const listeners = createListeners(onError)
  return {
    publish: listeners.tell,
    subscribe: listeners.add,
    async close() {
      listeners.clear()
    },
  }
}
