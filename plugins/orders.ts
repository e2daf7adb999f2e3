import fp from 'fastify-plugin'
import type { Config } from '../config.ts'
import { OrderFeed } from '../orders/feed.ts'
import { Intake } from '../orders/intake.ts'
import { OutboxRelay, type Publisher } from '../orders/relay.ts'
import { OrderStore } from '../orders/store.ts'

export interface OrdersOptions {
  intake: Config['intake']
  requestTimeoutMs: number
  /** Where the events go; the log, if nothing else is given. */
  publisher?: Publisher | undefined
}

declare module 'fastify' {
  interface FastifyInstance {
    orders: { intake: Intake, store: OrderStore, feed: OrderFeed }
  }
}

/** The domain, on this app's database: the intake, the relay of the outbox, and the feed of events. */
export default fp<OrdersOptions>(async (app, options) => {
  const store = new OrderStore(app.prisma, () => app.database.uncertainCommits)
  const publisher = options.publisher ?? logPublisher(app.log)
  const relay = new OutboxRelay({ store, publisher, log: app.log })
  const feed = new OrderFeed({
    store,
    onError: error => app.log.warn({ err: error }, 'The feed of events could not be read; it goes on from where it was.')
  })
  const intake = new Intake({
    ...options.intake,
    timeoutMs: options.requestTimeoutMs,
    place: batch => store.place(batch),
    track: (label, work) => app.drain.track(label, work),
    onCommit: (size, durationMs) => {
      app.metrics.batchCommitted(size, durationMs)
      relay.wake()
    }
  })
  app.decorate('orders', { intake, store, feed })

  let relaying = Promise.resolve()
  app.addHook('onReady', async () => {
    relaying = app.drain.track('outbox relay', relay.run())
  })
  app.drain.on('closing', () => relay.stop(), { name: 'stop the outbox relay' })
  app.addHook('onClose', async () => {
    relay.stop()
    await relaying
    await feed.close()
    await publisher.close?.()
  })
}, { name: 'orders', fastify: '5.x', dependencies: ['database', 'fastify-drain', 'metrics'] })

/** What an order service can do with an event where there is no broker. */
function logPublisher (log: { info (details: object, message: string): void }): Publisher {
  return {
    async publish ({ orderId, version, type }) {
      log.info({ orderId, version, type }, 'order event')
    }
  }
}
