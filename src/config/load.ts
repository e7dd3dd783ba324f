/** registry/ and policies/ to one frozen Config, or every fault with its place. @module */
import { z } from 'zod'
import { compilePolicies, type PolicyFile, policySchema } from '../policy/policies.ts'
import { type PolicyTest, policyTestsSchema } from '../policy/policy-tests.ts'
import type { Config, ModelRow, Provider, Route } from './config.ts'
import type { ConfigFault, Path, Read } from './document.ts'
import { limitsSchema } from './limits.ts'
import { nearest } from './nearest.ts'
import { modelSchema, providerId, providerSchema } from './provider.ts'
import { routeId, routeSchema } from './route.ts'
import { laterKinds, type ServerConfig, serverId, serverSchema } from './server.ts'
import { openSource, type Source } from './source.ts'

export interface LoadOptions {
  /** Whether a secret reference leads to a secret; decides which providers can be called. */
  readonly secretExists: (ref: string) => boolean
  /** Epoch of the snapshot this one follows, 0 for the first. */
  readonly previousEpoch: number
}

/** Top-level shape of each file that has one shape, by path from the home folder. */
export const fileSchemas = {
  'registry/providers.yaml': z.record(z.string(), providerSchema),
  'registry/models.yaml': z.record(z.string(), modelSchema),
  'policies/routes.yaml': z.record(z.string(), routeSchema),
  'policies/limits.yaml': limitsSchema,
} as const
const singleFiles = [
  'registry/providers.yaml',
  'registry/models.yaml',
  'policies/routes.yaml',
  'policies/limits.yaml',
] as const

/**
 * Reads and checks everything. Files and folders may be missing; what is there has to be right.
 *
 * @param home the folder that holds `registry/` and `policies/`
 * @returns a frozen snapshot, or every fault found (at least one)
 */
export async function loadConfig(
  home: string,
  options: LoadOptions,
): Promise<{ readonly config: Config } | { readonly faults: readonly ConfigFault[] }> {
  const source = openSource(home)
  const [providersFile, modelsFile, routesFile, limitsFile] = singleFiles
  const providers = providersOf(source, await source.read(providersFile, fileSchemas[providersFile], {}), options)
  // With the list of providers itself at fault, every mention of one would be reported too.
  const broken = source.faults.length > 0
  const knows: Knows = (read, path, id) => {
    const close = nearest(id, [...providers.keys()])
    const hint = close === null ? '' : `; did you mean "${close}"?`
    source.expect(read, path, broken || providers.has(id), `no provider "${id}" in ${providersFile}${hint}`)
  }
  const models = modelsOf(source, await source.read(modelsFile, fileSchemas[modelsFile], {}), knows)
  const routes = routesOf(source, await source.read(routesFile, fileSchemas[routesFile], {}), knows, models)
  const limits = await source.read(limitsFile, fileSchemas[limitsFile], {})
  for (const [index, { secret }] of (limits?.value.webhooks ?? []).entries()) {
    const why = `the secret ${secret} is not set or empty; unsigned messages are not sent`
    source.expect(limits, ['webhooks', index, 'secret'], options.secretExists(secret), why)
  }
  const servers = await loadServers(source)
  const policy = compilePolicies(await loadPolicyFiles(source))
  if (source.faults.length > 0) return { faults: source.faults }
  const maps = { providers, models, routes, servers }
  for (const map of Object.values(maps)) for (const row of map.values()) deepFreeze(row)
  return {
    config: Object.freeze({
      ...maps,
      policy,
      limits: limits?.value ?? limitsSchema.parse({}),
      epoch: options.previousEpoch + 1,
      hash: source.hash(),
    }),
  }
}

type Rows<K extends keyof typeof fileSchemas> = Read<z.output<(typeof fileSchemas)[K]>> | null

/** Notes a fault where a row names a provider that is not there. */
type Knows = (read: Read<unknown> | null, path: Path, id: string) => void

function providersOf(source: Source, read: Rows<'registry/providers.yaml'>, { secretExists }: LoadOptions) {
  const providers = new Map<string, Provider>()
  for (const [id, row] of Object.entries(read?.value ?? {})) {
    source.expect(read, [id], providerId.test(id), `"${id}" is not an id: a letter, then a-z, 0-9 and -`, 'key')
    const single = row.credential === undefined || row.credential === 'none' ? [] : [row.credential]
    const credentials = row.credentials ?? single
    providers.set(id, {
      id,
      baseUrl: row.base_url,
      speaks: row.speaks,
      credentials,
      allowPrivate: row.allow_private,
      lit: credentials.length === 0 || credentials.some(({ secret }) => secretExists(secret)),
      headers: row.headers,
      prefix: row.prefix,
      free: row.free,
    })
  }
  return providers
}

