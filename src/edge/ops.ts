/** What operators and probes look at: liveness, readiness, metrics. @module */
import type { ServerResponse } from 'node:http'
import type { Route } from './route.ts'

export function opsRoutes(): readonly Route[] {
  const open = (path: string, handle: Route['handle']): Route => ({
    method: 'GET',
    path,
    auth: 'none',
    dialect: 'plain',
    metered: false,
    audited: false,
    handle,
  })
  return [
    open('/healthz', ({ outgoing }) => json(outgoing, 200, { status: 'ok' })),
    open('/readyz', ({ gateway, outgoing }) => {
      const store = gateway.store.healthy()
      const ready = store && !gateway.draining
      const { epoch, hash } = gateway.config
      json(outgoing, ready ? 200 : 503, {
        ready,
        store: store ? 'ok' : 'failing',
        draining: gateway.draining,
        config: { epoch, hash },
      })
    }),
    open('/metrics', async ({ gateway, outgoing }) => {
      const text = await gateway.metrics.render()
      outgoing.writeHead(200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' })
      outgoing.end(text)
    }),
  ]
}

function json(outgoing: ServerResponse, status: number, value: unknown): void {
  outgoing.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' })
  outgoing.end(JSON.stringify(value))
}
