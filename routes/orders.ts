import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { orderEventTypes, orderStatuses, totalMax, transitions, type Order, type Payment, type Transition, type Transitioned } from '../orders/order.ts'
import { notStarted, outcomeUnknown, Problem } from '../plugins/errors.ts'
import type { Settled } from '../commit/settle.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { IntakeOutcome } from '../orders/intake.ts'
import { cursorOfId, idOfCursor } from './cursors.ts'
import { expectedVersionsOf, idempotencyKeyOf } from './headers.ts'
import { PaymentSchema, paymentOnTheWire } from './payments.ts'
import { instant, msOfInstant } from './instants.ts'
import { Customer, noSuchOrder, reachOf } from './reach.ts'
import { answer, Currency, idempotencyKey, ifMatch, ifNoneMatch, Money, notModified, nullableText, OrderId, problemResponses, Sku, storableText, Time } from './schemas.ts'

const Status = Type.Enum([...orderStatuses], { type: 'string' })
const EventType = Type.Enum([...orderEventTypes], { type: 'string' })
const Quantity = Type.Integer({ minimum: 1, maximum: 2_000_000_000 })

const OrderSchema = Type.Object({
  id: Type.String({ format: 'uuid', description: 'UUIDv7: sorts by time' }),
  customer: Type.String(),
  status: Status,
  currency: Currency,
  items: Type.Array(Type.Object({ sku: Sku, quantity: Quantity, unitPrice: Money })),
  total: Money,
  reference: nullableText(),
  version: Type.Integer({ description: '1 when placed; each transition adds 1. Also the ETag' }),
  createdAt: Time
})

/** An order whose payment has no outcome yet. */
const OrderUnderPayment = Type.Object({ ...OrderSchema.properties, payment: PaymentSchema })

const OrderRequest = Type.Object({
  currency: Currency,
  items: Type.Array(Type.Object({ sku: Sku, quantity: Quantity }, { additionalProperties: false }), { minItems: 1, maxItems: 100 }),
  reference: Type.Optional(Type.Union([storableText({ maxLength: 255, description: "The customer's own name for it" }), Type.Null()])),
  expectedTotal: Type.Optional(Type.Integer({ minimum: 0, maximum: totalMax, description: 'The total that the customer was told, in minor units. If the order costs something else, nothing is stored' }))
}, { additionalProperties: false })

