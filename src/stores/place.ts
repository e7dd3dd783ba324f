/** Where a process runs, so that another one can tell whether it is still there. @module */
import { readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'

/**
 * The running process: boot of the machine, process namespace, process id and when it started. Two containers may share
 * host name and process id, never all of these. Where the kernel does not say, the name alone, from which nothing
 * follows.
 */
export function ownPlace(): string {
  const machine = machineHere()
  return machine === null ? `${hostname()} ${process.pid}` : `${machine} ${process.pid} ${startOf(process.pid) ?? 0}`
}

/** Whether the process at a place has certainly ended: seen from the same machine, and no longer there. */
export function isGone(place: string): boolean {
  const machine = machineHere()
  if (machine === null || !place.startsWith(`${machine} `)) return false
  const [pid = 0, started = 0] = place
    .slice(machine.length + 1)
    .split(' ')
    .map(Number)
  return startOf(pid) !== started
}

let machine: string | null | undefined

function machineHere(): string | null {
  if (machine === undefined) {
    try {
      const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()
      machine = `${boot} ${readlinkSync('/proc/self/ns/pid')}`
    } catch {
      machine = null
    }
  }
  return machine
}

/** When a process started, in ticks since boot; null when there is none. */
function startOf(pid: number): number | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    const [state, ...rest] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    // A killed process whose parent has not looked yet does nothing any more.
    return state === 'Z' || state === 'X' ? null : Number(rest[18])
  } catch {
    return null
  }
}
