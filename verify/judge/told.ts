import { isCompletion, isOnOrder, isTransition, type Completion, type Invocation, type Line, type Operation, type OrderAnswered, type OrderAsked, type Streamed, type StreamState, type Time } from '../history.ts'

/** One request from both ends. */
export interface Exchange {
  readonly invocation: Invocation
  /** Absent: nothing was ever heard of it, which is `info`. */
  completion?: Completion
  readonly settling: boolean
  /** Where in the record it was asked, and answered. What is earlier in it was earlier; times that are equal tell nothing. */
  readonly begun: number
  ended?: number
  /** The version of this order that was acknowledged to whoever asks, when this was asked; 0: none. */
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

/** The order that was acknowledged under an id. */
export interface Acknowledged {
  readonly order: Order
  /** The highest version that was. */
  version: number
  /** Every version that was higher than those before, and where in the record. */
  readonly steps: Array<{ readonly version: number, readonly at: number }>
}

/** What the clients asked and what they were told. */
export interface Told {
  readonly exchanges: Exchange[]
  readonly orders: Map<string, Order>
  /** By id. */
  readonly acknowledged: Map<string, Acknowledged>
  /** By customer, in the order of their acknowledgement. */
  readonly ordersOf: Map<string, Array<{ readonly id: string, readonly at: number }>>
  readonly streamed: Streamed[]
  /** By customer: all that came of the streams, and where in the record. */
  readonly streams: Map<string, Array<{ readonly line: Streamed | StreamState, readonly at: number }>>
  /** Completions of what was never asked, or completed before. */
  strays: number
  /** Lines of the whole record. */
  readonly length: number
  /** How many exchanges are of the load; those of the settling come after them. */
  load: number
}

/** A line, and where in the whole record it stands; the first of the load is 1, and those of the settling go on from the last. */
export interface Placed {
  readonly line: Line
  readonly at: number
  readonly settling: boolean
}

export function * placed (history: Iterable<Line>, settle: Iterable<Line>): Generator<Placed> {
  let at = 0
  for (const line of history) yield { line, at: ++at, settling: false }
  for (const line of settle) yield { line, at: ++at, settling: true }
}

/** @param references Whether the service keeps them: else two orders are equal that differ in nothing else */
export function follow (history: readonly Line[], settle: readonly Line[], references = true): Told {
  return followPlaced(placed(history, settle), history.length + settle.length, references)
}

/**
 * The same for some of the lines.
 *
 * @param length of the whole record
 */
export function followPlaced (lines: Iterable<Placed>, length: number, references = true): Told {
  const told: Told = { exchanges: [], orders: new Map(), acknowledged: new Map(), ordersOf: new Map(), streamed: [], streams: new Map(), strays: 0, length, load: 0 }
  followLines(told, lines, references)
  return told
}

export function outcome ({ completion }: Exchange): 'ok' | 'fail' | 'info' {
  return completion?.type ?? 'info'
}

export function keyOf ({ customer, key }: { readonly customer: string, readonly key: string }): string {
  return `${customer}\n${key}`
}

/** Equal where the same was asked for: the order of the items does not matter. */
export function bodyOf ({ currency, items, reference }: OrderAsked | OrderAnswered, references = true): string {
  return JSON.stringify([currency, references ? reference ?? null : null, items.map(({ sku, quantity }) => `${sku} ${quantity}`).sort()])
}

/** The highest version of an order that had been acknowledged there; 0: none. */
export function knownAt ({ acknowledged }: Told, id: string, at: number): number {
  return acknowledged.get(id)?.steps.findLast(step => step.at < at)?.version ?? 0
}

/** ms that a client waits for an answer at most, and more. */
const waitMax = 60_000

/** Of the load: what had been asked at a time, and not answered. */
export function inFlightAt (told: Told, at: Time): Exchange[] {
  return askedBetween(told, at - waitMax, at).filter(({ completion }) => completion === undefined || completion.at > at)
}

/** Of the load. They stand in the order of their times. */
export function askedBetween ({ exchanges, load }: Told, from: Time, to: Time): Exchange[] {
  const between: Exchange[] = []
  for (let i = firstFrom(exchanges, load, from); i < load; i++) {
    const exchange = exchanges[i]
    if (exchange === undefined || exchange.invocation.at > to) break
    between.push(exchange)
  }
  return between
}

function firstFrom (exchanges: readonly Exchange[], end: number, from: Time): number {
  let low = 0
  let high = end
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((exchanges[middle]?.invocation.at ?? Infinity) < from) low = middle + 1
    else high = middle
  }
  return low
}