/** Orders: placed exactly once, read, moved on. */
const orders: FastifyPluginAsyncTypebox = async app => {
  const { intake, store } = app.orders

  app.post('/orders', {
    onRequest: app.allow('orders'),
    preHandler: app.customers.mayOrder,
    schema: {
      operationId: 'placeOrder',
      tags: ['orders'],
      summary: 'Place an order, exactly once',
      description: 'Prices come from the catalogue. The same key with the same body gives the same answer again, with Idempotent-Replayed: true.',
      headers: Type.Object(idempotencyKey),
      body: OrderRequest,
      response: {
        201: answer(OrderSchema, 'Placed, and stored', 'location', 'etag', 'idempotent-replayed'),
        ...problemResponses('idempotency-key-missing', 'customer-suspended', 'customer-unknown', 'out-of-stock', 'price-changed', 'idempotency-key-reused', 'unknown-product', 'outcome-unknown')
      }
    }
  }, async (request, reply) => {
    const { currency, items, reference = null, expectedTotal } = request.body
    const twice = firstRepeated(items.map(item => item.sku))
    if (twice !== undefined) throw new Problem('invalid-request', `The product ${twice} is in the order twice. Nothing was stored. Name it once, with the whole quantity.`)

    const asked = { customer: request.customer, idempotencyKey: idempotencyKeyOf(request.headers), currency, items, reference, expectedTotal }
    const result = await intake.place(asked, reply.raw)
    if (!('order' in result)) throw refusalOf(result, { expectedTotal, waitMs: intake.waitMs(request.customer) })
    if (result.outcome === 'replayed') reply.header('idempotent-replayed', 'true')
    reply.code(201).headers({ location: `/orders/${result.order.id}`, etag: etagOf(result.order) })
    return onTheWire(result.order)
  })

  app.get('/orders', {
    onRequest: app.allow('orders', 'staff'),
    schema: {
      operationId: 'listOrders',
      tags: ['orders'],
      summary: "One's own orders, newest first (staff: everybody's)",
      description: 'All conditions given must hold. A cursor continues the same search: send the other parameters again.',
      querystring: Type.Object({
        customer: Type.Optional(Customer),
        reference: Type.Optional(storableText({ maxLength: 255, description: "The customer's own name for it, exactly" })),
        status: Type.Optional(Status),
        from: Type.Optional(instant('Placed at this time or later, by createdAt')),
        to: Type.Optional(instant('Placed before this time, by createdAt')),
        limit: Type.Integer({ minimum: 1, maximum: 100, default: 20 }),
        cursor: Type.Optional(Type.String({ pattern: '^[A-Za-z0-9_-]{22}$', description: 'The `next` of the page before' }))
      }, { additionalProperties: false }),
      response: {
        200: answer(Type.Object({
          orders: Type.Array(OrderSchema),
          next: nullableText({ description: 'The cursor of the next page; null on the last' })
        }), 'A page'),
        ...problemResponses()
      }
    }
  }, async request => {
    const { customer, reference, status, limit, cursor } = request.query
    const from = request.query.from === undefined ? undefined : msOfInstant('from', request.query.from)
    const to = request.query.to === undefined ? undefined : msOfInstant('to', request.query.to)
    if (from !== undefined && to !== undefined && from > to) throw new Problem('invalid-request', 'from is after to. Nothing was read.', { extra: { errors: [{ in: 'querystring', path: '/from', message: 'is after to' }] } })
    const before = cursor === undefined ? undefined : idOfCursor(cursor)
    // One more than the limit tells whether there is a next page.
    const found = await store.list({ customer: reachOf(request, customer), reference, status, from, to, before, limit: limit + 1 })
    const page = found.slice(0, limit)
    const last = page.at(-1)
    return { orders: page.map(onTheWire), next: found.length > limit && last !== undefined ? cursorOfId(last.id) : null }
  })

  app.get('/orders/:id', {
    onRequest: app.allow('orders', 'staff'),
    schema: {
      operationId: 'getOrder',
      tags: ['orders'],
      summary: 'An order',
      params: OrderId,
      headers: Type.Object(ifNoneMatch),
      response: { 200: answer(OrderSchema, 'The order', 'etag'), 304: notModified, ...problemResponses('not-found', 'version-mismatch') }
    }
  }, async (request, reply) => {
    const order = await store.find(request.params.id, reachOf(request))
    if (order === null) throw noSuchOrder()
    reply.header('etag', etagOf(order))
    return onTheWire(order)
  })

  app.get('/orders/:id/events', {
    onRequest: app.allow('orders', 'staff'),
    schema: {
      operationId: 'listOrderEvents',
      tags: ['orders'],
      summary: 'The events of an order, in order',
      params: OrderId,
      response: {
        200: answer(Type.Object({
          events: Type.Array(Type.Object({ version: Type.Integer(), type: EventType, at: Time })),
          complete: Type.Boolean({ description: 'false: earlier events, or all, were deleted because their retention was over' })
        }), 'The kept events'),
        ...problemResponses('not-found')
      }
    }
  }, async request => {
    const history = await store.history(request.params.id, reachOf(request))
    if (history === null) throw noSuchOrder()
    return { ...history, events: history.events.map(({ at, ...event }) => ({ ...event, at: at.toISOString() })) }
  })

  app.post('/orders/:id/pay', {
    onRequest: app.allow('orders', 'staff'),
    config: { preconditions: ['if-match'] },
    schema: {
      operationId: 'payOrder',
      tags: ['orders'],
      summary: 'Pay an order',
      description: "Only the payment gateway's answer makes an order paid, and a repeated request never pays twice. 200 also if it is paid already. 202: the customer has to act, or the gateway has not finished; ask at Location. If the gateway gave no answer: 503 outcome-unknown, or 202 with Prefer: respond-async (RFC 7240).",
      params: OrderId,
      headers: Type.Object(ifMatch),
      response: {
        200: answer(OrderSchema, 'It is paid', 'etag'),
        202: answer(OrderUnderPayment, 'The outcome is not known yet, or the customer has to act', 'location', 'retry-after'),
        ...problemResponses('not-found', 'payment-declined', 'transition-not-allowed', 'version-mismatch', 'outcome-unknown')
      }
    }
  }, async (request, reply) => {
    const result = await app.payments.cashier.pay(request.params.id, reachOf(request), expectedVersionsOf(request.headers))
    switch (result.outcome) {
      case 'paid': return reply.header('etag', etagOf(result.order)).send(onTheWire(result.order))
      case 'declined': throw declined(result.payment)
      case 'not-called': throw new Problem('not-started', 'The payment gateway could not be reached. Nobody was charged, and the order is as it was. Send the same request again.', { headers: { 'retry-after': '1' } })
      case 'open':
      case 'under-way': return underWay(request, reply, result)
      case 'outcome-unknown': throw outcomeUnknown('Send the same request again: it cannot pay twice.')
      default: {
        const order = orderOf(result, 'pay')
        return reply.header('etag', etagOf(order)).send(onTheWire(order))
      }
    }
  })

  for (const name of ['ship', 'deliver', 'cancel'] as const) {
    const { to, staffOnly } = transitions[name]
    app.post(`/orders/:id/${name}`, {
      onRequest: staffOnly ? app.allow('staff') : app.allow('orders', 'staff'),
      config: { preconditions: ['if-match'] },
      schema: {
        operationId: `${name}Order`,
        tags: ['orders'],
        summary: `Make it ${to}`,
        description: `200 also if it is ${to} already, so that asking again settles an unknown outcome.${descriptions[name] ?? ''}`,
        params: OrderId,
        headers: Type.Object(ifMatch),
        response: {
          200: answer(OrderSchema, `It is ${to}`, 'etag'),
          ...name === 'ship' && { 202: answer(OrderUnderPayment, 'The capture is under way; the order is shipped once it succeeds', 'location', 'retry-after') },
          ...problemResponses('not-found', 'payment-declined', 'transition-not-allowed', 'payment-under-way', 'version-mismatch', 'outcome-unknown')
        }
      }
    }, async (request, reply) => {
      const expectedVersions = expectedVersionsOf(request.headers)
      const move = async () => await app.orders.settle(() => store.transition(
        name,
        request.params.id,
        reachOf(request),
        expectedVersions,
        app.payments.leaseMs
      ), {
        repeatable: true,
        proves: ({ outcome }) => outcome === 'moved' || outcome === 'already' || outcome === 'not-found'
      })
      const waitUntil = performance.now() + underWayWaitMs
      let result = await move()
      while (result.outcome === 'payment-under-way' && result.payment.state === 'requested' && performance.now() < waitUntil) {
        await delay(underWayWaitMs / 40)
        result = await move()
      }
      if (result.outcome === 'capture' || (result.outcome === 'payment-under-way' && name === 'ship')) {
        const shipped = await app.payments.cashier.ship(result)
        if (shipped.outcome === 'outcome-unknown') throw outcomeUnknown('Send the same request again: it cannot take the money twice.')
        if (shipped.outcome === 'declined') throw declined(shipped.payment)
        if (shipped.outcome === 'open') return underWay(request, reply, shipped)
        return reply.header('etag', etagOf(shipped.order)).send(onTheWire(shipped.order))
      }
      const order = orderOf(result, name)
      if (result.outcome === 'moved') app.orders.moved(to)
      if (name === 'cancel') void app.payments.wake()
      return reply.header('etag', etagOf(order)).send(onTheWire(order))
    })
  }
}

