/** The kinds of tool server, and the set of open ones across a change of configuration. @module */
import type { Target } from '../call.ts'
import type { TargetDeps } from './deps.ts'
import { mcpTarget } from './mcp.ts'
import type { McpRow } from './mcp-row.ts'
import { openapiTarget } from './openapi.ts'
import type { OpenapiRow } from './openapi-row.ts'

type Row = McpRow | OpenapiRow

/** One line per kind; a row whose kind is not here does not type-check. */
export const targetKinds = { mcp: mcpTarget, openapi: openapiTarget } satisfies {
  [Kind in Row['kind']]: (id: string, row: Extract<Row, { kind: Kind }>, deps: TargetDeps) => Target
}

export type TargetKind = keyof typeof targetKinds

/** The row each target was opened with; targets themselves need not know how they are compared. */
const openedWith = new WeakMap<Target, string>()

/**
 * Opens the targets of a configuration. One whose row did not change is taken over as it is, with its connections and
 * its catalogue; one that changed or went away is closed. New ones have not been refreshed yet.
 *
 * @param servers rows by server id
 * @param previous what an earlier call returned, or an empty map; not to be used afterwards
 * @returns targets in the order of their ids
 */
export function openTargets(
  servers: ReadonlyMap<string, Row>,
  deps: TargetDeps,
  previous: ReadonlyMap<string, Target>,
): Map<string, Target> {
  const open = new Map<string, Target>()
  for (const [id, row] of [...servers].sort(([a], [b]) => (a < b ? -1 : 1))) {
    // What a call costs is no matter of the connection.
    const key = JSON.stringify({ ...row, price: null, reports_cost: null })
    const known = previous.get(id)
    if (known !== undefined && openedWith.get(known) === key) {
      open.set(id, known)
      continue
    }
    const target = openTarget(id, row, deps)
    openedWith.set(target, key)
    open.set(id, target)
  }
  for (const [id, target] of previous) {
    if (open.get(id) === target) continue
    target.close().catch((error: unknown) => {
      deps.log.warn(
        { server: id, why: error instanceof Error ? error.message : 'unknown' },
        'tool server did not close',
      )
    })
  }
  return open
}

function openTarget(id: string, row: Row, deps: TargetDeps): Target {
  switch (row.kind) {
    case 'mcp':
      return targetKinds.mcp(id, row, deps)
    case 'openapi':
      return targetKinds.openapi(id, row, deps)
  }
}
