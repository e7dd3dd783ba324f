/** A whole gateway in a temporary folder, with keys, for tests that come in by the front door. @module */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Running, start } from '../../src/main.ts'
import { settingsFrom } from '../../src/settings.ts'
import { until } from './rig.ts'

const adminKey = 'admin-key-for-tests-only-0123456789'

export interface FrontDoor {
  readonly running: Running
  readonly url: string
  /** A key that may call these tools (outward patterns). */
  key(tools: readonly string[], more?: object): Promise<string>
  admin(method: string, path: string, body?: object): Promise<Record<string, unknown>>
  /** One POST with a raw body. */
  post(path: string, key: string | null, headers: Record<string, string>, body: string): Promise<Answer>
  /** Waits until these servers have been listed. */
  healthy(...servers: string[]): Promise<void>
  close(): Promise<void>
}

export interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  readonly json: { id?: unknown; result?: Record<string, unknown>; error?: { code: number; message: string } } | null
}

/** @param servers rows by id; JSON is YAML */
export async function openFrontDoor(servers: Record<string, object>): Promise<FrontDoor> {
  const home = mkdtempSync(join(tmpdir(), 'gatehouse-mcp-'))
  for (const folder of ['registry/servers', 'policies/tools', 'data'])
    mkdirSync(join(home, folder), { recursive: true })
  for (const [id, row] of Object.entries(servers)) {
    writeFileSync(join(home, 'registry/servers', `${id}.yaml`), JSON.stringify({ kind: 'mcp', ...row }))
  }
  const env = { GATEHOUSE_ADMIN_KEY: adminKey, GATEHOUSE_LOG_LEVEL: 'silent' }
  const running = await start(settingsFrom(env, { home, port: '0' }, home))
  const { url } = running

  async function admin(method: string, path: string, body?: object): Promise<Record<string, unknown>> {
    const response = await fetch(`${url}/admin/v1${path}`, {
      method,
      headers: { authorization: `Bearer ${adminKey}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    const answer = (await response.json()) as Record<string, unknown>
    assert.ok(response.ok, JSON.stringify(answer))
    return answer
  }
  const account = await admin('POST', '/accounts', { name: 'test' })

  return {
    running,
    url,
    admin,
    async key(tools, more = {}) {
      const made = await admin('POST', '/keys', { name: 'k', account: account.id, tools, ...more })
      return String(made.key)
    },
    async post(path, key, headers, body) {
      const response = await fetch(`${url}${path}`, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          accept: 'application/json, text/event-stream',
          ...(key === null ? {} : { authorization: `Bearer ${key}` }),
          ...headers,
        },
        body,
      })
      const text = await response.text()
      const isJson = (response.headers.get('content-type') ?? '').startsWith('application/json')
      return { status: response.status, headers: response.headers, text, json: isJson ? JSON.parse(text) : null }
    },
    healthy: (...ids) =>
      until(`${ids} are healthy`, () =>
        ids.every((id) => running.gateway.catalogue.targets().get(id)?.state().status === 'healthy'),
      ),
    async close() {
      await running.stop(1000)
      rmSync(home, { recursive: true, force: true })
    },
  }
}

const version = 'io.modelcontextprotocol/protocolVersion'
const capabilities = 'io.modelcontextprotocol/clientCapabilities'

/** Headers and body of a well-formed request of the current revision. */
export function modernRequest(method: string, params: Record<string, unknown> = {}, id: unknown = 1) {
  const headers: Record<string, string> = { 'mcp-protocol-version': '2026-07-28', 'mcp-method': method }
  if (method === 'tools/call') headers['mcp-name'] = String(params.name)
  const meta = { [version]: '2026-07-28', [capabilities]: {}, ...(params._meta as object | undefined) }
  return { headers, body: JSON.stringify({ jsonrpc: '2.0', id, method, params: { ...params, _meta: meta } }) }
}
