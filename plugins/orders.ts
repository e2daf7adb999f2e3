import { Counter, Gauge, Histogram } from '@prometheus-io/client'
import fp from 'fastify-plugin'
import type { Failure } from '../commit/failure.ts'
import { settle, type Settled, type SettleOptions } from '../commit/settle.ts'
import type { Config } from '../config.ts'
import { DeadEvents } from '../orders/dead-events.ts'
import { OrderFeed } from '../orders/feed.ts'
import { Intake, type IntakeOutcome } from '../orders/intake.ts'
import { transitions, type Order, type OrderStatus } from '../orders/order.ts'
import type { Publisher } from '../orders/publisher.ts'
import { OutboxRelay } from '../orders/relay.ts'
import { ReturnStore } from '../orders/return-store.ts'
import { OrderStore } from '../orders/store.ts'
import type { PublisherHealth } from '../outbox/relay.ts'
import { runInBackground } from './background-worker.ts'
import type { FastifyInstance } from 'fastify'

/** The time that a stop reserves for the last answers, in ms. */
export const answerMarginMs = 500

/** How long the catalogue's currencies are reused, in ms: they hardly change, and reading them scans the products. */
const pricedForMs = 3_600_000

export interface OrdersOptions {
  intake: Config['intake']
  requestTimeoutMs: number
  /** Takes the events. Default: the log. */
  publisher?: Publisher | undefined
}

declare module 'fastify' {
  interface FastifyInstance {
    orders: {
      intake: Intake
      store: OrderStore
      feed: OrderFeed
      deadEvents: DeadEvents
      returns: ReturnStore
      /** What the relay knows of the publisher. If it takes no events, they wait; orders go on. */
      publisherHealth (): PublisherHealth
      /** Call it for events to publish that come from elsewhere than a write in this process. */
      wakeRelay (): void
      /** Counts transitions of orders. */
      moved (to: OrderStatus, count?: number): void
      /** Repeats a write until its outcome is known, or until the request's time is over. */
      settle: <T>(write: () => Promise<T>, options: Pick<SettleOptions<T>, 'repeatable' | 'proves'>) => Promise<Settled<T>>
    }
  }
}

/** The domain on this app's database: the intake, the outbox relay, and the feed of events. */
export default fp<OrdersOptions>(async (app, options) => {
  const measured = instruments(app)
  const store = new OrderStore(app.prisma, app.database.functions)
  const publisher = app.webhooks.beside(options.publisher ?? logPublisher(app.log))
  const relay = new OutboxRelay({ store, publisher, log: app.log, onPublished: measured.published })
  const feed = new OrderFeed({
    store,
    onError: error => app.log.warn({ err: error }, 'The feed could not read new events. It retries from the same position.')
  })
  // In a stop every client gets an answer, at least "unknown", before the deadline ends its connection.
  const timeoutMs = (): number => Math.max(0, Math.min(options.requestTimeoutMs, app.drain.remaining() - answerMarginMs))
  const onFailure = (error: unknown, failure: Failure): void => {
    measured.writeFailed(failure)
    app.database.learn(error)
    app.log.warn({ err: error, failure }, 'A write failed.')
  }
  const intake = new Intake({
    ...options.intake,
    get queueMax () {
      return app.settings.now.intake.queueMax
    },
    get queuePerCustomer () {
      return app.settings.now.intake.queuePerCustomer
    },
    timeoutMs,
    onFailure,
    place: async batch => {
      const leaseMs = relay.ownLeaseMs
      const since = performance.now()
      const placements = await store.place(batch, leaseMs)
      for (const [index, placement] of placements.entries()) {
        // Also a replay with its own id: an earlier statement placed it, and its answer was lost.
        if ('order' in placement && placement.order.id === batch[index]?.id) measured.placed(placement.order)
      }
      // Without a lease any relay may claim the events.
      if (leaseMs > 0) app.drain.track('outbox relay', relay.publishPlaced(placements.filter(placement => placement.outcome === 'created'), since))
      return placements
    },
    track: (label, work) => app.drain.track(label, work),
    onSend: measured.sent,
    onCommit: (placements, durationMs) => measured.committed(placements.length, durationMs),
    onAnswer: (order, outcome) => {
      if (!('order' in outcome) || outcome.order.id !== order.id) measured.answered(outcome)
    }
  })
  app.decorate('orders', {
    intake,
    store,
    feed,
    deadEvents: new DeadEvents(app.prisma),
    returns: new ReturnStore(app.prisma, app.database.functions),
    publisherHealth: () => relay.health,
    wakeRelay: () => relay.wake(),
    moved: measured.moved,
    settle: async (write, { repeatable, proves }) => {
      const settled = await settle(write, { repeatable, proves, onFailure, timeoutMs: timeoutMs() })
      relay.wake()
      return settled
    }
  })

  app.metrics.gauge('intake_queued_orders', 'Orders that wait for a batch', () => intake.queued)
  app.metrics.gauge('intake_running_batches', 'Batches under way', () => intake.batches)
  app.metrics.gauge('order_stream_subscribers', 'Event streams that are open', () => feed.subscribers)
  app.metrics.gauge('publisher_breaker_open', '1 while the publisher takes no events: they wait, and the relay tries one at a time', () => relay.health.isOpen ? 1 : 0)

  runInBackground(app, 'outbox relay', relay, {
    async onEnd () {
      await feed.close()
      await publisher.close?.()
    }
  })
}, { name: 'orders', fastify: '5.x', dependencies: ['database', 'fastify-drain', 'metrics', 'products', 'settings', 'webhooks'] })

