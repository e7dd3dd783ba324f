/** What every call carries from the door, whatever its kind. @module */
import type { ModelListCall, Reply } from '../call.ts'
import { Fault, fault } from '../fault.ts'
import { parseStrict } from '../json.ts'
import type { Replied } from './reply.ts'
import { type Exchange, readBody } from './route.ts'

type Entered = Omit<ModelListCall, 'kind' | 'model'>

const maxLabels = 16

export function enter(exchange: Exchange, makeReply: (replied: Replied) => Reply): Entered {
  const { gateway, incoming, outgoing, id, at, startedAt, credential, traceparent } = exchange
  const { headers } = incoming
  return {
    id,
    at,
    startedAt,
    credential,
    traceparent,
    reply: makeReply({ outgoing, id, traceparent, startedAt, mono: gateway.clock.mono }),
    step: text(headers['x-gatehouse-step'], 100),
    labels: headers['x-gatehouse-labels'] === undefined ? null : labelsOf(headers['x-gatehouse-labels']),
  }
}

/** A strictly parsed JSON body; undefined when there is none. Strangers are refused before theirs is read. */
export async function jsonBody(exchange: Exchange, cap: number): Promise<{ readonly value: unknown } | Fault> {
  if (exchange.credential === null) return fault({ code: 'invalid_key', reason: 'missing' })
  const bytes = await readBody(exchange.incoming, cap)
  if (bytes instanceof Fault) return bytes
  return bytes.length === 0 ? { value: undefined } : parseStrict(bytes, 'body')
}

/** `team=red, run=7`: what does not read as such is left out. */
function labelsOf(value: string | string[]): Record<string, string> | null {
  const found: [string, string][] = []
  for (const pair of String(value).split(',').slice(0, maxLabels)) {
    const match = /^\s*([A-Za-z0-9_.-]{1,64})=([\x20-\x7e]{0,256}?)\s*$/.exec(pair)
    if (match !== null) found.push([match[1] as string, match[2] as string])
  }
  return found.length === 0 ? null : Object.fromEntries(found)
}

function text(value: string | string[] | undefined, cap: number): string | null {
  return typeof value === 'string' ? value.slice(0, cap) : null
}

export type { Entered }
