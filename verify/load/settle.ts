import { setTimeout as delay } from 'node:timers/promises'
import { now, type Completion, type Invocation, type Line, type Operation } from '../history.ts'
import type { Clients } from './clients.ts'
import type { Connection } from './connection.ts'

type Place = Extract<Operation, { kind: 'place' }>

/** ms from an answer that is not definite to the next try. */
const pause = 500

export interface SettleOptions {
  readonly clients: Clients
  readonly orders: Iterable<Place>
  readonly signal: AbortSignal
  /** ms without any definite answer, to anybody, until all is left as it is. Default: 30,000. */
  readonly patience?: number
}

/**
 * Asks for every order again, each until its answer is definite: the order, or a refusal that is about the order. Each
 * client has one order in hand.
 */
export async function settle ({ clients, orders, signal, patience = 30_000 }: SettleOptions): Promise<void> {
  const left = orders[Symbol.iterator]()
  let lastDefinite = now()
  const goesOn = (): boolean => !signal.aborted && now() - lastDefinite < patience

  async function work (connection: Connection): Promise<void> {
    for (let next = left.next(); next.done !== true && goesOn(); next = left.next()) {
      let definite = false
      while (!definite && goesOn()) {
        definite = isDefinite(await clients.ask({ purpose: 'settle', operation: next.value, scheduled: now() }, connection))
        if (definite) lastDefinite = now()
        else await delay(pause)
      }
    }
  }
  await Promise.all(clients.connections.map(work))
}

/**
 * What a load leaves to be settled, each with its own body: the orders that were acknowledged, in the order of their
 * first acknowledgement, and after them those of which nobody knows, with the body last tried. Those that were refused
 * at every attempt are settled already.
 */
export function ordersToSettle (lines: readonly Line[]): Place[] {
  const open = new Map<number, Place>()
  const acknowledged = new Map<string, Place>()
  const unknown = new Map<string, Place>()
  for (const line of lines) {
    if (line.type === 'event') continue
    if (line.type === 'invoke') {
      if (isPlace(line.operation)) open.set(line.op, line.operation)
      continue
    }
    const place = open.get(line.op)
    if (place === undefined) continue
    open.delete(line.op)
    const key = nameOf(place)
    if (line.type === 'ok' && !acknowledged.has(key)) acknowledged.set(key, place)
    if (line.type === 'info') unknown.set(key, place)
  }
  for (const place of open.values()) unknown.set(nameOf(place), place)
  for (const key of acknowledged.keys()) unknown.delete(key)
  return [...acknowledged.values(), ...unknown.values()]
}

/** 0 where nothing was asked. */
export function lastOpOf (lines: readonly Line[]): number {
  return lines.reduce((last, line) => line.type === 'invoke' ? Math.max(last, line.op) : last, 0)
}

/** A service that is not there, or not able, may be so again soon; what it says of the order itself, it will say again. */
function isDefinite ({ type, status }: Completion): boolean {
  return type === 'ok' || (type === 'fail' && status !== undefined && status < 500 && status !== 429)
}

function isPlace (operation: Invocation['operation']): operation is Place {
  return operation.kind === 'place'
}

/** A key is one customer's own. */
function nameOf ({ customer, key }: Place): string {
  return JSON.stringify([customer, key])
}
