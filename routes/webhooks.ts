import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { orderEventTypes } from '../orders/order.ts'
import { uuidv7 } from '../orders/uuidv7.ts'
import { deliveryStates, endpointsMax, newSecret, type Delivery, type WebhookEndpoint } from '../orders/webhooks.ts'
import { Problem } from '../plugins/errors.ts'
import { faultOfUrl } from '../plugins/webhook-post.ts'
import { cursorOfId, idOfCursor } from './cursors.ts'
import { answer, Id, nullableText, problemResponses, Time } from './schemas.ts'

const EndpointSchema = Type.Object({ id: Id, url: Type.String(), createdAt: Time })

const DeliverySchema = Type.Object({
  id: Type.String({ format: 'uuid', description: 'The webhook-id of each of its tries' }),
  orderId: Id,
  version: Type.Integer(),
  type: Type.Enum(orderEventTypes.map(type => `order.${type}`), { type: 'string' }),
  state: Type.Enum([...deliveryStates], { type: 'string', description: 'failed: given up after the last try' }),
  tries: Type.Integer(),
  dueAt: nullableText({ description: 'When it is tried next; null: not any more' }),
  lastStatus: Type.Unsafe<number | null>({ type: ['integer', 'null'], description: 'What the endpoint answered last' }),
  lastError: nullableText({ description: 'Why it gave no answer' }),
  createdAt: Time,
  deliveredAt: nullableText()
})

/** A customer's own systems, and what they are told of the customer's orders. */
const webhooks: FastifyPluginAsyncTypebox<{ production: boolean, allowsPrivate: boolean }> = async (app, { production, allowsPrivate }) => {
  const { store, wake } = app.webhooks

  app.post('/webhooks', {
    onRequest: app.allow('orders'),
    schema: {
      operationId: 'addWebhook',
      tags: ['webhooks'],
      summary: 'Have the events of one\'s own orders sent to a URL',
      description: 'From a second after this answer on. Signed by the Standard Webhooks specification with the secret, which is shown here and never again. Where this answer was lost, look for the webhook in the list, delete it and add it again.',
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
    if (endpoint === undefined) throw new Problem('too-many-webhooks', `You have ${endpointsMax} webhooks, which is as many as there may be. Nothing was stored; delete one that you do not need.`)
    return reply.code(201).send({ ...endpointOnTheWire(endpoint), secret })
  })

  app.get('/webhooks', {
    onRequest: app.allow('orders'),
    schema: {
      operationId: 'listWebhooks',
      tags: ['webhooks'],
      summary: "One's own webhooks, the first one first",
      response: { 200: answer(Type.Object({ webhooks: Type.Array(EndpointSchema) }), 'All of them'), ...problemResponses() }
    }
  }, async request => ({ webhooks: (await store.ofCustomer(request.customer)).map(endpointOnTheWire) }))

  app.delete('/webhooks/:id', {
    onRequest: app.allow('orders'),
    schema: {
      operationId: 'deleteWebhook',
      tags: ['webhooks'],
      summary: 'Have nothing sent there any more',
      description: 'What was not delivered yet is forgotten; what is on its way may still arrive.',
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
      summary: 'What was sent there, and is to be, newest first',
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
    // One more than asked for tells whether there is a next page.
    const found = await store.deliveries(request.params.id, request.customer, { before: cursor === undefined ? undefined : idOfCursor(cursor), limit: limit + 1 })
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
      summary: 'Send it again',
      description: 'With the same webhook-id, and as many tries as at first, whatever became of it. One that was not sent yet is left as it is.',
      params: Type.Object({ id: Id, delivery: Id }),
      response: { 202: answer(DeliverySchema, 'It is sent'), ...problemResponses('not-found') }
    }
  }, async (request, reply) => {
    const delivery = await store.replay(request.params.delivery, request.params.id, request.customer)
    if (delivery === undefined) throw noSuchWebhook()
    wake()
    return reply.code(202).send(deliveryOnTheWire(delivery))
  })
}

export default webhooks

/** The same for what is not there, and for what is another's. */
function noSuchWebhook (): Problem {
  return new Problem('not-found', 'There is no such webhook of yours, or no such delivery of it.')
}

function endpointOnTheWire ({ createdAt, ...endpoint }: WebhookEndpoint) {
  return { ...endpoint, createdAt: createdAt.toISOString() }
}

function deliveryOnTheWire ({ dueAt, createdAt, deliveredAt, ...delivery }: Delivery) {
  return { ...delivery, dueAt: dueAt?.toISOString() ?? null, createdAt: createdAt.toISOString(), deliveredAt: deliveredAt?.toISOString() ?? null }
}
