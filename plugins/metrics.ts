import { setTimeout as delay } from 'node:timers/promises'
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from '@prometheus-io/client'
import fp from 'fastify-plugin'

const drainStates = ['starting', 'serving', 'draining', 'closing', 'closed'] as const

declare module 'fastify' {
  interface FastifyInstance {
    metrics: {
      /** Everything measured, in Prometheus's text format. */
      render (): Promise<string>
      readonly contentType: string
      batchCommitted (size: number, durationMs: number): void
      writeFailed (failure: string): void
    }
  }
}

/** What is measured, in a registry of this app's own. Gauges are read when they are asked for. */
export default fp(async app => {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry })

  const duration = new Histogram({
    name: 'http_server_request_duration_seconds',
    help: 'Time from the head of a request to the end of its answer',
    labelNames: ['http_request_method', 'http_route', 'http_response_status_code', 'error_type', 'url_scheme'],
    buckets: [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10],
    registers
  })
  const streamDuration = new Histogram({
    name: 'order_stream_duration_seconds',
    help: 'Time from the head of a request to the end of its event stream',
    buckets: [1, 10, 60, 300, 900, 1_800, 3_600, 14_400, 86_400],
    registers
  })
  app.requests.onEnd(({ method, route, status, errorType, scheme, durationMs, isStream }) => {
    const seconds = durationMs / 1_000
    if (isStream) streamDuration.observe(seconds)
    else duration.observe({ http_request_method: method, http_route: route ?? '', http_response_status_code: status, error_type: errorType ?? '', url_scheme: scheme }, seconds)
  })
  gauge('http_server_active_requests', 'Requests begun and not ended', () => app.requests.active)

  const batchSize = new Histogram({
    name: 'intake_batch_size',
    help: 'Orders committed by one statement',
    buckets: [1, 2, 4, 8, 16, 32, 64, 128, 256, 512],
    registers
  })
  const commitDuration = new Histogram({
    name: 'intake_commit_duration_seconds',
    help: 'Time of the statement that commits a batch',
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 10],
    registers
  })
  const committed = new Counter({ name: 'intake_orders_committed_total', help: 'Requests for an order that the database has decided', registers })
  const writeFailures = new Counter({ name: 'database_write_failures_total', help: 'Attempts to write that failed, by what they left behind', labelNames: ['failure'], registers })
  for (const failure of ['poisoned', 'blocked', 'unavailable', 'denied', 'unknown']) writeFailures.inc({ failure }, 0)
  gauge('intake_queued_orders', 'Orders that wait for a batch', () => app.orders.intake.queued)
  gauge('intake_running_batches', 'Batches under way', () => app.orders.intake.batches)
  gauge('order_stream_subscribers', 'Event streams that are open', () => app.orders.feed.subscribers)
  gauge('database_pool_open_connections', 'Connections to Postgres', () => app.database.pool.open)
  gauge('database_pool_idle_connections', 'Connections to Postgres that nothing uses', () => app.database.pool.idle)
  gauge('database_pool_waiting_queries', 'Queries that wait for a connection', () => app.database.pool.waiting)
  gauge('database_uncertain_commits', 'Commits that Postgres would not vouch for', () => app.database.uncertainCommits)
  gaugeOfDatabase('outbox_unpublished_events', 'Events that wait to be published, and those given up as dead', 'state', () => app.orders.store.outboxBacklog())
  gaugeOfDatabase('outbox_oldest_event_age_seconds', 'Time since the event happened that is published next; 0 where none waits', undefined, async () => ({ age: await app.orders.store.oldestEventAgeS() }))
  gauge('publisher_breaker_open', '1 while the publisher takes no events: they wait, and one at a time is tried', () => app.orders.publisherHealth().isOpen ? 1 : 0)
  gaugeOfDatabase('stops_recent', 'Stops of the last hour, of all instances, by how they ended', 'outcome', () => app.stops.recent())
  const drainState = new Gauge({
    name: 'drain_state',
    help: '1 for the state that the service is in',
    labelNames: ['state'],
    registers,
    collect () {
      for (const state of drainStates) drainState.set({ state }, app.drain.state === state ? 1 : 0)
    }
  })

  app.decorate('metrics', {
    render: () => registry.metrics(),
    contentType: registry.contentType,
    batchCommitted (size: number, durationMs: number) {
      batchSize.observe(size)
      commitDuration.observe(durationMs / 1_000)
      committed.inc(size)
    },
    writeFailed (failure: string) {
      writeFailures.inc({ failure })
    }
  })

  /** Not read once the database closes (Prisma would open it again), and never for long, as a scrape must not hang with it. */
  function gaugeOfDatabase (name: string, help: string, label: string | undefined, read: () => Promise<Record<string, number>>): void {
    const instrument: Gauge<string> = new Gauge({
      name,
      help,
      labelNames: label === undefined ? [] : [label],
      registers,
      async collect () {
        if (app.drain.state === 'closing' || app.drain.state === 'closed') return
        const counts = await Promise.race([read().catch(() => undefined), delay(1_000, undefined, { ref: false })])
        for (const [value, count] of Object.entries(counts ?? {})) instrument.set(label === undefined ? {} : { [label]: value }, count)
      }
    })
  }

  function gauge (name: string, help: string, read: () => number): void {
    const instrument: Gauge = new Gauge({
      name,
      help,
      registers,
      collect () {
        instrument.set(read())
      }
    })
  }
}, { name: 'metrics', fastify: '5.x', dependencies: ['request-telemetry'] })