const intakeOutcomes = ['replayed', 'key-reused', 'unknown-product', 'out-of-stock', 'total-too-large', 'price-changed', 'rejected', 'not-started', 'outcome-unknown'] as const satisfies Array<IntakeOutcome['outcome']>
const failures = ['poisoned', 'blocked', 'unavailable', 'denied', 'unknown'] as const satisfies Failure[]

/** ISO 4217, as Node knows it. The currency comes from the customer, and a label must have few values. */
const currencies: ReadonlySet<string> = new Set(Intl.supportedValuesOf('currency'))

function currencyOf (currency: string): string {
  return currencies.has(currency) ? currency : 'other'
}

/** The metrics of orders and their events. Every series begins at 0: increase() misses the first count of a series that begins with it. */
function instruments (app: FastifyInstance) {
  const { registers } = app.metrics
  const total = new Counter({
    name: 'orders_total',
    help: 'Orders by the state they reached, and requests that placed no order, by reason. An order counts once it is stored',
    labelNames: ['outcome'],
    registers
  })
  for (const outcome of ['placed', ...Object.values(transitions).map(({ to }) => to), ...intakeOutcomes]) total.inc({ outcome }, 0)
  const value = new Counter({ name: 'orders_value_total', help: 'Value of the orders placed, in minor units of the currency', labelNames: ['currency'], registers })
  const wait = new Histogram({
    name: 'intake_wait_duration_seconds',
    help: 'Time that an order waited for its batch',
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 10],
    registers
  })
  const batchSize = new Histogram({ name: 'intake_batch_size', help: 'Requests for an order that one statement decided', buckets: [1, 2, 4, 8, 16, 32, 64, 128, 256, 512], registers })
  const commitDuration = new Histogram({
    name: 'intake_commit_duration_seconds',
    help: 'Time of the statement that commits a batch',
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 10],
    registers
  })
  const writeFailures = new Counter({ name: 'database_write_failures_total', help: 'Failed attempts to write, by what they left behind', labelNames: ['failure'], registers })
  for (const failure of failures) writeFailures.inc({ failure }, 0)
  const events = new Counter({ name: 'outbox_events_total', help: 'Events given to the publisher, by outcome; the relay retries failed ones', labelNames: ['outcome'], registers })
  for (const outcome of ['published', 'failed', 'dead']) events.inc({ outcome }, 0)
  const streamDuration = new Histogram({
    name: 'order_stream_duration_seconds',
    help: 'Time from the head of a request to the end of its event stream',
    buckets: [1, 10, 60, 300, 900, 1_800, 3_600, 14_400, 86_400],
    registers
  })
  app.requests.onEnd(({ isStream, durationMs }) => {
    if (isStream) streamDuration.observe(durationMs / 1_000)
  })

  const unpublished = new Gauge({ name: 'outbox_unpublished_events', help: 'Events that wait to be published, and dead events; each counted up to 100,000', labelNames: ['state'], registers })
  const oldest = new Gauge({ name: 'outbox_oldest_event_age_seconds', help: 'Age of the event that is published next; 0 if none waits', registers })
  let pricedAt = -Infinity
  app.metrics.ofDatabase({
    instruments: [unpublished, oldest],
    read: async () => {
      const { store } = app.orders
      const now = performance.now()
      const isPriced = now - pricedAt < pricedForMs
      const [backlog, age, priced] = await Promise.all([store.outboxBacklog(), store.oldestEventAgeS(), isPriced ? [] : app.products.currencies()])
      if (!isPriced) pricedAt = now
      return { backlog, age, priced }
    },
    show: ({ backlog, age, priced }) => {
      for (const [state, count] of Object.entries(backlog)) unpublished.set({ state }, count)
      oldest.set(age)
      for (const currency of priced) value.inc({ currency: currencyOf(currency) }, 0)
    }
  })

  return {
    placed ({ currency, total: worth }: Order): void {
      total.inc({ outcome: 'placed' })
      value.inc({ currency: currencyOf(currency) }, Number(worth))
    },
    moved (to: OrderStatus, count = 1): void {
      total.inc({ outcome: to }, count)
    },
    answered ({ outcome }: IntakeOutcome): void {
      total.inc({ outcome })
    },
    sent (waitedMs: number): void {
      wait.observe(waitedMs / 1_000)
    },
    committed (size: number, durationMs: number): void {
      batchSize.observe(size)
      commitDuration.observe(durationMs / 1_000)
    },
    writeFailed (failure: Failure): void {
      writeFailures.inc({ failure })
    },
    published (counts: { published: number, failed: number, dead: number }): void {
      for (const [outcome, count] of Object.entries(counts)) events.inc({ outcome }, count)
    }
  }
}

/** The publisher without a broker. It logs at debug: the request has its line at info. */
function logPublisher (log: { debug (details: object, message: string): void }): Publisher {
  return {
    async publish (messages) {
      for (const { orderId, version, type } of messages) log.debug({ orderId, version, type }, 'order event')
    }
  }
}
