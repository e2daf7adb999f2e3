import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { paymentStates, refundStates, type OrderRefund, type Payment } from '../orders/order.ts'
import type { Refunded } from '../orders/cashier.ts'
import { notStarted, outcomeUnknown, Problem } from '../plugins/errors.ts'
import { idempotencyKeyOf } from './headers.ts'
import { noSuchOrder, reachOf } from './reach.ts'
import { answer, Currency, Id, idempotencyKey, Money, nullableText, OrderId, problemResponses, storableText, Time } from './schemas.ts'

const nullableTime = nullableText({ description: 'null until it is settled' })

export const RefundSchema = Type.Object({
  id: Id,
  state: Type.Enum([...refundStates], { type: 'string', description: 'requested, unknown and pending: the refund is on its way' }),
  amount: Money,
  currency: Currency,
  why: Type.String({ description: 'cancelled, returned, requested, or the reason in the request' }),
  reason: nullableText({ description: 'Why it failed' }),
  requestedAt: Time,
  settledAt: nullableTime
})

export const PaymentSchema = Type.Object({
  id: Id,
  orderId: Id,
  attempt: Type.Integer({ minimum: 1 }),
  state: Type.Enum([...paymentStates], { type: 'string', description: 'authorised, charged, declined and voided are settled; in the other states the service goes on asking the gateway' }),
  amount: Money,
  currency: Currency,
  reason: nullableText({ description: 'Why it was declined' }),
  actionUrl: nullableText({ description: 'The page on which the customer has to act' }),
  requestedAt: Time,
  settledAt: nullableTime,
  refunds: Type.Array(RefundSchema)
})

/** Payments and refunds of an order. */
const payments: FastifyPluginAsyncTypebox = async app => {
  const { cashier, store } = app.payments

  app.get('/orders/:id/payments', {
    onRequest: app.allow('orders', 'staff'),
    schema: {
      operationId: 'listPayments',
      tags: ['payments'],
      summary: 'The payments of an order, the oldest first, with their refunds',
      params: OrderId,
      response: { 200: answer(Type.Object({ payments: Type.Array(PaymentSchema) }), 'All of them'), ...problemResponses('not-found') }
    }
  }, async request => {
    const found = await store.ofOrder(request.params.id, reachOf(request))
    if (found === null) throw noSuchOrder()
    return { payments: found.map(paymentOnTheWire) }
  })

  app.get('/orders/:id/payments/:payment', {
    onRequest: app.allow('orders', 'staff'),
    schema: {
      operationId: 'getPayment',
      tags: ['payments'],
      summary: 'A payment',
      params: Type.Object({ id: Id, payment: Id }),
      response: { 200: answer(PaymentSchema, 'The payment'), ...problemResponses('not-found') }
    }
  }, async request => {
    const found = await store.ofOrder(request.params.id, reachOf(request))
    const payment = found?.find(({ id }) => id === request.params.payment)
    if (payment === undefined) throw new Problem('not-found', 'There is no such payment of yours.')
    return paymentOnTheWire(payment)
  })

  app.post('/orders/:id/refunds', {
    onRequest: app.allow('refunds'),
    schema: {
      operationId: 'refundOrder',
      tags: ['payments'],
      summary: 'Refund money, exactly once',
      description: 'Without an amount: all that is left. The same key with the same amount gives the same refund again. 202: the refund is stored and on its way; the same request gives its state.',
      params: OrderId,
      headers: Type.Object(idempotencyKey),
      body: Type.Object({
        amount: Type.Optional(Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER, description: 'Minor units of the currency' })),
        reason: Type.Optional(storableText({ minLength: 1, maxLength: 255, description: 'Why; the customer sees it' }))
      }, { additionalProperties: false }),
      response: {
        201: answer(RefundSchema, 'The gateway has refunded it', 'idempotent-replayed'),
        202: answer(RefundSchema, 'It is on its way', 'idempotent-replayed'),
        ...problemResponses('idempotency-key-missing', 'not-found', 'not-refundable', 'idempotency-key-reused', 'outcome-unknown')
      }
    }
  }, async (request, reply) => {
    const { amount, reason = null } = request.body
    const result = await cashier.refund(request.params.id, {
      amount: amount === undefined ? null : BigInt(amount),
      why: reason,
      askedBy: request.customer,
      idempotencyKey: idempotencyKeyOf(request.headers)
    })
    const refund = refundOf(result)
    if (result.outcome === 'replayed') reply.header('idempotent-replayed', 'true')
    return reply.code(refund.state === 'refunded' ? 201 : 202).send(refundOnTheWire(refund))
  })
}

export default payments

function refundOf (result: Refunded): OrderRefund {
  switch (result.outcome) {
    case 'begun':
    case 'replayed': {
      if (result.refund.state === 'failed') throw new Problem('not-refundable', `The payment gateway refused the refund: ${result.refund.reason ?? 'it gave no reason'}. Nothing was refunded.`)
      return result.refund
    }
    case 'not-found': throw noSuchOrder()
    case 'not-charged': throw new Problem('not-refundable', 'Nothing was charged for this order. Nothing was refunded.', { extra: { refundable: 0 } })
    case 'too-much': throw new Problem('not-refundable', `Only ${result.refundable} minor units of this order can still be refunded. Nothing was refunded.`, { extra: { refundable: Number(result.refundable) } })
    case 'key-reused': throw new Problem('idempotency-key-reused', 'This Idempotency-Key was used for another refund. Nothing was refunded. Use a new key for a new refund.')
    case 'not-started': throw notStarted('The database did not take the request.')
    case 'outcome-unknown': throw outcomeUnknown('Send the same request with the same Idempotency-Key: it settles the outcome and cannot refund twice.')
  }
}

export function paymentOnTheWire ({ captures: _, reference: __, requestedAt, settledAt, refunds, ...payment }: Payment) {
  return {
    ...payment,
    amount: Number(payment.amount),
    requestedAt: requestedAt.toISOString(),
    settledAt: settledAt?.toISOString() ?? null,
    refunds: refunds.map(refundOnTheWire)
  }
}

export function refundOnTheWire ({ paymentId: _, orderId: __, reference: ___, requestedAt, settledAt, ...refund }: OrderRefund) {
  return { ...refund, amount: Number(refund.amount), requestedAt: requestedAt.toISOString(), settledAt: settledAt?.toISOString() ?? null }
}
