import { setTimeout as delay } from 'node:timers/promises'
import { isCompletion, now, type Completion, type Invocation, type Line, type Operation } from '../history.ts'
import type { Clients } from './clients.ts'
import type { Connection } from './connection.ts'

/** What may be sent again and happens once. */
type Repeatable = Extract<Operation, { kind: 'place' | 'restock' }>

/** ms from an answer that is not definite to the next try. */
const pause = 500

export interface SettleOptions {
  readonly clients: Clients
  readonly orders: Iterable<Repeatable>
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
 * What a load leaves to be settled, each with its own body: what was acknowledged, in the order of its first
 * acknowledgement, and after that what nobody knows of, with the body last tried. What was refused at every attempt is
 * settled already. Of those that were acknowledged no more than the names are held.
 */
export function * ordersToSettle (lines: Iterable<Line>): Generator<Repeatable> {
  const open = new Map<number, Repeatable>()
  const acknowledged = new Set<string>()
  const unknown = new Map<string, Repeatable>()
  for (const line of lines) {
    if (line.type === 'invoke' && isRepeatable(line.operation)) open.set(line.op, line.operation)
    if (!isCompletion(line)) continue
    const asked = open.get(line.op)
    if (asked === undefined) continue
    open.delete(line.op)
    const key = nameOf(asked)
    if (line.type === 'ok') unknown.delete(key)
    if (line.type === 'info' && !acknowledged.has(key)) unknown.set(key, asked)
    if (line.type !== 'ok' || acknowledged.has(key)) continue
    acknowledged.add(key)
    yield asked
  }
  for (const asked of open.values()) if (!acknowledged.has(nameOf(asked))) unknown.set(nameOf(asked), asked)
  yield * unknown.values()
}

/** 0 where nothing was asked. */
export function lastOpOf (lines: Iterable<Line>): number {
  let last = 0
  for (const line of lines) if (line.type === 'invoke') last = Math.max(last, line.op)
  return last
}

/** A service that is not there, or not able, may be so again soon; what it says of the order itself, it will say again. */
function isDefinite ({ type, status }: Completion): boolean {
  return type === 'ok' || (type === 'fail' && status !== undefined && status < 500 && status !== 429)
}

function isRepeatable (operation: Invocation['operation']): operation is Repeatable {
  return operation.kind === 'place' || operation.kind === 'restock'
}

/** A key is one customer's own, and of one kind of request. */
function nameOf ({ kind, customer, key }: Repeatable): string {
  return JSON.stringify([kind, customer, key])
}
