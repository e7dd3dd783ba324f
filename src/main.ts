/**
 * Builds the gateway from its settings, opens its doors, and closes them again. The only reader of process.env.
 * @module
 */
import { randomBytes } from 'node:crypto'
import { cpSync, existsSync, mkdirSync } from 'node:fs'
import type { Server } from 'node:http'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createAlerts } from './alerts/alerts.ts'
import { isUsableSecret } from './alerts/webhook.ts'
import type { Target } from './call.ts'
import { describeFault } from './config/document.ts'
import { type ConfigHolder, createConfigHolder } from './config/watch.ts'
import { allRoutes, type Door, openDoor } from './edge/server.ts'
import { createEgress } from './egress.ts'
import { createEscrow } from './escrow/escrow.ts'
import { type Presence, startPresence } from './escrow/presence.ts'
import { Fault, fault } from './fault.ts'
import { walk } from './flow.ts'
import type { Gateway, Log } from './gateway.ts'
import { createDirectory, standing } from './identity/directory.ts'
import { createCatalogue } from './mcp/catalogue.ts'
import { createRates } from './rates/rates.ts'
import { startAnchors } from './record/anchor.ts'
import { openLog } from './record/log.ts'
import { openMetrics } from './record/metrics.ts'
import { sumOf } from './record/metrics-sum.ts'
import { startRetention } from './record/retention.ts'
import { openWriter } from './record/writer.ts'
import { createRunning } from './running.ts'
import { derive, masterKey, secretReader } from './secrets.ts'
import { type Flags, SettingError, type Settings, settingsFrom } from './settings.ts'
import { openStore } from './stores/open.ts'
import { defaultTermMs } from './stores/sql.ts'
import { openTargets } from './targets/targets.ts'
import { createTokenCounter } from './tokens/counter.ts'
import { type Welcome, welcome } from './welcome.ts'

/** A gateway that is listening. */
export interface Running {
  readonly gateway: Gateway
  readonly url: string
  readonly welcome: Welcome
  /** Stops taking calls, lets those at work end (at most `graceMs`), writes everything and closes. */
  stop(graceMs?: number): Promise<void>
}

const defaultGraceMs = 30_000
/** How often calls at work are looked at for keys that have expired, ms. */
const watchMs = 1000
/** How often accounts that have ended are looked for, ms. */
const forgetMs = 5000
export const clock = { now: Date.now, mono: () => performance.now() }

/** Settings of this process. @throws {SettingError} */
export function readSettings(flags: Flags): Settings {
  return settingsFrom(process.env, flags, process.cwd())
}

/** Whether `npm start` runs this process, through a shell that does not pass signals on. */
export function startedByNpm(): boolean {
  return process.env.npm_lifecycle_event === 'start'
}

/** The environment for the commands that talk to a running gateway. */
export function clientEnvironment(): { readonly url: string; readonly adminKey: string | undefined } {
  const { GATEHOUSE_PUBLIC_URL, GATEHOUSE_ADMIN_PORT, PORT, GATEHOUSE_ADMIN_KEY } = process.env
  const local = `http://127.0.0.1:${GATEHOUSE_ADMIN_PORT || PORT || 8787}`
  return { url: (GATEHOUSE_ADMIN_PORT ? '' : GATEHOUSE_PUBLIC_URL) || local, adminKey: GATEHOUSE_ADMIN_KEY }
}

/** The other processes on this port. */
export interface Siblings {
  /** Tells them to look at the store. A hint: what they look at is there. */
  wake(): void
  onWake(listener: () => void): void
  /** What they have counted, as metrics text. */
  texts(): Promise<readonly string[]>
  onText(render: () => Promise<string>): void
}

const alone: Siblings = { wake() {}, onWake() {}, texts: async () => [], onText() {} }

/**
 * Starts a gateway.
 *
 * @param siblings the other processes on its port
 * @throws {SettingError | Error} with a message for a person: what is wrong and what to do
 */
