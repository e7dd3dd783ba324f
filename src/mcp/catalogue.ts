/**
 * The tools of all servers under every name they answer to. Reads the targets' last known lists; nothing waits here.
 * @module
 */
import type { Target, Tool } from '../call.ts'

/** The same shape as `Catalogue` of the gateway, which lies above this room. */
export interface ToolCatalogue {
  targets(): ReadonlyMap<string, Target>
  tools(): readonly Tool[]
  find(server: string | null, name: string): Tool | null
}

/**
 * @param targets the current servers by id; asked again each time, so that a configuration can be swapped whole
 */
export function createCatalogue(targets: () => ReadonlyMap<string, Target>): ToolCatalogue {
  // A target hands out the same array until its list changes, so identity tells what must be read again.
  const byName = new WeakMap<readonly Tool[], ReadonlyMap<string, Tool>>()
  let parts: readonly (readonly Tool[])[] = []
  let all: readonly Tool[] = []

  function named(tools: readonly Tool[]): ReadonlyMap<string, Tool> {
    const known = byName.get(tools)
    if (known !== undefined) return known
    const made = new Map(tools.map((tool) => [tool.name, tool]))
    byName.set(tools, made)
    return made
  }

  return {
    targets,
    tools() {
      const now = [...targets()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, target]) => target.tools())
      if (now.length !== parts.length || now.some((tools, i) => tools !== parts[i])) {
        parts = now
        all = now.flatMap((tools) => [...tools].sort((a, b) => (a.name < b.name ? -1 : 1)))
      }
      return all
    },
    find(server, name) {
      // Server ids have no underscore, so the first separator is the only one that can have been meant.
      const split = server === null ? name.indexOf('__') : -1
      if (server === null && split === -1) return null
      const id = server ?? name.slice(0, split)
      const tool = server === null ? name.slice(split + 2) : name
      const target = targets().get(id)
      return target === undefined ? null : (named(target.tools()).get(tool) ?? null)
    },
  }
}
