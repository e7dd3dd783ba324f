/**
 * One process of several, told what to do by its parent. Arguments: kind of store and its address, term and time between
 * beats in ms.
 * @module
 */
import { setTimeout as after } from 'node:timers/promises'
import type { EscrowHold } from '../../src/escrow/escrow.ts'
import { Fault } from '../../src/fault.ts'
import { book, dispatch, none, openHouse, stores, tokens } from './rig.ts'
import { generator } from './story.ts'

export type Order =
  /** Leases by holding and letting go, so that this much and more lies idle here. */
  | { readonly do: 'idle'; readonly account: string; readonly tokens: number }
  /** Many calls at once; those admitted use what they hold. */
  | {
      readonly do: 'rush'
      readonly accounts: readonly string[]
      readonly calls: number
      readonly tokens: number
      readonly seed: number
      readonly jitterMs: number
    }
  | { readonly do: 'hold'; readonly id: string; readonly account: string; readonly tokens: number }
  | { readonly do: 'dispatch'; readonly id: string }
  | { readonly do: 'book'; readonly id: string; readonly tokens: number }
  | { readonly do: 'end' }

/** What came of an order: how often each word. */
export type Report = Readonly<Record<string, number>>

const [kind = '', address = '', termMs = '', everyMs = ''] = process.argv.slice(2)
const open = stores[kind]
if (open === undefined) throw new Error(`no store ${kind}`)
const store = await open(address, { termMs: Number(termMs) })
const house = await openHouse(store, { termMs: Number(termMs), everyMs: Number(everyMs) })
const holds = new Map<string, { readonly hold: EscrowHold; readonly account: string }>()

async function carryOut(order: Order): Promise<Report> {
  switch (order.do) {
    case 'idle': {
      const hold = await house.hold(order.account, tokens(order.tokens))
      if (hold instanceof Fault) return { [hold.code]: 1 }
      hold.settle(none)
      return { admitted: 1 }
    }
    case 'rush':
      return rush(order)
    case 'hold': {
      const hold = await house.hold(order.account, tokens(order.tokens))
      if (hold instanceof Fault) return { [hold.code]: 1 }
      holds.set(order.id, { hold, account: order.account })
      return { admitted: 1 }
    }
    case 'dispatch':
      try {
        await dispatch((holds.get(order.id) as { hold: EscrowHold }).hold, order.id)
        return { dispatched: 1 }
      } catch {
        return { refused: 1 }
      }
    case 'book': {
      const { hold, account } = holds.get(order.id) as { hold: EscrowHold; account: string }
      await book(house, hold, order.id, account, tokens(order.tokens))
      return { settledAgain: hold.settle(none) ? 1 : 0 }
    }
    case 'end':
      await house.close()
      return { open: house.escrow.open() }
  }
}

async function rush({ accounts, calls, tokens: each, seed, jitterMs }: Order & { do: 'rush' }): Promise<Report> {
  const random = generator(seed)
  const report: Record<string, number> = {}
  const count = (word: string) => {
    report[word] = (report[word] ?? 0) + 1
  }
  const one = async (index: number) => {
    const account = accounts[Math.floor(random() * accounts.length)] as string
    const [begin, work] = [random() * jitterMs, random() * 30]
    await after(begin)
    const hold = await house.hold(account, tokens(each))
    if (hold instanceof Fault) return count(hold.code)
    const id = `${process.pid}_${seed}_${index}`
    await dispatch(hold, id)
    await after(work)
    await book(house, hold, id, account)
    count('admitted')
  }
  await Promise.all(Array.from({ length: calls }, (_, index) => one(index)))
  return { ...report, open: house.escrow.open() }
}

process.on('message', (order: Order) => {
  carryOut(order).then(
    (report) => {
      process.send?.(report)
      if (order.do === 'end') process.disconnect()
    },
    (error: unknown) => {
      process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`)
      process.exit(1)
    },
  )
})
process.send?.({ ready: 1 })
