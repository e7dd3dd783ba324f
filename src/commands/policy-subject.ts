/** Who a policy question is about: a key with everything above it, or roles alone. @module */
import { z } from 'zod'
import type { Account, AccountKind, Tool } from '../call.ts'
import { type AccountView, accountShape } from './account-view.ts'
import type { AdminApi } from './admin-api.ts'
import { definitionShape } from './registry.ts'
import { exits, Failed } from './report.ts'

export interface Subject {
  readonly account: Account
  readonly tool: Tool | undefined
  readonly notes: readonly string[]
}

/** A key with these roles and nothing else. */
export function roleAccount(roles: readonly string[]): Account {
  return { ...bare, id: 'explained', parent: null, kind: 'key', name: 'explained', roles }
}

const bare = {
  limits: [],
  models: null,
  tools: null,
  roles: [] as readonly string[],
  labels: {},
  expiresAt: null,
  revokedAt: null,
  createdAt: 0,
  version: 0,
} as const

/**
 * Asks the gateway for a key or session, all accounts above it, and the tool.
 *
 * @param id of the key or session; the key itself is understood too
 * @param hash of the configuration here, compared with the gateway's
 */
export async function askAbout(api: AdminApi, id: string, tool: string, hash: string): Promise<Subject | Failed> {
  const leaf = /^sk-gate-(.+)_[^_]+$/.exec(id)?.[1] ?? id
  const chain: AccountView[] = []
  for (let next: string | null = leaf; next !== null; ) {
    const row: AccountView | Failed = await api.ask(
      'GET',
      `/${tableOf(next)}/${encodeURIComponent(next)}`,
      accountShape,
    )
    if (row instanceof Failed) return row
    chain.push(row)
    next = row.parent
  }
  const account = chain.reduceRight<Account | null>((parent, row) => accountOf(row, parent), null)
  if (account === null) return new Failed(exits.refused, `"${id}" is no id of a key or session`)
  const notes: string[] = []
  for (const row of chain) {
    if (row.revoked_at !== null) notes.push(`${row.id} is revoked: its calls answer invalid_key`)
    else if (row.expires_at !== null) notes.push(`${row.id} ends at ${row.expires_at}`)
  }
  const found = await toolOf(api, tool)
  if (found instanceof Failed) notes.push(`no tool of this name is known there (${found.message})`)
  const running = await api.configHash()
  if (running !== null && running !== hash) {
    notes.push('the gateway runs other files than these; name its folder with --home')
  }
  return { account, tool: found instanceof Failed ? undefined : found, notes }
}

/** Ids tell what they are of. */
function tableOf(id: string): 'keys' | 'sessions' | 'accounts' {
  return id.startsWith('k_') ? 'keys' : id.startsWith('s_') ? 'sessions' : 'accounts'
}

/** What decisions look at; the rest of an account plays no part in them. */
function accountOf(row: AccountView, parent: Account | null): Account {
  const { id, name, models, tools, roles, labels } = row
  return { ...bare, id, parent, kind: row.kind as AccountKind, name, models, tools, roles, labels }
}

async function toolOf(api: AdminApi, outward: string): Promise<Tool | Failed> {
  const at = outward.indexOf('__')
  const server = outward.slice(0, at)
  const name = outward.slice(at + 2)
  const shape = z.object({ definitions: z.array(definitionShape) })
  const found = await api.ask('GET', `/servers/${encodeURIComponent(server)}`, shape)
  if (found instanceof Failed) return found
  const definition = found.definitions.find((one) => one.name === name)
  if (definition === undefined) return new Failed(exits.refused, `the server ${server} lists no ${name}`)
  return { server, name, outward, definition }
}
