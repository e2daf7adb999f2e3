import { isTransition, type Operation, type Time } from '../history.ts'
import type { Occasion } from '../verdict.ts'
import type { Case } from './case.ts'
import { lastUpTo } from './prices.ts'
import { wholeWalks } from './lists.ts'
import { atSignal, isBalanced, stopsOf } from './stops.ts'
import { owedTo } from './streams.ts'
import { stateOf } from './case.ts'
import { type Exchange, inFlightAt, keyOf, outcome } from './told.ts'

/**
 * How often each promise could have been broken. A run of 15 s with 400 arrivals a second has several times the number that is
 * needed. A run proves nothing about a promise with too few occasions.
 */
export function coverage (trial: Case): Occasion[] {
  return [...ofFaults(trial), ...ofStops(trial), ...ofLoad(trial)]
}

/** Adds the occasions of two parts of a run, which are the same ones in the same order. */
export function together (one: readonly Occasion[], other: readonly Occasion[]): Occasion[] {
  return other.map((occasion, i) => ({ ...occasion, count: occasion.count + (one[i]?.count ?? 0) }))
}

/** The occasions that are too few. */
export function notShown (occasions: readonly Occasion[]): Occasion[] {
  return occasions.filter(({ count, needed, skipped }) => skipped === undefined && count < needed)
}

/** Each kind of fault needs occasions of its own. */
function ofFaults ({ evidence: { faults }, told }: Case): Occasion[] {
  const acknowledgedAt = [...told.orders.values()].flatMap(({ acknowledgements: [first] }) => first?.completion?.at ?? []).sort((a, b) => a - b)
  return [...Map.groupBy(faults, ({ kind }) => kindOf(kind))].flatMap(([kind, struck]): Occasion[] => {
    const times = struck.map(({ at }) => at).sort((a, b) => a - b)
    const met = times.reduce((sum, at) => sum + inFlightAt(told, at).filter(changes).length, 0)
    return [
      { promise: 'P1', kind, says: 'orders acknowledged before a fault', count: lastUpTo(acknowledgedAt, times.at(-1) ?? 0, at => at) + 1, needed: 50 },
      { promise: 'P1', kind, says: 'orders and transitions in flight at a fault', count: met, needed: 10 },
      { promise: 'P2', kind, says: 'orders sent again after a fault', count: replaysAfter(told.orders.values(), times), needed: 50 }
    ]
  })
}

function kindOf (kind: string): string {
  return kind.split(':')[0] ?? kind
}

function changes ({ invocation: { purpose, operation } }: Exchange): boolean {
  return purpose !== 'hang-up' && (operation.kind === 'place' || isTransition(operation))
}

function replaysAfter (orders: Iterable<{ readonly acknowledgements: readonly Exchange[] }>, faults: readonly Time[]): number {
  let count = 0
  for (const { acknowledgements: [first, ...again] } of orders) {
    const next = faults[lastUpTo(faults, first?.completion?.at ?? Infinity, at => at) + 1]
    if (next !== undefined) count += again.filter(({ invocation: { at } }) => at > next).length
  }
  return count
}

function ofStops (trial: Case): Occasion[] {
  const { evidence: { needed, faults }, features, told } = trial
  const stops = stopsOf(trial)
  const occasions: Occasion[] = []
  if (stops.length > 0) {
    const skipped = isBalanced(trial) ? 'a balancer is in between' : undefined
    occasions.push({ promise: 'P3', says: 'requests that had reached an instance before its signal to stop', count: stops.reduce((sum, stop) => sum + atSignal(trial, stop).length, 0), needed: 10, ...skipped !== undefined && { skipped } })
    const reported = new Set(stops.flatMap(({ report }) => Object.values(report?.requests ?? {}).flatMap(({ ids = [] }) => ids)))
    const known = told.exchanges.filter(({ completion }) => completion?.requestId !== undefined && reported.has(completion.requestId)).length
    occasions.push({ promise: 'P6', says: 'requests that a report names and whose answer has its id', count: known, needed: 5, ...!(features.has('report') && features.has('request-id')) && { skipped: 'the target reports no request ids' } })
  }
  if (needed.noFailedRequest === true) {
    const during = told.exchanges.filter(({ settling, invocation: { at } }) =>
      !settling && faults.some(fault => at >= fault.at && at <= (fault.recoveredAt ?? fault.at))).length
    occasions.push({ promise: 'P5', says: 'requests while an instance was away', count: during, needed: 100 })
  }
  return occasions
}

