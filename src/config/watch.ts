/** Keeps the last good configuration and swaps in the next one when files change. @module */
import { type FSWatcher, watch } from 'node:fs'
import { join } from 'node:path'
import type { Config } from './config.ts'
import { type ConfigFault, describeFault } from './document.ts'
import { loadConfig } from './load.ts'

export interface HolderOptions {
  readonly home: string
  readonly secretExists: (ref: string) => boolean
  /** A new snapshot is live. Not called for the first one. */
  readonly onSwap: (config: Config) => void
  /** An edit was refused; the last good snapshot stays. One call per fault: `file:line:column message`. */
  readonly onFault: (fault: string) => void
}

export interface ConfigHolder {
  /** The live snapshot. Read it once per stage: the next call may see the next one. */
  current(): Config
  /** Reads everything again now and swaps even when no file changed (a secret may have appeared). */
  reload(): Promise<readonly string[]>
  /** Stops watching and waits for a load in progress. */
  close(): Promise<void>
}

/** Long enough for an editor's write-and-rename to be over, short enough to feel immediate. */
const debounceMs = 100

/** Folders with configuration, by path from home. Watched as folders: files are replaced by rename, not written to. */
const folders = ['registry', 'registry/servers', 'policies', 'policies/tools'] as const

/**
 * Loads the configuration and watches it.
 *
 * @returns the faults instead when the first load fails: there is no last good version to serve then
 */
export async function createConfigHolder(
  options: HolderOptions,
): Promise<ConfigHolder | { readonly faults: readonly ConfigFault[] }> {
  const { home, secretExists, onSwap, onFault } = options
  let timer: NodeJS.Timeout | null = null
  let watchers: FSWatcher[] = []
  let closed = false
  // While the first load runs, a change is only remembered: there is nothing to swap yet.
  let ready = false
  let missed = false
  let tail: Promise<unknown> = Promise.resolve()

  const changed = () => {
    if (closed) return
    if (!ready) {
      missed = true
      return
    }
    if (timer !== null) clearTimeout(timer)
    timer = setTimeout(() => {
      timer = null
      enqueue(false).catch((error: unknown) => onFault(`configuration not loaded: ${String(error)}`))
    }, debounceMs)
    timer.unref()
  }
  const watchFolders = () => {
    const previous = watchers
    watchers = []
    const open = (folder: string, listener: (name: string | null) => void) => {
      try {
        const watcher = watch(join(home, folder), { persistent: false }, (_, name) => listener(name))
        // A watched folder that is removed reports an error on some systems; its parent reports the removal.
        watcher.on('error', changed)
        watchers.push(watcher)
      } catch {
        // Not there (yet): the parent's watcher sees it come.
      }
    }
    open('.', (name) => {
      if (name === null || folders.some((folder) => folder.split('/')[0] === name)) changed()
    })
    for (const folder of folders) open(folder, changed)
    for (const watcher of previous) watcher.close()
  }

  // Before the first read, so that an edit during it is seen.
  watchFolders()
  const first = await loadConfig(home, { secretExists, previousEpoch: 0 })
  if ('faults' in first) {
    closed = true
    for (const watcher of watchers) watcher.close()
    return first
  }
  let current = first.config

  const load = async (always: boolean): Promise<readonly string[]> => {
    if (closed) return []
    // A folder may have been replaced by another of the same name; the old watcher would stay with the old one.
    watchFolders()
    const next = await loadConfig(home, { secretExists, previousEpoch: current.epoch })
    if ('faults' in next) {
      const told = next.faults.map(describeFault)
      for (const fault of told) onFault(fault)
      return told
    }
    if (always || next.config.hash !== current.hash) {
      current = next.config
      onSwap(current)
    }
    return []
  }
  /** One load at a time, in order: epochs never go back. */
  const enqueue = (always: boolean): Promise<readonly string[]> => {
    const result = tail.then(() => load(always))
    tail = result.catch(() => undefined)
    return result
  }

  ready = true
  if (missed) changed()
  return {
    current: () => current,
    reload: () => enqueue(true),
    async close() {
      closed = true
      if (timer !== null) clearTimeout(timer)
      for (const watcher of watchers) watcher.close()
      watchers = []
      await tail
    },
  }
}
