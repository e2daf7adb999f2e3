import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import type { Settled } from '../commit/settle.ts'
import type { OrderReturn } from '../orders/order.ts'
import type { Returned } from '../orders/return-store.ts'
import { uuidv7 } from '../commit/uuidv7.ts'
import { notStarted, outcomeUnknown, Problem } from '../plugins/errors.ts'
import { idempotencyKeyOf } from './headers.ts'
import { RefundSchema, refundOnTheWire } from './payments.ts'
import { noSuchOrder, reachOf } from './reach.ts'
import { answer, Id, idempotencyKey, Money, nullableText, OrderId, problemResponses, Sku, storableText, Time } from './schemas.ts'

const Quantity = Type.Integer({ minimum: 1, maximum: 2_000_000_000 })

const ReturnSchema = Type.Object({
  id: Id,
  orderId: Id,
  items: Type.Array(Type.Object({ sku: Sku, quantity: Quantity, unitPrice: Money })),
  value: Money,
  restock: Type.Boolean(),
  refund: Type.Union([RefundSchema, Type.Null()], { description: 'null: no refund was asked for, or no money was left' }),
  reason: nullableText(),
  createdAt: Time
})

/** Items of an order that came back, or that are never shipped. */
const returns: FastifyPluginAsyncTypebox = async app => {
  app.post('/orders/:id/returns', {
    onRequest: app.allow('staff'),
    schema: {
      operationId: 'returnItems',
      tags: ['payments'],
      summary: 'Take items of an order back, exactly once',
      description: 'If the order is paid, this cancels a part of it; if it is shipped or delivered, it is a return. The value is refunded, up to what is left of the payment: ask at /orders/{id}/payments. The same key with the same body gives the same answer again.',
      params: OrderId,
      headers: Type.Object(idempotencyKey),
      body: Type.Object({
        items: Type.Array(Type.Object({ sku: Sku, quantity: Quantity }, { additionalProperties: false }), { minItems: 1, maxItems: 100 }),
        restock: Type.Boolean({ description: 'Whether the items are for sale again' }),
        refund: Type.Boolean({ default: true, description: 'Whether to refund their value' }),
        reason: Type.Optional(storableText({ minLength: 1, maxLength: 255, description: 'Why, for the books' }))
      }, { additionalProperties: false }),
      response: {
        201: answer(ReturnSchema, 'The return is stored, and its refund is on its way', 'idempotent-replayed'),
        ...problemResponses('idempotency-key-missing', 'not-found', 'not-returnable', 'transition-not-allowed', 'payment-under-way', 'idempotency-key-reused', 'outcome-unknown')
      }
    }
  }, async (request, reply) => {
    const { items, restock, refund, reason = null } = request.body
    const skus = items.map(({ sku }) => sku)
    const twice = skus.find((sku, index) => skus.indexOf(sku) !== index)
    if (twice !== undefined) throw new Problem('invalid-request', `The product ${twice} is in the return twice. Nothing was stored. Name it once, with the whole quantity.`)

    const id = uuidv7(Date.now())
    const asked = { items, restock, refund, reason, returnedBy: request.customer, idempotencyKey: idempotencyKeyOf(request.headers) }
    const result = await app.orders.settle(() => app.orders.returns.take(id, request.params.id, asked), {
      repeatable: true,
      proves: ({ outcome }) => outcome === 'returned' || outcome === 'replayed' || outcome === 'key-reused' || outcome === 'not-found'
    })
    const returned = returnedOf(result)
    if (result.outcome === 'replayed') reply.header('idempotent-replayed', 'true')
    void app.payments.wake()
    return reply.code(201).send(onTheWire(returned))
  })

  app.get('/orders/:id/returns', {
    onRequest: app.allow('orders', 'staff'),
    schema: {
      operationId: 'listReturns',
      tags: ['payments'],
      summary: 'The returns of an order, the oldest first',
      params: OrderId,
      response: { 200: answer(Type.Object({ returns: Type.Array(ReturnSchema) }), 'All of them'), ...problemResponses('not-found') }
    }
  }, async request => {
    const found = await app.orders.returns.ofOrder(request.params.id, reachOf(request))
    if (found === null) throw noSuchOrder()
    return { returns: found.map(onTheWire) }
  })
}

export default returns

function returnedOf (result: Settled<Returned>): OrderReturn {
  switch (result.outcome) {
    case 'returned':
    case 'replayed': return result.return
    case 'not-found': throw noSuchOrder()
    case 'not-allowed': throw new Problem('transition-not-allowed', `The order is ${result.order.status}; items can come back if it is paid, shipped or delivered. Nothing was changed.`, { extra: { orderStatus: result.order.status } })
    case 'payment-under-way': throw new Problem('payment-under-way', 'The payment of the order is not charged yet: it is only authorised, or its capture is under way. Nothing was changed. Cancel the whole order, or take the items back once it is shipped.', { extra: { payment: result.payment.id } })
    case 'too-many': throw new Problem('not-returnable', `Only ${result.returnable} of ${result.sku} can still come back. Nothing was changed.`, { extra: { sku: result.sku, returnable: result.returnable } })
    case 'key-reused': throw new Problem('idempotency-key-reused', 'This Idempotency-Key was used for another return. Nothing was changed. Use a new key for a new return.')
    case 'not-started': throw notStarted('The database did not take the request.')
    case 'outcome-unknown': throw outcomeUnknown('Send the same request with the same Idempotency-Key: it settles the outcome and cannot take the items back twice.')
  }
}

function onTheWire ({ items, value, refund, createdAt, ...returned }: OrderReturn) {
  return {
    ...returned,
    items: items.map(item => ({ ...item, unitPrice: Number(item.unitPrice) })),
    value: Number(value),
    refund: refund && refundOnTheWire(refund),
    createdAt: createdAt.toISOString()
  }
}