export default orders

/** @param waitMs how long an order that comes now would wait */
function refusalOf (
  result: Exclude<IntakeOutcome, { order: Order }>,
  { expectedTotal, waitMs }: { expectedTotal: number | undefined, waitMs: number }
): Problem {
  switch (result.outcome) {
    case 'key-reused': return new Problem('idempotency-key-reused', 'This Idempotency-Key made another order. Nothing was stored. Use a new key for a new order.')
    case 'unknown-product': return new Problem('unknown-product', `The catalogue has no ${result.sku} in this currency. Nothing was stored.`, { extra: { sku: result.sku } })
    case 'out-of-stock': return new Problem('out-of-stock', `There is not enough of ${result.sku}. Nothing was stored.`, { extra: { sku: result.sku } })
    case 'price-changed': return new Problem('price-changed', `The order costs ${result.total} minor units, and not ${expectedTotal}. Nothing was stored. To accept this price, send it as expectedTotal.`, { extra: { expectedTotal, total: Number(result.total) } })
    case 'total-too-large': return new Problem('invalid-request', `The total is above ${totalMax} minor units. Nothing was stored.`)
    case 'rejected': return new Problem('invalid-request', 'The database refused the data of this order. Nothing was stored.')
    case 'not-started': return notStarted(whyNotStarted[result.reason], Math.max(1, Math.ceil(waitMs / 1_000)))
    case 'outcome-unknown': return outcomeUnknown('Send the same request with the same Idempotency-Key: it settles the outcome and cannot order twice.')
  }
}