function modelsOf(source: Source, read: Rows<'registry/models.yaml'>, knows: Knows) {
  const models = new Map<string, ModelRow>()
  const upstreams = new Map<string, string>()
  for (const [id, row] of Object.entries(read?.value ?? {})) {
    knows(read, [id, 'provider'], row.provider)
    source.expect(read, [id], id !== '' && !/\s/.test(id), 'a model id has no spaces', 'key')
    const upstream = row.upstream ?? id
    // The same model under two names could have two prices, and which one counted would be chance.
    const twin = upstreams.get(`${row.provider}/${upstream}`)
    source.expect(read, [id], twin === undefined, `"${twin}" already is ${row.provider}/${upstream}`, 'key')
    upstreams.set(`${row.provider}/${upstream}`, id)
    models.set(id, {
      id,
      provider: row.provider,
      upstream,
      context: row.context ?? null,
      maxOutput: row.max_output ?? null,
      price: row.price ?? null,
    })
  }
  return models
}

function routesOf(
  source: Source,
  read: Rows<'policies/routes.yaml'>,
  knows: Knows,
  models: ReadonlyMap<string, ModelRow>,
) {
  const routes = new Map<string, Route>()
  for (const [id, row] of Object.entries(read?.value ?? {})) {
    source.expect(read, [id], routeId.test(id), `"${id}" is not a route name: no spaces, no "/"`, 'key')
    // One name, one meaning: a model row of the same name could never be reached.
    source.expect(read, [id], !models.has(id), `"${id}" is already a model in registry/models.yaml`, 'key')
    const targets = (list: typeof row.to, path: Path) =>
      list.map(({ provider, model, timeout, weight }, index) => {
        knows(read, [...path, index, 'provider'], provider)
        return { provider, model, timeoutMs: timeout ?? null, weight }
      })
    const { when_budget: low, strategy, on } = row
    const whenBudget = low === undefined ? null : { below: low.below, to: targets(low.to, [id, 'when_budget', 'to']) }
    routes.set(id, { id, strategy, to: targets(row.to, [id, 'to']), on, whenBudget })
  }
  return routes
}

async function loadServers(source: Source): Promise<ReadonlyMap<string, ServerConfig>> {
  const servers = new Map<string, ServerConfig>()
  for (const file of await source.list('registry/servers')) {
    const id = (file.split('/').at(-1) as string).replace(/\.yaml$/, '')
    if (!serverId.test(id)) {
      source.refuse(file, `the file name is the server's id: a letter, then a-z, 0-9 and single "-"; "${id}" is not`)
    }
    const read = await source.read(file, serverRow)
    if (read !== null) servers.set(id, read.value)
  }
  return servers
}

/** The kinds of later versions are named apart, so that nobody looks for a typo. */
const serverRow = z.discriminatedUnion('kind', [
  serverSchema,
  z.looseObject({ kind: z.enum(laterKinds) }).transform(({ kind }, context): never => {
    context.addIssue({ code: 'custom', path: ['kind'], message: `"${kind}" is not supported by this version` })
    return z.NEVER
  }),
])

async function loadPolicyFiles(source: Source): Promise<readonly PolicyFile[]> {
  const files: PolicyFile[] = []
  for (const path of await source.list('policies/tools')) {
    const read = await source.read(path, policySchema)
    if (read === null) continue
    const file = path.split('/').at(-1) as string
    files.push({ file, row: read.value, line: (list, index) => read.at([list, index]).line })
  }
  return files
}

/** Reads `policies/tests/*.yaml`; kept apart from the Config because only `gatehouse check` wants them. */
export async function loadPolicyTests(
  home: string,
): Promise<{ readonly tests: readonly PolicyTest[] } | { readonly faults: readonly ConfigFault[] }> {
  const source = openSource(home)
  const tests: PolicyTest[] = []
  for (const file of await source.list('policies/tests')) {
    const read = await source.read(file, policyTestsSchema, [])
    for (const [index, row] of (read?.value ?? []).entries()) {
      tests.push({ row, file, line: read?.at([index]).line ?? 1 })
    }
  }
  return source.faults.length > 0 ? { faults: source.faults } : { tests }
}

function deepFreeze(value: unknown): void {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return
  Object.freeze(value)
  for (const member of Object.values(value)) deepFreeze(member)
}
