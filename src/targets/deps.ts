/** What every kind of tool server is given instead of importing it. @module */
import type { Egress } from '../egress.ts'

export interface TargetLog {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

/** What a child process inherits; nothing else of the gateway's environment reaches it. Without it the usual places serve. */
export interface ChildSurroundings {
  readonly PATH?: string | undefined
  readonly HOME?: string | undefined
  readonly LANG?: string | undefined
}

export interface TargetDeps {
  readonly egress: Egress
  /** Resolves `env:NAME` and `file:PATH`. @throws {Error} naming the reference */
  readonly secret: (ref: string) => string
  /** `now` is the wall clock in ms since the epoch, `mono` the monotonic one in ms. */
  readonly clock: { now(): number; mono(): number }
  /** Cryptographic random bytes. */
  readonly random: (bytes: number) => Buffer
  readonly log: TargetLog
  /** Absolute path of the folder that holds `registry/`; relative paths in rows start here. */
  readonly home: string
  readonly surroundings?: ChildSurroundings
}
