import { isOnOrder, type Completion, type Invocation } from '../history.ts'
import type { Counterexample } from '../verdict.ts'
import type { Case } from './case.ts'
import type { Finding } from './findings.ts'
import { type Exchange, keyOf } from './told.ts'

/** Each finding with all that was asked and answered of its order, and all that is stored of it. */
export function counterexamples (trial: Case): Counterexample[] {
  const concerning = exchangesOf(trial)
  return trial.findings.told.map(({ invariant, says, subject, shownBy }) => {
    const names = namesOf(trial, subject)
    const exchanges = new Set(names.flatMap(name => concerning.get(name) ?? []))
    if (shownBy) exchanges.add(shownBy)
    const { customer, key, orderId } = subject
    return {
      invariant,
      says,
      ...key !== undefined && { key },
      ...customer !== undefined && { customer },
      ...orderId !== undefined && { orderId },
      lines: linesOf(exchanges),
      stored: storedOf(trial, subject, names)
    }
  })
}

/** The exchanges of what was found, and no others, by the names of their orders: one pass, however long the history is. */
function exchangesOf (trial: Case): Map<string, Exchange[]> {
  const wanted = new Map<string, Exchange[]>()
  for (const { subject } of trial.findings.told) {
    for (const name of namesOf(trial, subject)) wanted.set(name, [])
  }
  if (wanted.size === 0) return wanted
  for (const exchange of trial.told.exchanges) {
    const { operation } = exchange.invocation
    if (operation.kind === 'place') wanted.get(keyOf(operation))?.push(exchange)
    else if (isOnOrder(operation)) wanted.get(operation.id)?.push(exchange)
  }
  return wanted
}

/** An order goes by its key, and by every id that was acknowledged or stored for it. */
function namesOf ({ told, reads }: Case, { customer, key, orderId }: Finding['subject']): string[] {
  const names = new Set<string>()
  if (orderId !== undefined) names.add(orderId)
  if (customer !== undefined && key !== undefined) {
    const name = keyOf({ customer, key })
    names.add(name)
    for (const { completion } of told.orders.get(name)?.acknowledgements ?? []) {
      if (completion?.order) names.add(completion.order.id)
    }
    for (const read of reads) {
      for (const row of read.byKey.get(name) ?? []) names.add(row.id)
    }
  }
  return [...names]
}

function linesOf (exchanges: ReadonlySet<Exchange>): Array<Invocation | Completion> {
  // The settling came last, but is sorted by its own times: both are on one clock.
  return [...exchanges].flatMap(({ invocation, completion }) => completion ? [invocation, completion] : [invocation]).sort((a, b) => a.at - b.at)
}

function storedOf ({ evidence, reads }: Case, { sku }: Finding['subject'], names: readonly string[]): unknown {
  return reads.map(({ afterSettling, snapshot: { products }, byKey, byId, events }) => ({
    read: afterSettling ? 'second' : 'first',
    ...sku === undefined
      ? { orders: [...new Set(names.flatMap(name => byKey.get(name) ?? byId.get(name) ?? []))], events: names.flatMap(name => events?.get(name) ?? []) }
      : { product: evidence.products.find(product => product.sku === sku), available: products?.find(product => product.sku === sku)?.available }
  }))
}
