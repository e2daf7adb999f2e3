import { setTimeout as delay } from 'node:timers/promises'
import { isCompletion, now, type Completion, type Invocation, type Line, type Operation } from '../history.ts'
import type { Clients } from './clients.ts'
import type { Connection } from './connection.ts'

/** Requests that may be sent again and happen once. */
type Repeatable = Extract<Operation, { kind: 'place' | 'restock' }>

/** ms from an indefinite answer to the next try. */
const pauseMs = 500

export interface SettleOptions {
  readonly clients: Clients
  readonly orders: Iterable<Repeatable>
  readonly signal: AbortSignal
  /** ms without any definite answer to any client, after which the settling gives up. Default: 30,000. */
  readonly patienceMs?: number
}

/**
 * Sends every order again until its answer is definite: the order, or a refusal that concerns the order. Each client works on
 * one order at a time.
 */
export async function settle ({ clients, orders, signal, patienceMs = 30_000 }: SettleOptions): Promise<void> {
  const left = orders[Symbol.iterator]()
  let lastDefinite = now()
  const goesOn = (): boolean => !signal.aborted && now() - lastDefinite < patienceMs

  async function work (connection: Connection): Promise<void> {
    for (let next = left.next(); next.done !== true && goesOn(); next = left.next()) {
      let definite = false
      while (!definite && goesOn()) {
        definite = isDefinite(await clients.ask({ purpose: 'settle', operation: next.value, scheduled: now() }, connection))
        if (definite) lastDefinite = now()
        else await delay(pauseMs)
      }
    }
  }
  await Promise.all(clients.connections.map(work))
}

/**
 * The orders of a load that must be settled, each with its own body: first the acknowledged ones, in the sequence of their first
 * acknowledgement, and then the unknown ones, with the last body. Orders that were refused at every attempt are settled
 * already. For acknowledged orders only the names are kept in memory.
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

/** 0 if no request was sent. */
export function lastOpOf (lines: Iterable<Line>): number {
  let last = 0
  for (const line of lines) if (line.type === 'invoke') last = Math.max(last, line.op)
  return last
}

/** A service that is down or unable may recover soon. An answer about the order itself will not change. */
function isDefinite ({ type, status }: Completion): boolean {
  return type === 'ok' || (type === 'fail' && status !== undefined && status < 500 && status !== 429)
}

function isRepeatable (operation: Invocation['operation']): operation is Repeatable {
  return operation.kind === 'place' || operation.kind === 'restock'
}

/** A key belongs to one customer and one kind of request. */
function nameOf ({ kind, customer, key }: Repeatable): string {
  return JSON.stringify([kind, customer, key])
}
