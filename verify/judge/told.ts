import { isCompletion, isOnOrder, isTransition, type Completion, type Invocation, type Line, type Operation, type OrderAnswered, type OrderAsked, type Streamed, type StreamState, type Time } from '../history.ts'

/** One request with its answer. */
export interface Exchange {
  readonly invocation: Invocation
  /** Absent if there was no completion, which means `info`. */
  completion?: Completion
  readonly settling: boolean
  /** The places in the record of the request and its answer. An earlier place means earlier; equal times show nothing. */
  readonly begun: number
  ended?: number
  /** The version of this order that was acknowledged to the sender before this request; 0: none. */
  readonly known: number
}

export interface Attempt extends Exchange {
  readonly body: string
}

/** One key of one customer, which makes one order at most. */
export interface Order {
  readonly customer: string
  readonly key: string
  /** In the sequence of their requests. */
  readonly attempts: Attempt[]
  /** The `ok` ones, in the sequence of their answers. */
  readonly acknowledgements: Attempt[]
}

/** The order that was acknowledged under an id. */
export interface Acknowledged {
  readonly order: Order
  /** The highest acknowledged version. */
  version: number
  /** Every version that was higher than all earlier ones, with its place in the record. */
  readonly steps: Array<{ readonly version: number, readonly at: number }>
}

/** The requests of the clients and their answers. */
export interface Told {
  readonly exchanges: Exchange[]
  readonly orders: Map<string, Order>
  /** Orders by id. */
  readonly acknowledged: Map<string, Acknowledged>
  /** Orders by customer, in the sequence of their acknowledgements. */
  readonly ordersOf: Map<string, Array<{ readonly id: string, readonly at: number }>>
  readonly streamed: Streamed[]
  /** By customer: all lines of the streams, with their places in the record. */
  readonly streams: Map<string, Array<{ readonly line: Streamed | StreamState, readonly at: number }>>
  /** Completions without an invocation, or of a completed operation. */
  strays: number
  /** Lines of the whole record. */
  readonly length: number
  /** How many exchanges belong to the load; those of the settling follow them. */
  load: number
}

/** A line with its place in the whole record. The first line of the load is 1, and the settling continues the numbers. */
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

/** @param references whether the service keeps references; if not, two orders that differ only in them are equal */
export function follow (history: readonly Line[], settle: readonly Line[], references = true): Told {
  return followPlaced(placed(history, settle), history.length + settle.length, references)
}

/**
 * The same for some of the lines.
 *
 * @param length the length of the whole record
 */
export function followPlaced (lines: Iterable<Placed>, length: number, references = true): Told {
  const told: Told = {
    exchanges: [],
    orders: new Map(),
    acknowledged: new Map(),
    ordersOf: new Map(),
    streamed: [],
    streams: new Map(),
    strays: 0,
    length,
    load: 0
  }
  followLines(told, lines, references)
  return told
}

export function outcome ({ completion }: Exchange): 'ok' | 'fail' | 'info' {
  return completion?.type ?? 'info'
}

export function keyOf ({ customer, key }: { readonly customer: string, readonly key: string }): string {
  return `${customer}\n${key}`
}

/** Equal for equal requests: the sequence of the items does not matter. */
export function bodyOf ({ currency, items, reference }: OrderAsked | OrderAnswered, references = true): string {
  return JSON.stringify([currency, references ? reference ?? null : null, items.map(({ sku, quantity }) => `${sku} ${quantity}`).sort()])
}

/** The highest version of an order that had been acknowledged at that place; 0: none. */
export function knownAt ({ acknowledged }: Told, id: string, at: number): number {
  return acknowledged.get(id)?.steps.findLast(step => step.at < at)?.version ?? 0
}

/** ms; longer than any client waits for an answer. */
const waitMax = 60_000

/** The requests of the load that were unanswered at a time. */
export function inFlightAt (told: Told, at: Time): Exchange[] {
  return askedBetween(told, at - waitMax, at).filter(({ completion }) => completion === undefined || completion.at > at)
}

/** The exchanges of the load, sorted by time. */
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

/** What a page showed, as far as it shows orders. */
export function idsOn ({ ids, shown }: Completion): readonly string[] | undefined {
  return ids ?? shown?.map(({ id }) => id)
}

/**
 * In the sequence of the lines, which shows what was answered before another request was sent: an answer is written after its
 * arrival, and an invocation before it is sent.
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

function invoked (
  told: Told,
  invocation: Invocation,
  { at: begun, settling, references }: { readonly at: number, readonly settling: boolean, readonly references: boolean }
): Exchange {
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
    // A read acknowledges nothing: under synchronous replication it may see data that is not durable yet.
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
