import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { uuidv7 } from '../commit/uuidv7.ts'
import { orderEventTypes } from '../orders/order.ts'
import { deliveryStates, endpointsMax, newSecret, type Delivery, type WebhookEndpoint } from '../orders/webhooks.ts'
import { Problem } from '../plugins/errors.ts'
import { faultOfUrl } from '../plugins/webhook-post.ts'
import { cursorOfId, idOfCursor } from './cursors.ts'
import { answer, Id, nullableText, problemResponses, Time } from './schemas.ts'

const EndpointSchema = Type.Object({ id: Id, url: Type.String(), createdAt: Time })

const DeliverySchema = Type.Object({
  id: Type.String({ format: 'uuid', description: 'The webhook-id of every try' }),
  orderId: Id,
  version: Type.Integer(),
  type: Type.Enum(orderEventTypes.map(type => `order.${type}`), { type: 'string' }),
  state: Type.Enum([...deliveryStates], { type: 'string', description: 'failed: the last try failed' }),
  tries: Type.Integer(),
  dueAt: nullableText({ description: 'When the next try is due; null: there is none' }),
  lastStatus: Type.Unsafe<number | null>({ type: ['integer', 'null'], description: "The status of the endpoint's last answer" }),
  lastError: nullableText({ description: 'Why there was no answer' }),
  createdAt: Time,
  deliveredAt: nullableText()
})

/** A customer's webhooks, and the deliveries to them. */
const webhooks: FastifyPluginAsyncTypebox<{ production: boolean, allowsPrivate: boolean }> = async (app, { production, allowsPrivate }) => {
  const { store, wake } = app.webhooks

  app.post('/webhooks', {
    onRequest: app.allow('orders'),
    schema: {
      operationId: 'addWebhook',
      tags: ['webhooks'],
      summary: "Send the events of one's own orders to a URL",
      description: 'Starts a second after this answer. The service signs each event by the Standard Webhooks specification. Only this answer shows the secret. If the answer was lost, find the webhook in the list, delete it and add it again.',
      body: Type.Object({ url: Type.String({ minLength: 1, maxLength: 2_000, description: 'https, at a public address' }) }, { additionalProperties: false }),
      response: {
        201: answer(Type.Object({ ...EndpointSchema.properties, secret: Type.String({ description: 'whsec_ and base64' }) }), 'Added'),
        ...problemResponses('too-many-webhooks')
      }
    }
  }, async (request, reply) => {
    const { url } = request.body
    const fault = faultOfUrl(url, { production, allowsPrivate })
    if (fault !== undefined) throw new Problem('invalid-request', `Nothing can be sent to this URL: ${fault}. Nothing was stored.`, { extra: { errors: [{ in: 'body', path: '/url', message: fault }] } })
    const secret = newSecret()
    const endpoint = await store.add(uuidv7(Date.now()), request.customer, url, secret)
    if (endpoint === undefined) throw new Problem('too-many-webhooks', `You have ${endpointsMax} webhooks, and no more are allowed. Nothing was stored. Delete one that you do not need.`)
    return reply.code(201).send({ ...endpointOnTheWire(endpoint), secret })
  })

  app.get('/webhooks', {
    onRequest: app.allow('orders'),
    schema: {
      operationId: 'listWebhooks',
      tags: ['webhooks'],
      summary: "One's own webhooks, the oldest first",
      response: { 200: answer(Type.Object({ webhooks: Type.Array(EndpointSchema) }), 'All of them'), ...problemResponses() }
    }
  }, async request => ({ webhooks: (await store.ofCustomer(request.customer)).map(endpointOnTheWire) }))

  app.delete('/webhooks/:id', {
    onRequest: app.allow('orders'),
    schema: {
      operationId: 'deleteWebhook',
      tags: ['webhooks'],
      summary: 'Delete a webhook',
      description: 'Pending deliveries are deleted. A delivery on its way may still arrive.',
      params: Type.Object({ id: Id }),
      response: { 204: answer(Type.Null(), 'It is gone'), ...problemResponses('not-found') }
    }
  }, async (request, reply) => {
    if (!await store.remove(request.params.id, request.customer)) throw noSuchWebhook()
    return reply.code(204).send(null)
  })

  app.get('/webhooks/:id/deliveries', {
    onRequest: app.allow('orders'),
    schema: {
      operationId: 'listDeliveries',
      tags: ['webhooks'],
      summary: 'The deliveries to a webhook, newest first',
      params: Type.Object({ id: Id }),
      querystring: Type.Object({
        limit: Type.Integer({ minimum: 1, maximum: 100, default: 20 }),
        cursor: Type.Optional(Type.String({ pattern: '^[A-Za-z0-9_-]{22}$', description: 'The `next` of the page before' }))
      }, { additionalProperties: false }),
      response: {
        200: answer(Type.Object({ deliveries: Type.Array(DeliverySchema), next: nullableText({ description: 'The cursor of the next page; null on the last' }) }), 'A page'),
        ...problemResponses('not-found')
      }
    }
  }, async request => {
    const { limit, cursor } = request.query
    // One more than the limit tells whether there is a next page.
    const found = await store.deliveries(request.params.id, request.customer, {
      before: cursor === undefined ? undefined : idOfCursor(cursor),
      limit: limit + 1
    })
    if (found === null) throw noSuchWebhook()
    const page = found.slice(0, limit)
    const last = page.at(-1)
    return { deliveries: page.map(deliveryOnTheWire), next: found.length > limit && last !== undefined ? cursorOfId(last.id) : null }
  })

  app.post('/webhooks/:id/deliveries/:delivery/replay', {
    onRequest: app.allow('orders'),
    schema: {
      operationId: 'replayDelivery',
      tags: ['webhooks'],
      summary: 'Repeat a delivery',
      description: 'In any state: with the same webhook-id, and from the first try on. A delivery that was not tried yet stays as it is.',
      params: Type.Object({ id: Id, delivery: Id }),
      response: { 202: answer(DeliverySchema, 'The delivery is due'), ...problemResponses('not-found') }
    }
  }, async (request, reply) => {
    const delivery = await store.replay(request.params.delivery, request.params.id, request.customer)
    if (delivery === undefined) throw noSuchWebhook()
    wake()
    return reply.code(202).send(deliveryOnTheWire(delivery))
  })
}

export default webhooks

/** The same answer for a webhook that does not exist and for one of another customer. */
function noSuchWebhook (): Problem {
  return new Problem('not-found', 'There is no such webhook of yours, or no such delivery of it.')
}

function endpointOnTheWire ({ createdAt, ...endpoint }: WebhookEndpoint) {
  return { ...endpoint, createdAt: createdAt.toISOString() }
}

function deliveryOnTheWire ({ dueAt, createdAt, deliveredAt, ...delivery }: Delivery) {
  return { ...delivery, dueAt: dueAt?.toISOString() ?? null, createdAt: createdAt.toISOString(), deliveredAt: deliveredAt?.toISOString() ?? null }
}
