import { Counter } from '@prometheus-io/client'
import fp from 'fastify-plugin'
import type { Publisher } from '../orders/publisher.ts'
import { WebhookSender } from '../orders/webhook-sender.ts'
import { WebhookStore, withWebhooks } from '../orders/webhooks.ts'
import { runInBackground } from './background-worker.ts'
import { remembered } from './remembered.ts'
import { postWebhook } from './webhook-post.ts'

/** How long "nobody has a webhook" counts, in ms: a service without webhooks asks once in a while, not for each batch. */
const noneForMs = 1_000

declare module 'fastify' {
  interface FastifyInstance {
    webhooks: {
      store: WebhookStore
      /** A publisher that also queues deliveries to the customers' own systems. */
      beside (publisher: Publisher): Publisher
      /** Call it when a delivery may be due. */
      wake (): void
    }
  }
}

/** Tells customers' own systems about their orders: queues the deliveries, and stops the sender in a stop. */
export default fp<{ allowsPrivate: boolean }>(async (app, { allowsPrivate }) => {
  const { registers } = app.metrics
  const tries = new Counter({ name: 'webhook_tries_total', help: 'Attempts to deliver a webhook, by the state of the delivery afterwards; the sender retries pending ones', labelNames: ['state'], registers })
  for (const state of ['delivered', 'pending', 'failed']) tries.inc({ state }, 0)
  const store = new WebhookStore(app.prisma)
  const sender = new WebhookSender({
    store,
    log: app.log,
    post: async (url, headers, body, signal) => await postWebhook(url, headers, body, signal, allowsPrivate),
    onTried: state => tries.inc({ state })
  })
  const hasEndpoints = remembered(noneForMs, async () => await store.hasEndpoints())
  app.decorate('webhooks', {
    store,
    beside: publisher => withWebhooks(publisher, { store, hasEndpoints, onQueued: () => sender.wake() }),
    wake: () => sender.wake()
  })

  runInBackground(app, 'webhook sender', sender)
}, { name: 'webhooks', fastify: '5.x', dependencies: ['database', 'fastify-drain', 'metrics'] })