export async function start(settings: Settings, siblings: Siblings = alone): Promise<Running> {
  seed(settings.home)
  const secret = secretReader(settings)
  const master = masterKey(settings, randomBytes)
  const stream = openLog(1, settings.logLevel)
  const { log } = stream
  const config = await readConfig(settings, secret, log, (swap) => swapTargets(swap))
  // Other processes may call before this one has its own place among them.
  let presence: Presence | null = null
  const lookAround = () => void presence?.beat().catch(() => undefined)
  const store = await openStore(settings.database, {
    log,
    onTold: siblings.wake,
    onWake: () => lookAround(),
  }).catch((error: Error) => {
    throw new SettingError(error.message)
  })
  const ledger = openWriter(store)
  const anchors = startAnchors({ store, path: settings.anchors, now: clock.now, log })
  const { leases, balances, writers } = store
  const escrow = createEscrow({
    ...clock,
    leases,
    balances,
    writers,
    reload: (id) => directory.reload(id),
    current: () => presence?.current() ?? false,
  })
  const running = createRunning()
  /** Stops what was admitted and may not go on: its key, or an account above it, was revoked or has expired. */
  const stopEnded = () =>
    running.stopWhere(
      (account) => standing(account, clock.now()) instanceof Fault,
      fault({ code: 'invalid_key', reason: 'ended' }),
    )
  const watch = setInterval(stopEnded, watchMs)
  watch.unref()
  const directory = createDirectory({
    store,
    now: clock.now,
    pepper: derive(master, 'key pepper'),
    onLoad: escrow.attach,
    onChange: escrow.changed,
    onForget: escrow.detach,
    onRevoke: stopEnded,
  })
  const forgetting = setInterval(() => void directory.sweep(), forgetMs)
  forgetting.unref()
  // Loaded where it is wanted only: without REDIS_URL nothing of it is in memory.
  const redis =
    settings.redisUrl === null ? null : (await import('./stores/redis.ts')).openRedis(settings.redisUrl, { log })
  const shared = redis === null ? null : (await import('./stores/redis-rates.ts')).sharedRates(redis)
  const rates = createRates({ mono: clock.mono, shared })
  const doors: Door[] = []
  const metrics = openMetrics({
    openHolds: escrow.open,
    accounts: directory.size,
    inFlight: () => doors.reduce((sum, door) => sum + door.inFlight(), 0),
    epoch: () => config.current().epoch,
    redisUp: rates.sharedUp,
  })
  const egress = createEgress({ allowPrivate: settings.allowPrivate })
  const alerts = createAlerts({
    escrow,
    balances,
    accounts: store.accounts,
    store: store.alerts,
    egress,
    now: clock.now,
    random: randomBytes,
    webhooks: () => config.current().limits.webhooks,
    secret,
    log,
    onAlert: metrics.alert,
  })
  siblings.onText(metrics.render)
  presence = startPresence({
    writers,
    ledger,
    escrow,
    mono: clock.mono,
    load: directory.load,
    onAccount: directory.reload,
    log,
    termMs: defaultTermMs,
    onBeat(recovered) {
      if (recovered) void alerts.sweep()
      void alerts.look()
    },
  })
  siblings.onWake(lookAround)
  await presence.beat()
  const { PATH, HOME, LANG } = settings.environment
  const deps = {
    egress,
    secret,
    clock,
    random: randomBytes,
    log,
    home: settings.home,
    surroundings: { PATH, HOME, LANG },
  }
  for (const note of settings.notes) log.warn({}, note)
  let targets: ReadonlyMap<string, Target> = openTargets(config.current().servers, deps, new Map())
  function swapTargets(servers: Parameters<typeof openTargets>[0]): void {
    targets = openTargets(servers, deps, targets)
    warm(targets)
  }
  const gateway: Gateway = {
    clock,
    random: randomBytes,
    get config() {
      return config.current()
    },
    directory,
    escrow,
    rates,
    alerts,
    store,
    ledger,
    egress,
    tokens: createTokenCounter(),
    catalogue: createCatalogue(() => targets),
    log,
    metrics: { ...metrics, render: async () => sumOf([await metrics.render(), ...(await siblings.texts())]) },
    secret,
    publicUrl: settings.publicUrl ?? '',
    draining: false,
    running,
    reload: config.reload,
  }
  const retention = startRetention({
    store,
    limits: () => config.current().limits.retention,
    anchors,
    now: clock.now,
    log,
  })
  const greeting = await welcome(gateway, settings)
  const listening = await openDoors(gateway, settings, doors)
  Object.assign(gateway, { publicUrl: settings.publicUrl ?? listening.url })
  warm(targets)
  log.info({ url: listening.url, home: settings.home, epoch: config.current().epoch }, 'listening')
  return {
    gateway,
    url: listening.url,
    welcome: greeting,
    async stop(graceMs = defaultGraceMs) {
      gateway.draining = true
      log.info({ graceMs }, 'draining')
      await drain(gateway, doors, graceMs)
      presence?.stop()
      clearInterval(watch)
      await retention.stop()
      clearInterval(forgetting)
      await ledger.close()
      await alerts.stop()
      await config.close()
      await Promise.all([...targets.values()].map((target) => target.close()))
      await egress.close()
      await gateway.tokens.close()
      await store.close()
      anchors.close()
      shared?.close()
      await redis?.close()
      log.info({}, 'stopped')
      stream.close()
    },
  }
}