const whyNotStarted = {
  'queue-full': 'Too many orders are waiting.',
  'own-queue-full': 'Too many of your orders are waiting.',
  'queue-slow': 'This order would wait too long behind those that are waiting.',
  'too-late': 'The order did not reach the database in time.',
  denied: 'The database takes no orders at present.',
  'client-gone': 'The client has gone.'
}

/** How long a transition waits for another request that is calling the gateway, in ms. */
const underWayWaitMs = 2_000

const descriptions: Partial<Record<Transition, string>> = {
  ship: ' If its payment is only authorised, the money is captured first.',
  cancel: ' The stock goes back, and so does the money.'
}

function declined ({ id, reason }: Payment): Problem {
  return new Problem('payment-declined', `The payment gateway declined the payment: ${reason ?? 'it gave no reason'}. Nobody was charged. The order can be paid again.`, { extra: { reason: reason ?? '', payment: id } })
}

/** Answers while the payment has no outcome. Asking again, here or at Location, gives the outcome once the gateway has said it. */
function underWay (request: FastifyRequest, reply: FastifyReply, { order, payment }: { order: Order, payment: Payment }): FastifyReply {
  reply.headers({ location: `/orders/${order.id}/payments/${payment.id}`, 'retry-after': '1' })
  const waits = payment.state === 'pending' || /(^|,)\s*respond-async\s*(,|;|$)/i.test(String(request.headers.prefer))
  if (!waits) throw new Problem('outcome-unknown', 'The payment gateway did not say in time what became of the payment. Send the same request again: it asks the gateway and cannot pay twice.', { extra: { payment: payment.id } })
  return reply.code(202).send({ ...onTheWire(order), payment: paymentOnTheWire(payment) })
}

function orderOf (result: Exclude<Settled<Transitioned>, { outcome: 'capture' }>, transition: Transition): Order {
  switch (result.outcome) {
    case 'moved':
    case 'already': return result.order
    case 'not-found': throw noSuchOrder()
    case 'not-allowed': throw new Problem('transition-not-allowed', `The order is ${result.order.status}; ${transition} takes an order that is ${transitions[transition].from.join(' or ')}. Nothing was changed.`, { extra: { orderStatus: result.order.status } })
    case 'nothing-left': throw new Problem('transition-not-allowed', 'All items of the order were returned, or all of its money was refunded. Nothing was shipped. Cancel the order.', { extra: { orderStatus: result.order.status } })
    case 'payment-under-way': throw new Problem('payment-under-way', `A payment of the order is under way, and its outcome is not known yet. Nothing was changed. Look at /orders/${result.order.id}/payments, and send the same request again once it is settled.`, { extra: { payment: result.payment.id } })
    case 'version-mismatch': throw new Problem('version-mismatch', `The order is at version ${result.order.version}, which is not what If-Match names. Nothing was changed.`, { headers: { etag: etagOf(result.order) } })
    case 'not-started': throw notStarted('The database did not take the request.')
    case 'outcome-unknown': throw outcomeUnknown('Send the same request again: it settles the outcome.')
  }
}

function etagOf (order: Order): string {
  return `"${order.version}"`
}

function onTheWire (order: Order) {
  const items = order.items.map(item => ({ ...item, unitPrice: Number(item.unitPrice) }))
  return { ...order, items, total: Number(order.total), createdAt: order.createdAt.toISOString() }
}

function firstRepeated (values: string[]): string | undefined {
  return values.find((value, index) => values.indexOf(value) !== index)
}
