import { digestOf } from '../digest.ts'
import { isOnOrder, type OrderAnswered } from '../history.ts'
import { type Case, type Looked, ownerOf, subjectOf, subjectOfRow } from './case.ts'
import type { Prices } from './prices.ts'
import { bodyOf, type Exchange, idsOn, keyOf, type Order } from './told.ts'

/** An order is what was asked for, at the prices of the catalogue, and only its customer can see it. */
export function wrongContent (trial: Case): Looked {
  const { prices } = trial
  return { looked: answered(trial, prices) + stored(trial, prices) + shown(trial) + streamed(trial) }
}

/** Checks acknowledgements. If a key was acknowledged several times, the later answers are compared with the first, as replays. */
function answered (trial: Case, prices: Prices): number {
  let looked = 0
  for (const order of trial.told.orders.values()) {
    const { customer, key, acknowledgements: [first] } = order
    const answer = first?.completion?.order
    if (!first || !answer) continue
    looked++
    const fault = sameBody(trial, answer, first.body) ? misreckoned(answer, prices, spanOf(trial, order)) ?? misattributed(trial, first, answer) : 'is not what was asked for'
    if (fault) trial.findings.add('wrongContent', { customer, key, orderId: answer.id }, `Order ${answer.id} was acknowledged to ${customer} for key ${key} and ${fault}.`)
  }
  return looked
}

function stored (trial: Case, prices: Prices): number {
  const { told, reads, findings } = trial
  let looked = 0
  for (const { snapshot } of reads) {
    for (const row of snapshot.orders) {
      const order = told.orders.get(keyOf(row))
      if (!order) continue
      looked++
      const fault = bodiesOf(order, row.id).some(body => sameBody(trial, row, body)) ? misreckoned(row, prices, spanOf(trial, order)) : 'is not what was asked for'
      if (fault) findings.add('wrongContent', subjectOfRow(row), `Order ${row.id} of ${row.customer} with key ${row.key} is stored and ${fault}.`)
    }
  }
  return looked
}

function sameBody ({ features }: Case, order: OrderAnswered, body: string): boolean {
  return bodyOf(order, features.has('reference')) === body
}

/** Checks stored orders. An acknowledged order must have the acknowledged body, any other order one of the bodies that were sent. */
function bodiesOf ({ attempts, acknowledgements }: Order, id: string): string[] {
  const acknowledged = acknowledgements.find(({ completion }) => completion?.order?.id === id)
  return acknowledged ? [acknowledged.body] : attempts.map(({ body }) => body)
}

/** The span of time in which the order was made. */
function spanOf ({ told }: Case, { attempts, acknowledgements }: Order): readonly [from: number, to: number] {
  return [attempts[0]?.begun ?? 0, acknowledgements[0]?.ended ?? told.length]
}

function misreckoned ({ items, total }: OrderAnswered, prices: Prices, [from, to]: readonly [number, number]): string | undefined {
  for (const { sku, unitPrice } of items) {
    const possible = prices.between(sku, from, to)
    if (!possible.has(unitPrice)) return `sells ${sku} at ${unitPrice}, which the catalogue has ${possible.size === 0 ? 'not at all' : `at ${[...possible].join(' or ')}`}`
  }
  const sum = items.reduce((sum, { quantity, unitPrice }) => sum + quantity * unitPrice, 0)
  return sum === total ? undefined : `has a total of ${total}, where its items make ${sum}`
}

/** Checks what the answer to a new order says beside the body. */
function misattributed ({ features }: Case, { invocation: { operation }, completion }: Exchange, { id, customer, items }: OrderAnswered): string | undefined {
  if (operation.kind !== 'place') return undefined
  if (customer !== undefined && customer !== operation.customer) return `is said to be that of ${customer}`
  if (features.has('location') && completion?.location?.includes(id) !== true) return `has the Location ${completion?.location ?? 'of nothing'}`
  const inOrder = items.every(({ sku }, i) => sku === operation.order.items[i]?.sku)
  return features.has('item-order') && !inOrder ? 'has its items in another order than they were asked for' : undefined
}

/** Checks the orders in reads, pages and transitions. */
function shown (trial: Case): number {
  const digests = new Map<string, string | undefined>()
  let looked = 0
  for (const exchange of trial.told.exchanges) {
    const { invocation, completion } = exchange
    const { operation } = invocation
    if (completion?.type !== 'ok' || (operation.kind !== 'list' && !isOnOrder(operation))) continue
    for (const id of idsOn(completion) ?? []) {
      looked++
      foreign(trial, operation.customer, id, exchange)
    }
    for (const { id, digest } of completion.shown ?? []) {
      if (!digests.has(id)) digests.set(id, digestOfAnswer(trial, id))
      const expected = digests.get(id)
      if (expected !== undefined && digest !== expected) trial.findings.add('wrongContent', subjectOf(trial, id), `A page showed order ${id} with another content than it was acknowledged with.`, exchange)
    }
    if (operation.kind === 'list' || !completion.order) continue
    looked++
    if (operation.staff !== true && (invocation.purpose !== 'intrude' || trial.features.has('own-orders'))) foreign(trial, operation.customer, operation.id, exchange)
    const { order } = completion
    const expected = asKnown(trial, operation.id)
    if (order.id !== operation.id || (expected && !sameContent(trial, order, expected))) {
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

function asKnown (trial: Case, id: string): OrderAnswered | undefined {
  return firstAnswer(trial, id) ?? trial.reads.at(-1)?.byId.get(id)?.[0]
}

function firstAnswer ({ told }: Case, id: string): OrderAnswered | undefined {
  return told.acknowledged.get(id)?.order.acknowledgements.find(({ completion }) => completion?.order?.id === id)?.completion?.order
}

/** A stored row does not have all fields of an answer. */
function digestOfAnswer (trial: Case, id: string): string | undefined {
  const answer = firstAnswer(trial, id)
  return answer && digestOf(answer)
}

function sameContent (trial: Case, order: OrderAnswered, expected: OrderAnswered): boolean {
  const same = (name: 'customer' | 'createdAt') => order[name] === undefined || expected[name] === undefined || order[name] === expected[name]
  return contentOf(trial, order) === contentOf(trial, expected) && same('customer') && same('createdAt')
}

function contentOf ({ features }: Case, order: OrderAnswered): string {
  const items = order.items.map(({ sku, quantity, unitPrice }) => `${sku} ${quantity} ${unitPrice}`)
  return JSON.stringify([bodyOf(order, features.has('reference')), order.total, features.has('item-order') ? items : items.sort()])
}
