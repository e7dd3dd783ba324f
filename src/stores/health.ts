/** Whether writes work, learned from the writes themselves. @module */

/** An error that knows whether the database works and only refused what it was given (a broken constraint). */
export interface DatabaseError extends Error {
  readonly refused: boolean
}

export interface HealthOptions {
  readonly log?: {
    warn(fields: object, message: string): void
    info(fields: object, message: string): void
  }
  /** How often to try a write while writes fail, ms. */
  readonly probeMs?: number
}

export interface Health {
  healthy(): boolean
  /** Notes how a write ended and passes it on. */
  watch<T>(write: Promise<T>): Promise<T>
  stop(): void
}

/**
 * @param tryWrite the smallest write; tried every `probeMs` while writes fail, because a store that is unhealthy is not
 * written to by anyone else
 */
export function watchHealth(tryWrite: () => Promise<unknown>, { log, probeMs = 1000 }: HealthOptions): Health {
  let well = true
  let stopped = false
  let timer: NodeJS.Timeout | null = null

  function worked(): void {
    if (well) return
    well = true
    log?.info({}, 'the database can be written again')
  }

  function failed(error: unknown): void {
    if (isRefusal(error)) return
    if (well) log?.warn({ err: error }, 'the database cannot be written')
    well = false
    if (timer !== null || stopped) return
    timer = setTimeout(() => {
      timer = null
      if (!well && !stopped) tryWrite().then(worked, failed)
    }, probeMs)
    timer.unref()
  }

  return {
    healthy: () => well,
    async watch(write) {
      try {
        const result = await write
        worked()
        return result
      } catch (error) {
        failed(error)
        throw error
      }
    },
    stop() {
      stopped = true
      if (timer !== null) clearTimeout(timer)
    },
  }
}

function isRefusal(error: unknown): boolean {
  return error instanceof Error && 'refused' in error && error.refused === true
}
