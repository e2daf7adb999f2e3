import fp from 'fastify-plugin'
import type { Config } from '../config.ts'
import { DeadEvents } from '../orders/dead-events.ts'
import type { Failure } from '../orders/failure.ts'
import { OrderFeed } from '../orders/feed.ts'
import { Intake } from '../orders/intake.ts'
import type { Publisher } from '../orders/publisher.ts'
import { OutboxRelay, type PublisherHealth } from '../orders/relay.ts'
import { settle, type Settled, type SettleOptions } from '../orders/settle.ts'
import { OrderStore } from '../orders/store.ts'

/** What a stop leaves for writing the last answers, in ms. */
const answerMarginMs = 500

export interface OrdersOptions {
  intake: Config['intake']
  requestTimeoutMs: number
  /** Where the events go; the log, if nothing else is given. */
  publisher?: Publisher | undefined
}

declare module 'fastify' {
  interface FastifyInstance {
    orders: {
      intake: Intake
      store: OrderStore
      feed: OrderFeed
      deadEvents: DeadEvents
      /** What the relay knows of the publisher: where it takes no events, they wait, and orders go on. */
      publisherHealth (): PublisherHealth
      /** There are events to publish that were not made by a write here. */
      wakeRelay (): void
      /** Runs a write until its outcome is known, within the time that a request has. */
      settle: <T>(write: () => Promise<T>, options: Pick<SettleOptions<T>, 'repeatable' | 'proves'>) => Promise<Settled<T>>
    }
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
  // In a stop a client gets its answer before the deadline ends its connection, if only "unknown".
  const timeoutMs = (): number => Math.max(0, Math.min(options.requestTimeoutMs, app.drain.remaining() - answerMarginMs))
  const onFailure = (error: unknown, failure: Failure): void => {
    app.metrics.writeFailed(failure)
    app.database.learn(error)
    app.log.warn({ err: error, failure }, 'A write failed.')
  }
  const intake = new Intake({
    ...options.intake,
    timeoutMs,
    onFailure,
    place: async batch => {
      const leaseMs = relay.ownLeaseMs
      const since = performance.now()
      const placements = await store.place(batch, leaseMs)
      // Without a lease the events are anybody's, who claims them.
      if (leaseMs > 0) app.drain.track('outbox relay', relay.publishPlaced(placements.filter(placement => placement.outcome === 'created'), since))
      return placements
    },
    track: (label, work) => app.drain.track(label, work),
    onCommit: (placements, durationMs) => app.metrics.batchCommitted(placements.length, durationMs)
  })
  app.decorate('orders', {
    intake,
    store,
    feed,
    deadEvents: new DeadEvents(app.prisma),
    publisherHealth: () => relay.health,
    wakeRelay: () => relay.wake(),
    settle: async (write, { repeatable, proves }) => {
      const settled = await settle(write, { repeatable, proves, onFailure, timeoutMs: timeoutMs() })
      relay.wake()
      return settled
    }
  })

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

/** What an order service can do with an event where there is no broker. Not at info: the request has its line there. */
function logPublisher (log: { debug (details: object, message: string): void }): Publisher {
  return {
    async publish (messages) {
      for (const { orderId, version, type } of messages) log.debug({ orderId, version, type }, 'order event')
    }
  }
}
