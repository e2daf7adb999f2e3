import type { OrderAnswered } from '../history.ts'
import { type Case, type Looked, ownerOf, subjectOf, subjectOfRow } from './case.ts'
import { bodyOf, type Exchange, keyOf, type Order } from './told.ts'

/** An order is what was asked for, at the prices of the catalogue, and for nobody's eyes but its customer's. */
export function wrongContent (trial: Case): Looked {
  const prices = new Map(trial.evidence.products.map(({ sku, unitPrice }) => [sku, unitPrice]))
  return { looked: answered(trial, prices) + stored(trial, prices) + shown(trial) + streamed(trial) }
}

/** Of a key that was acknowledged several times, the later answers are compared with the first, as replays. */
function answered ({ told, findings }: Case, prices: ReadonlyMap<string, number>): number {
  let looked = 0
  for (const { customer, key, acknowledgements: [first] } of told.orders.values()) {
    const order = first?.completion?.order
    if (!first || !order) continue
    looked++
    const fault = bodyOf(order) === first.body ? misreckoned(order, prices) : 'is not what was asked for'
    if (fault) findings.add('wrongContent', { customer, key, orderId: order.id }, `Order ${order.id} was acknowledged to ${customer} for key ${key} and ${fault}.`)
  }
  return looked
}

function stored ({ told, reads, findings }: Case, prices: ReadonlyMap<string, number>): number {
  let looked = 0
  for (const { snapshot } of reads) {
    for (const row of snapshot.orders) {
      const order = told.orders.get(keyOf(row))
      if (!order) continue
      looked++
      const fault = bodiesOf(order, row.id).includes(bodyOf(row)) ? misreckoned(row, prices) : 'is not what was asked for'
      if (fault) findings.add('wrongContent', subjectOfRow(row), `Order ${row.id} of ${row.customer} with key ${row.key} is stored and ${fault}.`)
    }
  }
  return looked
}

/** Where it was acknowledged, it is the body that was; else any that was tried. */
function bodiesOf ({ attempts, acknowledgements }: Order, id: string): string[] {
  const acknowledged = acknowledgements.find(({ completion }) => completion?.order?.id === id)
  return acknowledged ? [acknowledged.body] : attempts.map(({ body }) => body)
}

function misreckoned ({ items, total }: OrderAnswered, prices: ReadonlyMap<string, number>): string | undefined {
  for (const { sku, unitPrice } of items) {
    const price = prices.get(sku)
    if (unitPrice !== price) return `sells ${sku} at ${unitPrice}, which the catalogue has ${price === undefined ? 'not at all' : `at ${price}`}`
  }
  const sum = items.reduce((sum, { quantity, unitPrice }) => sum + quantity * unitPrice, 0)
  return sum === total ? undefined : `has a total of ${total}, where its items make ${sum}`
}

/** What reads, pages and transitions showed. */
function shown (trial: Case): number {
  let looked = 0
  for (const exchange of trial.told.exchanges) {
    const { invocation: { operation }, completion } = exchange
    if (completion?.type !== 'ok' || operation.kind === 'place') continue
    for (const id of completion.ids ?? []) {
      looked++
      foreign(trial, operation.customer, id, exchange)
    }
    if (operation.kind === 'list' || !completion.order) continue
    looked++
    foreign(trial, operation.customer, operation.id, exchange)
    const { order } = completion
    const expected = asKnown(trial, operation.id)
    if (order.id !== operation.id || (expected && contentOf(order) !== contentOf(expected))) {
      trial.findings.add('wrongContent', subjectOf(trial, operation.id), `To ${operation.kind} order ${operation.id} was answered with ${order.id === operation.id ? 'another content' : `order ${order.id}`}.`, exchange)
    }
  }
  return looked
}

function streamed (trial: Case): number {
  for (const { customer, event } of trial.told.streamed) foreign(trial, customer, event.orderId)
  return trial.told.streamed.length
}

function foreign (trial: Case, customer: string, id: string, shownBy?: Exchange): void {
  const owner = ownerOf(trial, id)?.customer
  if (owner === undefined || owner === customer) return
  trial.findings.add('wrongContent', subjectOf(trial, id), `Order ${id} of ${owner} was shown to ${customer}.`, shownBy)
}

function asKnown ({ told, reads }: Case, id: string): OrderAnswered | undefined {
  const acknowledgements = told.acknowledged.get(id)?.order.acknowledgements
  return acknowledgements?.find(({ completion }) => completion?.order?.id === id)?.completion?.order ?? reads.at(-1)?.byId.get(id)?.[0]
}

function contentOf (order: OrderAnswered): string {
  return JSON.stringify([bodyOf(order), order.total, order.items.map(({ sku, unitPrice }) => `${sku} ${unitPrice}`).sort()])
}