/** What a page showed, as far as it tells. */
export function idsOn ({ ids, shown }: Completion): readonly string[] | undefined {
  return ids ?? shown?.map(({ id }) => id)
}

/**
 * In the order of the lines, which tells what was answered before something else was asked: an answer is written after it
 * came, an invocation before it leaves.
 */
function followLines (told: Told, lines: Iterable<Placed>, references: boolean): void {
  const open = { load: new Map<number, Exchange>(), settling: new Map<number, Exchange>() }
  for (const { line, at, settling } of lines) {
    const of = settling ? open.settling : open.load
    if (line.type === 'event' || line.type === 'stream') {
      if (line.type === 'event') told.streamed.push(line)
      addTo(told.streams, line.customer, { line, at })
    } else if (line.type === 'invoke') {
      of.set(line.op, invoked(told, line, { at, settling, references }))
      if (!settling) told.load = told.exchanges.length
    } else if (isCompletion(line)) {
      const exchange = of.get(line.op)
      of.delete(line.op)
      if (exchange) completed(told, exchange, line, at)
      else told.strays++
    }
  }
}

function invoked (told: Told, invocation: Invocation, { at: begun, settling, references }: { readonly at: number, readonly settling: boolean, readonly references: boolean }): Exchange {
  const { operation } = invocation
  if (operation.kind !== 'place') {
    const exchange = { invocation, settling, begun, known: knownVersion(told, operation) }
    told.exchanges.push(exchange)
    return exchange
  }
  const order = orderOf(told, operation)
  const attempt = { invocation, settling, begun, known: order.acknowledgements.length > 0 ? 1 : 0, body: bodyOf(operation.order, references) }
  told.exchanges.push(attempt)
  order.attempts.push(attempt)
  return attempt
}

function completed (told: Told, exchange: Exchange, completion: Completion, at: number): void {
  exchange.completion = completion
  exchange.ended = at
  const { operation } = exchange.invocation
  if (completion.type !== 'ok') return
  if (operation.kind === 'place') {
    const order = orderOf(told, operation)
    order.acknowledgements.push(exchange as Attempt)
    const id = completion.order?.id
    if (id === undefined || told.acknowledged.has(id)) return
    told.acknowledged.set(id, { order, version: 1, steps: [{ version: 1, at }] })
    addTo(told.ordersOf, order.customer, { id, at })
  } else if (isTransition(operation)) {
    // A read acknowledges nothing: under synchronous replication it may see what is not durable yet.
    const acknowledged = told.acknowledged.get(operation.id)
    if (!acknowledged || !completion.order || completion.order.version <= acknowledged.version) return
    acknowledged.version = completion.order.version
    acknowledged.steps.push({ version: acknowledged.version, at })
  }
}

function orderOf (told: Told, { customer, key }: { readonly customer: string, readonly key: string }): Order {
  const name = keyOf({ customer, key })
  let order = told.orders.get(name)
  if (!order) told.orders.set(name, order = { customer, key, attempts: [], acknowledgements: [] })
  return order
}

function knownVersion (told: Told, operation: Operation): number {
  if (!isOnOrder(operation)) return 0
  const acknowledged = told.acknowledged.get(operation.id)
  return operation.staff === true || acknowledged?.order.customer === operation.customer ? acknowledged?.version ?? 0 : 0
}

function addTo<Value> (lists: Map<string, Value[]>, name: string, value: Value): void {
  const list = lists.get(name)
  if (list) list.push(value)
  else lists.set(name, [value])
}
