/** The admin API of a running gateway, as commands ask it. @module */
import type { Command } from 'commander'
import { z } from 'zod'
import { createEgress, type Egress, parseAllowance } from '../egress.ts'
import { explain, Fault } from '../fault.ts'
import { clientEnvironment } from '../main.ts'
import { exits, Failed, print, type Report } from './report.ts'

export interface AdminApi {
  /** Base URL, without a trailing slash. */
  readonly url: string
  /**
   * @param path below `/admin/v1`
   * @param shape what the answer has to look like
   */
  ask<T>(method: 'GET' | 'POST' | 'DELETE', path: string, shape: z.ZodType<T>, body?: unknown): Promise<T | Failed>
  /** Every row of a list, page by page. */
  all<T>(path: string, row: z.ZodType<T>): Promise<readonly T[] | Failed>
  /** Which configuration the gateway runs, or null where it does not tell (an admin listener of its own). */
  configHash(): Promise<string | null>
}

export interface Reach {
  readonly url?: string
  readonly json?: boolean
}

const timeoutMs = 15_000
const maxBytes = 32 * 1024 * 1024
const pageRows = 500

/** Adds the options of every command that talks to a gateway. */
export function reaching(command: Command): Command {
  return command
    .option('--url <url>', 'the gateway (default: GATEHOUSE_PUBLIC_URL, else http://127.0.0.1 with PORT or 8787)')
    .option('--json', 'print JSON, for scripts')
}

/** Runs a command against the gateway that the options and the environment name, and prints what it says. */
export async function withGateway(options: Reach, run: (api: AdminApi) => Promise<Report | Failed>): Promise<void> {
  print(await reached(options, run), options.json)
}

/** The same without printing. */
export async function reached<T>(
  options: Pick<Reach, 'url'>,
  run: (api: AdminApi) => Promise<T | Failed>,
): Promise<T | Failed> {
  const { url: fallback, adminKey } = clientEnvironment()
  const url = URL.parse(options.url ?? fallback)
  if (url === null || !/^https?:$/.test(url.protocol)) {
    return new Failed(exits.usage, `"${options.url ?? fallback}" is no http or https URL`)
  }
  const key = adminKey?.trim() ?? ''
  if (key === '') {
    const how = 'set it to the admin key that the first start of the gateway printed'
    return new Failed(exits.key, `GATEHOUSE_ADMIN_KEY is not set; ${how}`)
  }
  const egress = createEgress({ allowPrivate: typed(url) })
  try {
    return await run(adminApi(egress, url.href.replace(/[?#].*$/, '').replace(/\/+$/, ''), key))
  } finally {
    await egress.close()
  }
}

/** Whoever typed the address meant it, private or not; nothing beside that address and port is opened. */
function typed(url: URL): string[] {
  const port = url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : Number(url.port)
  if (url.hostname === 'localhost') return [`127.0.0.1/32:${port}`, `[::1/128]:${port}`]
  const literal = url.hostname.startsWith('[') ? `${url.hostname}/128:${port}` : `${url.hostname}/32:${port}`
  // A name stands for whatever it resolves to.
  return typeof parseAllowance(literal) === 'string' ? [`0.0.0.0/0:${port}`, `[::/0]:${port}`] : [literal]
}

const errorShape = z.object({ error: z.object({ code: z.string().nullish(), message: z.string() }) })

function adminApi(egress: Egress, url: string, key: string): AdminApi {
  async function ask<T>(
    method: 'GET' | 'POST' | 'DELETE',
    path: string,
    shape: z.ZodType<T>,
    body?: unknown,
  ): Promise<T | Failed> {
    const answer = await egress.fetch({
      url: `${url}/admin/v1${path}`,
      method,
      headers: ['authorization', `Bearer ${key}`, 'content-type', 'application/json'],
      ...(body !== undefined && { body: JSON.stringify(body) }),
      maxBytes,
      timeoutMs,
    })
    if (answer instanceof Fault) {
      const how = 'start one with "gatehouse serve", or name another with --url or GATEHOUSE_PUBLIC_URL'
      return new Failed(exits.unreachable, `no gateway answers at ${url} (${explain(answer.body)}); ${how}`)
    }
    const value = parsed(answer.body)
    const refusal = errorShape.safeParse(value)
    if (answer.status === 401) {
      return new Failed(exits.key, `the gateway at ${url} refuses GATEHOUSE_ADMIN_KEY: it is not its admin key`)
    }
    if (refusal.success) {
      const { code, message } = refusal.data.error
      if (code === 'forbidden') return new Failed(exits.key, `the gateway at ${url} refuses: ${message}`)
      return new Failed(exits.refused, code ? `${message} (${code})` : message)
    }
    const fit = shape.safeParse(value)
    if (fit.success && answer.status < 400) return fit.data
    const what = `${method} /admin/v1${path} answered status ${answer.status} and nothing this version understands`
    return new Failed(exits.unreachable, `what listens at ${url} is no gateway of this version: ${what}`)
  }

  return {
    url,
    ask,
    async all(path, row) {
      const page = z.object({ data: z.array(row), next: z.string().nullish() })
      const rows: z.output<typeof row>[] = []
      const first = `${path}${path.includes('?') ? '&' : '?'}limit=${pageRows}`
      let after: string | null = null
      do {
        const from: string = after === null ? first : `${first}&after=${encodeURIComponent(after)}`
        const answer = await ask('GET', from, page)
        if (answer instanceof Failed) return answer
        rows.push(...answer.data)
        after = answer.next ?? null
      } while (after !== null)
      return rows
    },
    async configHash() {
      const answer = await egress.fetch({ url: `${url}/readyz`, maxBytes, timeoutMs })
      const shape = z.object({ config: z.object({ hash: z.string() }) })
      const ready = shape.safeParse(answer instanceof Fault ? null : parsed(answer.body))
      return ready.data?.config.hash ?? null
    },
  }
}

function parsed(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString()) as unknown
  } catch {
    return null
  }
}
