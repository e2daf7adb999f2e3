import fp from 'fastify-plugin'
import type { Config } from '../config.ts'
import type { Failure } from '../orders/failure.ts'
import { OrderFeed } from '../orders/feed.ts'
import { Intake } from '../orders/intake.ts'
import { defaultLeaseMs, OutboxRelay, type Publisher } from '../orders/relay.ts'
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
    place: batch => store.place(batch, defaultLeaseMs),
    track: (label, work) => app.drain.track(label, work),
    onCommit: (placements, durationMs) => {
      app.metrics.batchCommitted(placements.length, durationMs)
      const placed = placements.filter(placement => placement.outcome === 'created')
      app.drain.track('outbox relay', relay.publishPlaced(placed, performance.now() - durationMs))
    }
  })
  app.decorate('orders', {
    intake,
    store,
    feed,
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
    async publish ({ orderId, version, type }) {
      log.debug({ orderId, version, type }, 'order event')
    }
  }
}
