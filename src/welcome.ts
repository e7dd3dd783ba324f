/** The first start: an admin key, a demo key with a session, and lines to paste. @module */
import type { Gateway } from './gateway.ts'
import { digestOf, newId, newToken, storedDigest } from './identity/token.ts'
import { derive, masterKey } from './secrets.ts'
import type { Settings } from './settings.ts'
import type { AccountRow } from './stores/store.ts'

/** What is shown once. */
export interface Welcome {
  /** Only on the first start, and only when it was generated. */
  readonly adminKey: string | null
  /** Only on the first start. */
  readonly demoKey: string | null
}

const adminSetting = 'admin-key-digest'
const dayMs = 24 * 3600 * 1000

/** Makes the admin key known; on the first start of a data folder it is made, with a demo session. */
export async function welcome(gateway: Gateway, settings: Settings): Promise<Welcome> {
  const pepper = derive(masterKey(settings, gateway.random), 'key pepper')
  const { settings: kept } = gateway.store
  const before = await kept.get(adminSetting)
  if (settings.adminKey !== null) gateway.directory.setAdmin(storedDigest(digestOf(settings.adminKey), pepper))
  else if (before !== null) gateway.directory.setAdmin(before)
  if (before !== null) return { adminKey: null, demoKey: null }
  const fresh = settings.adminKey === null ? `gate-admin-${gateway.random(24).toString('base64url')}` : null
  const stored = storedDigest(digestOf(fresh ?? (settings.adminKey as string)), pepper)
  const demoKey = await demoSession(gateway)
  await kept.set(adminSetting, stored)
  gateway.directory.setAdmin(stored)
  return { adminKey: fresh, demoKey }
}

/** An organization, a key with the demo role, and a session below it that ends after a day. */
async function demoSession(gateway: Gateway): Promise<string> {
  const { directory, random } = gateway
  const now = gateway.clock.now()
  const base = {
    limits: [],
    models: null,
    tools: null,
    roles: [],
    labels: {},
    expiresAt: null,
    revokedAt: null,
    createdAt: now,
    version: 1,
  }
  const organization: AccountRow = {
    ...base,
    id: newId('a_', random),
    parent: null,
    kind: 'organization',
    name: 'demo',
  }
  const key: AccountRow = {
    ...base,
    id: newId('k_', random),
    parent: organization.id,
    kind: 'key',
    name: 'demo',
    roles: ['demo'],
  }
  const session: AccountRow = {
    ...base,
    id: newId('s_', random),
    parent: key.id,
    kind: 'session',
    name: 'demo session',
    expiresAt: now + dayMs,
    limits: [
      { unit: 'usd', max: 1_000_000, window: 'total', zone: 'UTC', action: 'stop', alertAt: [70, 90] },
      { unit: 'tool_calls', max: 1000, window: 'total', zone: 'UTC', action: 'stop', alertAt: [70, 90] },
    ],
  }
  const { token, digest } = newToken(session.id, random)
  await directory.create(organization, null)
  await directory.create(key, newToken(key.id, random).digest)
  await directory.create(session, digest)
  return token
}

/** What `gatehouse serve` prints when it is listening. */
export function greeting(url: string, { adminKey, demoKey }: Welcome): string {
  const lines = [`Gatehouse is listening on ${url}`]
  if (adminKey !== null) lines.push('', `  admin key, shown this once:  ${adminKey}`)
  if (demoKey === null) return `${lines.join('\n')}\n`
  lines.push(
    `  demo session key (a day, $1): ${demoKey}`,
    '',
    'Try it:',
    '',
    `  export GATEHOUSE_KEY=${demoKey}`,
    `  curl -s ${url}/v1/chat/completions -H "Authorization: Bearer $GATEHOUSE_KEY" -H 'Content-Type: application/json' \\`,
    `    -d '{"model": "demo", "messages": [{"role": "user", "content": "hello"}]}'`,
    '',
    `  curl -s ${url}/mcp -H "Authorization: Bearer $GATEHOUSE_KEY" -H 'Content-Type: application/json' \\`,
    "    -H 'Accept: application/json, text/event-stream' -H 'MCP-Protocol-Version: 2026-07-28' -H 'Mcp-Method: tools/list' \\",
    `    -d '{"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}}}'`,
    '',
    `  OpenAI SDKs:  base URL ${url}/v1, API key $GATEHOUSE_KEY`,
    `  MCP clients:  ${url}/mcp, header Authorization: Bearer $GATEHOUSE_KEY`,
  )
  return `${lines.join('\n')}\n`
}
