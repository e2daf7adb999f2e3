import type { Completion, Invocation, Line, Operation, OrderAnswered, OrderAsked, Streamed } from '../history.ts'

/** One request from both ends. */
export interface Exchange {
  readonly invocation: Invocation
  /** Absent: nothing was ever heard of it, which is `info`. */
  completion?: Completion
  readonly settling: boolean
  /** The version of this order that was acknowledged to this customer when this was asked; 0: none. */
  readonly known: number
}

export interface Attempt extends Exchange {
  readonly body: string
}

/** One key of one customer, which is one order if it is any. */
export interface Order {
  readonly customer: string
  readonly key: string
  /** As they were asked. */
  readonly attempts: Attempt[]
  /** Those that were `ok`, as they were answered. */
  readonly acknowledgements: Attempt[]
}

/** What the clients asked and what they were told. */
export interface Told {
  readonly exchanges: Exchange[]
  readonly orders: Map<string, Order>
  /** The order that was acknowledged under an id, and the highest version of it that was. */
  readonly acknowledged: Map<string, { readonly order: Order, version: number }>
  readonly streamed: Streamed[]
  /** Completions of what was never asked, or completed before. */
  strays: number
}

export function follow (history: readonly Line[], settle: readonly Line[]): Told {
  const told: Told = { exchanges: [], orders: new Map(), acknowledged: new Map(), streamed: [], strays: 0 }
  followLines(told, history, false)
  followLines(told, settle, true)
  return told
}

export function outcome ({ completion }: Exchange): 'ok' | 'fail' | 'info' {
  return completion?.type ?? 'info'
}

export function keyOf ({ customer, key }: { readonly customer: string, readonly key: string }): string {
  return `${customer}\n${key}`
}

/** Equal where the same was asked for: the order of the items does not matter. */
export function bodyOf ({ currency, items, reference }: OrderAsked | OrderAnswered): string {
  return JSON.stringify([currency, reference ?? null, items.map(({ sku, quantity }) => `${sku} ${quantity}`).sort()])
}

/**
 * In the order of the lines, which tells what was answered before something else was asked: an answer is written after it
 * came, an invocation before it leaves. Times that are equal tell nothing.
 */
function followLines (told: Told, lines: readonly Line[], settling: boolean): void {
  const open = new Map<number, Exchange>()
  for (const line of lines) {
    if (line.type === 'event') {
      told.streamed.push(line)
    } else if (line.type === 'invoke') {
      open.set(line.op, invoked(told, line, settling))
    } else {
      const exchange = open.get(line.op)
      open.delete(line.op)
      if (exchange) completed(told, exchange, line)
      else told.strays++
    }
  }
}

function invoked (told: Told, invocation: Invocation, settling: boolean): Exchange {
  const { operation } = invocation
  if (operation.kind !== 'place') {
    const exchange = { invocation, settling, known: knownVersion(told, operation) }
    told.exchanges.push(exchange)
    return exchange
  }
  const order = orderOf(told, operation)
  const attempt = { invocation, settling, known: order.acknowledgements.length > 0 ? 1 : 0, body: bodyOf(operation.order) }
  told.exchanges.push(attempt)
  order.attempts.push(attempt)
  return attempt
}

function completed (told: Told, exchange: Exchange, completion: Completion): void {
  exchange.completion = completion
  const { operation } = exchange.invocation
  if (completion.type !== 'ok') return
  if (operation.kind === 'place') {
    const order = orderOf(told, operation)
    order.acknowledgements.push(exchange as Attempt)
    const id = completion.order?.id
    if (id !== undefined && !told.acknowledged.has(id)) told.acknowledged.set(id, { order, version: 1 })
  } else if (operation.kind === 'pay' || operation.kind === 'cancel') {
    // A read acknowledges nothing: under synchronous replication it may see what is not durable yet.
    const acknowledged = told.acknowledged.get(operation.id)
    if (acknowledged && completion.order) acknowledged.version = Math.max(acknowledged.version, completion.order.version)
  }
}

function orderOf (told: Told, { customer, key }: { readonly customer: string, readonly key: string }): Order {
  const name = keyOf({ customer, key })
  let order = told.orders.get(name)
  if (!order) told.orders.set(name, order = { customer, key, attempts: [], acknowledgements: [] })
  return order
}

function knownVersion (told: Told, operation: Exclude<Operation, { kind: 'place' }>): number {
  if (operation.kind === 'list') return 0
  const acknowledged = told.acknowledged.get(operation.id)
  return acknowledged?.order.customer === operation.customer ? acknowledged.version : 0
}