function ofLoad (trial: Case): Occasion[] {
  const { told, evidence: { lacks = [] } } = trial
  const cancelled = stateOf(trial, 'cancelled')
  const count = (is: (exchange: Exchange) => boolean): number => told.exchanges.filter(exchange => !exchange.settling && is(exchange)).length
  const answered = (purpose: string, problem: string) =>
    count(({ invocation, completion }) => invocation.purpose === purpose && completion?.problem === problem)
  const done = (...kinds: Array<Operation['kind']>) => count(exchange => kinds.includes(exchange.invocation.operation.kind) && outcome(exchange) === 'ok')
  const tellsStock = trial.reads.some(({ snapshot: { products } }) => products !== undefined)
  /** @param lack the kind of arrival that it needs */
  const row = (promise: Occasion['promise'], says: string, count: number, needed: number, lack?: string): Occasion => {
    const skipped = promise === 'stock' && !tellsStock ? 'the target does not report its stock' : lack !== undefined && lacks.includes(lack) ? 'the target does not support it' : undefined
    return { promise, says, count, needed, ...skipped !== undefined && { skipped } }
  }
  const walks = wholeWalks(trial)
  const linesCancelled = new Set(told.exchanges.flatMap(({ invocation: { operation }, completion }) => operation.kind === 'cancel' && completion?.order?.status === cancelled && completion.order.items.length > 1 ? operation.id : []))
  const streams = [...told.streams.values()].flat()
  const repriced = new Map(trial.evidence.products.map(({ sku, unitPrice }) => [sku, unitPrice]))
  const atNewPrice = new Set(told.exchanges.flatMap(({ invocation: { operation }, completion, known }) => operation.kind === 'place' && known > 0 && completion?.order?.items.some(({ sku, unitPrice }) => repriced.get(sku) !== unitPrice) === true ? keyOf(operation) : []))

  return [
    row('P2', 'orders sent twice at once, both answered', twins(told.exchanges), 20),
    row('P2', 'keys refused for another order', answered('reuse', 'idempotency-key-reused'), 5),
    row('P2', 'keys used by another customer', count(exchange => exchange.invocation.purpose === 'shared-key' && outcome(exchange) === 'ok'), 5, 'shared-key'),
    row('P2', 'retries of orders that were placed at a changed price', atNewPrice.size, 5, 'price'),
    row('content', 'reads of an acknowledged order', count(exchange => exchange.invocation.operation.kind === 'read' && exchange.known > 0 && outcome(exchange) === 'ok'), 30, 'read'),
    row('content', "refused requests for another customer's order", answered('intrude', 'not-found'), 10, 'intrude'),
    row('content', 'lists read to the end', walks.length, 10, 'list'),
    row('content', 'transitions', done('pay', 'cancel'), 20, 'transition'),
    row('content', 'orders shipped or delivered', done('ship', 'deliver'), 5, 'fulfil'),
    row('content', 'transitions at the version that If-Match named', count(exchange => exchange.invocation.purpose === 'precondition' && outcome(exchange) === 'ok'), 3, 'precondition'),
    row('content', 'transitions refused because of another version', answered('precondition', 'version-mismatch'), 3, 'precondition'),
    row('stock', 'orders refused as out of stock', count(({ completion }) => completion?.problem === 'out-of-stock'), 5, 'scarce'),
    row('stock', 'orders of several lines cancelled', linesCancelled.size, 5, 'cancel-lines'),
    row('stock', 'stocks increased', done('restock'), 3, 'restock'),
    row('stock', 'stocks set with If-Match', done('stock'), 1, 'stock'),
    ...ofMoney(trial),
    row('events', 'events that an open stream had to send', [...told.streams.keys()].reduce((sum, customer) => sum + owedTo(trial, customer).length, 0), 20, 'stream'),
    ...stopsOrKills(trial) ? [row('events', 'streams resumed after a fault', streams.filter(({ line }) => line.type === 'stream' && line.state === 'opened' && line.after !== undefined).length, 1, 'stream')] : []
  ]
}

/** Occasions of payments, if the gateway is the harness's. */
function ofMoney (trial: Case): Occasion[] {
  const { told, ledger, reads } = trial
  if (ledger === undefined) return []
  const charges = ledger.flatMap(line => 'charge' in line ? line.charge : [])
  const answered = (is: (exchange: Exchange) => boolean): number => told.exchanges.filter(is).length
  const both = (one: ReadonlySet<string>, other: ReadonlySet<string>): number => [...one].filter(id => other.has(id)).length
  const row = (says: string, count: number, needed: number): Occasion => ({ promise: 'money', says, count, needed })
  // The caller did not get the outcome at once, and the charge was made nevertheless.
  const open = new Set(told.exchanges.flatMap(exchange => exchange.invocation.operation.kind === 'pay' && outcome(exchange) === 'info' ? exchange.invocation.operation.id : []))
  const charged = new Set(charges.flatMap(({ order, state }) => state === 'charged' || state === 'authorised' ? order : []))
  const cancelled = new Set(reads.at(-1)?.snapshot.orders.flatMap(({ id, status }) => status === stateOf(trial, 'cancelled') ? id : []))
  return [
    row('orders charged or authorised', charged.size, 20),
    row('orders charged after pay answered with an unknown outcome', both(open, charged), 5),
    row('payments declined', answered(({ completion }) => completion?.problem === 'payment-declined'), 2),
    row('orders charged and then cancelled', both(charged, cancelled), 3),
    row('refunds acknowledged to staff', answered(({ invocation: { operation }, completion }) => operation.kind === 'refund' && completion?.type === 'ok'), 3)
  ]
}

/** Whether a fault ends instances, and streams with them. */
function stopsOrKills ({ evidence: { faults } }: Case): boolean {
  return faults.some(({ kind, drainMs }) => drainMs !== null || kind === 'kill')
}

function twins (exchanges: readonly Exchange[]): number {
  const answered = new Map<string, number>()
  for (const { invocation: { purpose, operation }, completion } of exchanges) {
    if (purpose === 'twin' && operation.kind === 'place' && completion?.status !== undefined) answered.set(keyOf(operation), (answered.get(keyOf(operation)) ?? 0) + 1)
  }
  return [...answered.values()].filter(times => times > 1).length
}