/** A home without a registry gets the one that ships, so that an empty folder serves. */
function seed(home: string): void {
  const shipped = fileURLToPath(new URL('..', import.meta.url))
  mkdirSync(home, { recursive: true })
  for (const folder of ['registry', 'policies']) {
    if (!existsSync(join(home, folder))) cpSync(join(shipped, folder), join(home, folder), { recursive: true })
  }
  if (!existsSync(join(home, 'examples'))) {
    for (const folder of ['examples/petstore', 'examples/files']) {
      if (existsSync(join(shipped, folder))) cpSync(join(shipped, folder), join(home, folder), { recursive: true })
    }
  }
}

async function readConfig(
  settings: Settings,
  secret: (ref: string) => string,
  log: Log,
  onServers: (servers: Parameters<typeof openTargets>[0]) => void,
): Promise<ConfigHolder> {
  const holder = await createConfigHolder({
    home: settings.home,
    secretExists(ref) {
      try {
        return isUsableSecret(secret(ref))
      } catch {
        return false
      }
    },
    onSwap(config) {
      onServers(config.servers)
      log.info({ epoch: config.epoch, hash: config.hash }, 'configuration swapped')
    },
    onFault: (text) => log.error({ fault: text }, 'configuration refused; the last good one stays'),
  })
  if ('faults' in holder)
    throw new SettingError(`the configuration has faults:\n${holder.faults.map(describeFault).join('\n')}`)
  return holder
}

/** Reads catalogues in the background: nobody waits for a tool server. */
function warm(targets: ReadonlyMap<string, Target>): void {
  for (const target of targets.values()) if (target.state().status !== 'disabled') void target.refresh()
}

async function openDoors(gateway: Gateway, settings: Settings, doors: Door[]): Promise<{ readonly url: string }> {
  const routes = allRoutes(walk)
  const isAdmin = (path: string) => path.startsWith('/admin/')
  const hosts = new Set<string>()
  const origins = new Set<string>()
  if (settings.publicUrl !== null) {
    const { hostname, origin } = new URL(settings.publicUrl)
    hosts.add(hostname)
    origins.add(origin)
  }
  const open = async (chosen: typeof routes, host: string, port: number) => {
    const door = openDoor(gateway, chosen, { hosts, origins })
    doors.push(door)
    const bound = await listen(door.server, host, port)
    for (const name of ['localhost', '127.0.0.1', '[::1]']) origins.add(`http://${name}:${bound}`)
    return bound
  }
  const { host, port, adminPort } = settings
  const bound = await open(adminPort === null ? routes : routes.filter(({ path }) => !isAdmin(path)), host, port)
  if (adminPort !== null)
    await open(
      routes.filter(({ path }) => isAdmin(path)),
      '127.0.0.1',
      adminPort,
    )
  const shown = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host.includes(':') ? `[${host}]` : host
  return { url: `http://${shown}:${bound}` }
}

function listen(server: Server, host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const why =
        error.code === 'EADDRINUSE'
          ? `port ${port} on ${host} is in use; choose another with --port or PORT`
          : error.message
      reject(new SettingError(why))
    })
    server.listen({ host, port, backlog: 8192 }, () => {
      const address = server.address()
      resolve(typeof address === 'object' && address !== null ? address.port : port)
    })
  })
}

/** No new connections; calls at work end by themselves or, when the time is up, with a fault of ours. */
async function drain(gateway: Gateway, doors: readonly Door[], graceMs: number): Promise<void> {
  const closed = doors.map((door) => new Promise<void>((resolve) => door.server.close(() => resolve())))
  for (const door of doors) door.server.closeIdleConnections()
  const idle = setInterval(() => {
    for (const door of doors) door.server.closeIdleConnections()
  }, 50)
  const late = setTimeout(() => {
    gateway.running.stopAll(fault({ code: 'draining' }))
    // What has not ended by its fault within a moment is cut.
    setTimeout(() => {
      for (const door of doors) door.server.closeAllConnections()
    }, 1000).unref()
  }, graceMs)
  await Promise.all(closed)
  clearInterval(idle)
  clearTimeout(late)
}
