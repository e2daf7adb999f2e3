import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { orderStatuses, totalMax, transitions, type Order, type Transition, type Transitioned } from '../orders/order.ts'
import type { Settled } from '../orders/settle.ts'
import { notStarted, outcomeUnknown, Problem } from '../plugins/errors.ts'
import type { IntakeOutcome } from '../orders/intake.ts'
import { cursorOfId, idOfCursor } from './cursors.ts'
import { expectedVersionsOf, idempotencyKeyOf } from './headers.ts'
import { instant, msOfInstant } from './instants.ts'
import { Customer, reachOf } from './reach.ts'
import { answer, Currency, idempotencyKey, ifMatch, ifNoneMatch, Money, notModified, nullableText, problemResponses, problemResponsesToBody, Sku, storableText, Time } from './schemas.ts'

const Status = Type.Enum([...orderStatuses], { type: 'string' })
const Quantity = Type.Integer({ minimum: 1, maximum: 2_000_000_000 })

const OrderSchema = Type.Object({
  id: Type.String({ format: 'uuid', description: 'UUIDv7: sorts by time' }),
  customer: Type.String(),
  status: Status,
  currency: Currency,
  items: Type.Array(Type.Object({ sku: Sku, quantity: Quantity, unitPrice: Money })),
  total: Money,
  reference: nullableText(),
  version: Type.Integer({ description: '1 when placed, one more at each transition; also the ETag' }),
  createdAt: Time
})

const OrderRequest = Type.Object({
  currency: Currency,
  items: Type.Array(Type.Object({ sku: Sku, quantity: Quantity }, { additionalProperties: false }), { minItems: 1, maxItems: 100 }),
  reference: Type.Optional(Type.Union([storableText({ maxLength: 255, description: "The customer's own name for it" }), Type.Null()]))
}, { additionalProperties: false })

// Ajv's format takes "urn:uuid:" before it too, which Postgres does not.
const OrderId = Type.Object({ id: Type.String({ format: 'uuid', maxLength: 36 }) })

/** Orders: placed exactly once, read, moved on. */
const orders: FastifyPluginAsyncTypebox = async app => {
  const { intake, store } = app.orders

  app.post('/orders', {
    onRequest: app.allow('orders'),
    schema: {
      operationId: 'placeOrder',
      tags: ['orders'],
      summary: 'Place an order, exactly once',
      description: 'Prices come from the catalogue. The same key with the same body gives the same answer again, with Idempotent-Replayed: true.',
      headers: Type.Object(idempotencyKey),
      body: OrderRequest,
      response: {
        201: answer(OrderSchema, 'Placed, and stored', 'location', 'etag', 'idempotent-replayed'),
        ...problemResponsesToBody('idempotency-key-missing', 'out-of-stock', 'idempotency-key-reused', 'unknown-product', 'outcome-unknown')
      }
    }
  }, async (request, reply) => {
    const { currency, items, reference = null } = request.body
    const twice = firstRepeated(items.map(item => item.sku))
    if (twice !== undefined) throw new Problem('invalid-request', `The product ${twice} is in the order twice; ask for it once, with the whole quantity. Nothing was stored.`)

    const result = await intake.place({ customer: request.customer, idempotencyKey: idempotencyKeyOf(request.headers), currency, items, reference })
    if (!('order' in result)) throw refusalOf(result)
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
      description: 'What is given must all hold. A cursor goes on within the same search: send the other parameters again.',
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
    // One more than asked for tells whether there is a next page.
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
      summary: 'What happened to an order, in order',
      params: OrderId,
      response: {
        200: answer(Type.Object({
          events: Type.Array(Type.Object({ version: Type.Integer(), type: Status, at: Time })),
          complete: Type.Boolean({ description: 'false: the earlier events, or all of them, were deleted after the time for which they are kept' })
        }), 'What is kept of it'),
        ...problemResponses('not-found')
      }
    }
  }, async request => {
    const history = await store.history(request.params.id, reachOf(request))
    if (history === null) throw noSuchOrder()
    return { ...history, events: history.events.map(({ at, ...event }) => ({ ...event, at: at.toISOString() })) }
  })

  for (const [name, { to, staffOnly }] of Object.entries(transitions)) {
    const transition = name as Transition
    app.post(`/orders/:id/${transition}`, {
      onRequest: staffOnly ? app.allow('staff') : app.allow('orders', 'staff'),
      config: { preconditions: ['if-match'] },
      schema: {
        operationId: `${transition}Order`,
        tags: ['orders'],
        summary: `Make it ${to}`,
        description: `200 also where it is ${to} already, so that an unknown outcome is settled by asking again.`,
        params: OrderId,
        headers: Type.Object(ifMatch),
        response: {
          200: answer(OrderSchema, `It is ${to}`, 'etag'),
          ...problemResponses('not-found', 'transition-not-allowed', 'version-mismatch', 'outcome-unknown')
        }
      }
    }, async (request, reply) => {
      const expectedVersions = expectedVersionsOf(request.headers)
      const result = await app.orders.settle(() => store.transition(transition, request.params.id, reachOf(request), expectedVersions), {
        repeatable: true,
        proves: ({ outcome }) => outcome === 'moved' || outcome === 'already' || outcome === 'not-found'
      })
      const order = orderOf(result, transition)
      if (result.outcome === 'moved') app.orders.moved(to)
      reply.header('etag', etagOf(order))
      return onTheWire(order)
    })
  }
}

export default orders

function refusalOf (result: Exclude<IntakeOutcome, { order: Order }>): Problem {
  switch (result.outcome) {
    case 'key-reused': return new Problem('idempotency-key-reused', 'This Idempotency-Key made another order. Nothing was stored; a new order takes a new key.')
    case 'unknown-product': return new Problem('unknown-product', `The catalogue has no ${result.sku} in this currency. Nothing was stored.`, { extra: { sku: result.sku } })
    case 'out-of-stock': return new Problem('out-of-stock', `There is not enough of ${result.sku}. Nothing was stored.`, { extra: { sku: result.sku } })
    case 'total-too-large': return new Problem('invalid-request', `The total is above ${totalMax} minor units. Nothing was stored.`)
    case 'rejected': return new Problem('invalid-request', 'The database refused the data of this order. Nothing was stored.')
    case 'not-started': return notStarted(whyNotStarted[result.reason])
    case 'outcome-unknown': return outcomeUnknown('Send the same request with the same Idempotency-Key: it settles the outcome and cannot order twice.')
  }
}

const whyNotStarted = {
  'queue-full': 'Too many orders are waiting.',
  'too-late': 'The database did not take it in time.',
  denied: 'The database takes no orders at present.'
}

function orderOf (result: Settled<Transitioned>, transition: Transition): Order {
  switch (result.outcome) {
    case 'moved':
    case 'already': return result.order
    case 'not-found': throw noSuchOrder()
    case 'not-allowed': throw new Problem('transition-not-allowed', `The order is ${result.order.status}; ${transition} takes one that is ${transitions[transition].from.join(' or ')}. Nothing was changed.`, { extra: { orderStatus: result.order.status } })
    case 'version-mismatch': throw new Problem('version-mismatch', `The order is at version ${result.order.version}, which is not what If-Match names. Nothing was changed.`, { headers: { etag: etagOf(result.order) } })
    case 'not-started': throw notStarted('The database did not take it.')
    case 'outcome-unknown': throw outcomeUnknown('Send the same request again: it settles the outcome.')
  }
}

function noSuchOrder (): Problem {
  return new Problem('not-found', 'There is no such order of yours.')
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
