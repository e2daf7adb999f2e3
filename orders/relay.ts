import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { context, ROOT_CONTEXT } from '@opentelemetry/api'
import { traceSending } from '../tracing/publisher-spans.ts'
import { Breaker, type BreakerOptions, type Cause } from './breaker.ts'
import { messageOf, type Publisher } from './publisher.ts'
import type { Placement } from './order.ts'
import type { ClaimedEvent, FailedEvent, OrderStore } from './store.ts'

export interface RelayLogger {
  warn (details: object, message: string): void
  error (details: object, message: string): void
}

const defaultLeaseMs = 30_000

/** The longest time between two attempts, in ms. */
const backoffMax = 300_000

/** How long events gather, so that the relay publishes and marks them together. */
const gatherMs = 50

export interface RelayOptions {
  store: Pick<OrderStore, 'claimEvents' | 'settleEvents' | 'settlePlaced' | 'releasePlaced' | 'endExpiredLeases'>
  publisher: Publisher
  log: RelayLogger
  /** The most events claimed and published at once; more if one commit has more. */
  batchMax?: number
  /** How long no other relay can claim the same events, in ms. Publishing gives up at half of it. Default 30,000. */
  leaseMs?: number
  /** How long to rest when there is nothing to do, in ms. A wake() ends the rest. */
  pollMs?: number
  /** The attempts of an event before it is dead. Only those count that failed while other events passed. */
  attemptsMax?: number
  /** ms until the next attempt, after this many attempts. */
  backoffMs?: (attempts: number) => number
  probeMs?: BreakerOptions['probeMs']
  /** Called after each round with the number of events that were published, failed and will be retried, or are dead. */
  onPublished?: (counts: { published: number, failed: number, dead: number }) => void
}

/** The publisher's health, as far as the relay knows it. */
export interface PublisherHealth {
  ok: boolean
  /** Whether the breaker is open: the publisher takes no events, and the relay probes with one at a time. */
  isOpen: boolean
  /** Why it is not ok, as a clause. */
  reason?: string
}

export type PlacedOrder = Extract<Placement, { outcome: 'created' }>

/** Orders whose first event this process has to publish. */
interface OwnOrders {
  placed: PlacedOrder[]
  /** When the lease of their events began, by performance.now(). */
  since: number
  settled: () => void
}

/** Publishes the events in the outbox: at least once, and in order for each order. A crash at any point delays them by a lease at most. */
export class OutboxRelay {
  readonly #options: Required<Omit<RelayOptions, 'probeMs'>>
  readonly #breaker: Breaker
  readonly #own: OwnOrders[] = []
  #connected: boolean
  #publishingOwn = false
  #stopping = new AbortController()
  #rest = new AbortController()

  constructor ({ probeMs, ...options }: RelayOptions) {
    this.#options = {
      batchMax: 1_000,
      leaseMs: defaultLeaseMs,
      pollMs: 1_000,
      attemptsMax: 12,
      backoffMs: exponentialBackoffMs,
      onPublished: () => {},
      ...options
    }
    this.#breaker = new Breaker({ log: options.log, ...probeMs !== undefined && { probeMs } })
    this.#connected = options.publisher.connect === undefined
  }

  /** How long this process leases the events of orders that are placed now, in ms; 0 while its publisher takes none. */
  get ownLeaseMs (): number {
    return this.#connected && !this.#breaker.isOpen ? this.#options.leaseMs : 0
  }

  get health (): PublisherHealth {
    const reason = this.#breaker.reason ?? this.#options.publisher.health?.()
    return { ok: reason === undefined, isOpen: this.#breaker.isOpen, ...reason !== undefined && { reason } }
  }

  /** Claims and publishes events until stop(). Resolves when the claimed events are settled; never rejects. */
  async run (): Promise<void> {
    const { store, log, pollMs, leaseMs } = this.#options
    let failures = 0
    let leasesDue = 0
    while (!this.#stopping.signal.aborted) {
      try {
        if (performance.now() >= leasesDue) {
          leasesDue = performance.now() + pollMs
          await store.endExpiredLeases()
        }
        if (!await this.#mayPublish()) continue
        const since = performance.now()
        const events = await store.claimEvents(this.#breaker.isOpen ? 1 : this.#options.batchMax, leaseMs)
        if (events.length > 0) {
          const { published, failed } = await this.#publish(events, since)
          await store.settleEvents(published, failed)
        } else {
          await this.#sleep(pollMs)
        }
        failures = 0
      } catch (error) {
        log.warn({ err: error }, 'The outbox could not be read or written. Events wait, and nothing is lost. The relay tries again.')
        await this.#sleep(Math.min(pollMs * 2 ** failures++, 30_000))
      }
    }
  }

  /** Waits for the time of the next probe, in parts, and connects if the publisher is not connected yet. */
  async #mayPublish (): Promise<boolean> {
    const { publisher, pollMs, leaseMs } = this.#options
    const { waitMs } = this.#breaker
    if (waitMs > 0) {
      await delay(Math.min(waitMs, pollMs), undefined, { signal: this.#stopping.signal }).catch(() => {})
      return false
    }
    if (this.#connected) return true
    try {
      const timeout = AbortSignal.any([AbortSignal.timeout(leaseMs / 2), this.#stopping.signal])
      await Promise.race([publisher.connect?.(timeout), once(timeout, 'abort').then(() => { throw new Error('The publisher did not connect in time') })])
      this.#connected = true
    } catch (error) {
      this.#breaker.open(textOf(error))
    }
    return this.#connected
  }

  /**
   * Publishes the `placed` events of these orders. They were stored under a lease of this process, so they need no claim, and
   * deleting the lease settles all of them. If that fails, any relay claims them once the lease expires. Also works after stop(),
   * for orders that were still under way then.
   *
   * @param since when the lease began, or earlier, by performance.now()
   * @returns resolves when they are settled; never rejects
   */
  async publishPlaced (placed: PlacedOrder[], since: number): Promise<void> {
    if (placed.length === 0) return
    const { promise, resolve: settled } = Promise.withResolvers<void>()
    this.#own.push({ placed, since, settled })
    // The loop may go on for other batches, so it is a part of no order's trace.
    if (!this.#publishingOwn) void context.with(ROOT_CONTEXT, () => this.#publishAllOwn())
    await promise
  }

  /** Ends the rest: there is something to publish. */
  wake (): void {
    this.#rest.abort()
  }

  /** Claims no more events. */
  stop (): void {
    this.#stopping.abort()
    this.wake()
  }

  async #publishAllOwn (): Promise<void> {
    const { store, log, leaseMs } = this.#options
    this.#publishingOwn = true
    while (this.#own.length > 0) {
      const taken = this.#takeOwn()
      const moreThanFits = this.#own.length > 0
      const leased = taken.filter(({ since }) => performance.now() - since < leaseMs / 2)
      const [oldest] = leased
      const orders = leased.flatMap(({ placed }) => placed)
      const txs = [...new Set(orders.map(({ tx }) => tx))]
      try {
        if (oldest !== undefined && this.ownLeaseMs === 0) {
          await store.releasePlaced(txs)
        } else if (oldest !== undefined) {
          const { failed } = await this.#publish(orders.map(placedEvent), oldest.since)
          await store.settlePlaced(txs, failed)
        }
      } catch (error) {
        log.warn({ err: error }, 'The outbox could not be written. The relay will publish some events again, once their lease expires.')
      }
      for (const { settled } of taken) settled()
      // Without this pause, a lone order would cost two statements instead of one.
      if (!moreThanFits) await delay(gatherMs, undefined, { signal: this.#stopping.signal }).catch(() => {})
    }
    this.#publishingOwn = false
  }

  /** Takes the orders that came during the last call together, as far as they fit into `batchMax`. */
  #takeOwn (): OwnOrders[] {
    let taken = 0
    let events = 0
    for (const { placed } of this.#own) {
      events += placed.length
      if (taken > 0 && events > this.#options.batchMax) break
      taken++
    }
    return this.#own.splice(0, taken)
  }

  /** @param since when their lease began, by performance.now() */
  async #publish (events: ClaimedEvent[], since: number): Promise<{ published: ClaimedEvent[], failed: FailedEvent[] }> {
    const { leaseMs } = this.#options
    // The lease also limits a publisher that ignores the signal.
    const lease = new AbortController()
    const expiry = setTimeout(() => lease.abort(), Math.max(0, since + leaseMs / 2 - performance.now()))
    const expired = once(lease.signal, 'abort')
    // Why each event was not published. A published event is not in it.
    const late = new Error('The publisher did not answer in time')
    const reasons = new Map<ClaimedEvent, unknown>(events.map(event => [event, late]))
    // A bad event may make its whole call fail, so each event that failed before goes in a call of its own.
    const fresh = events.filter(({ hasFailed }) => !hasFailed)
    const calls = [...fresh.length > 0 ? [fresh] : [], ...events.filter(({ hasFailed }) => hasFailed).map(event => [event])]
    await Promise.race([expired, Promise.all(calls.map(async call => await this.#call(call, lease.signal, reasons)))])
    clearTimeout(expiry)
    const published = events.filter(event => !reasons.has(event))
    const failed = this.#failuresOf(published, events.filter(event => reasons.has(event)), reasons)
    const dead = failed.filter(({ retryInMs }) => retryInMs === null).length
    this.#options.onPublished({ published: published.length, failed: failed.length - dead, dead })
    return { published, failed }
  }

  async #call (events: ClaimedEvent[], signal: AbortSignal, reasons: Map<ClaimedEvent, unknown>): Promise<void> {
    try {
      const messages = events.map(messageOf)
      const refusals = await traceSending(events.map(({ traceparent }) => traceparent), async () =>
        await this.#options.publisher.publish(messages, signal)) ?? []
      // A call has at most one event of an order.
      const refused = new Map(refusals.map(({ message, reason }) => [message.orderId, reason ?? new Error('The publisher gave no reason')]))
      for (const event of events) {
        if (refused.has(event.orderId)) reasons.set(event, refused.get(event.orderId))
        else reasons.delete(event)
        refused.delete(event.orderId)
      }
      if (refused.size > 0) throw new Error('The publisher refused a message that it was not given')
    } catch (error) {
      for (const event of events) reasons.set(event, error)
    }
  }

  #failuresOf (published: ClaimedEvent[], events: ClaimedEvent[], reasons: Map<ClaimedEvent, unknown>): FailedEvent[] {
    const { log } = this.#options
    const [first] = events
    const reason = first === undefined ? '' : textOf(reasons.get(first))
    const cause = this.#breaker.judge(published, events, reason)
    const failed = events.map(event => this.#failureOf(event, cause, textOf(reasons.get(event))))
    if (cause === 'events' && first !== undefined) {
      const { orderId, version, attempts } = first
      log.warn({ events: events.length, first: { orderId, version, attempts }, reason }, 'Some events were not published, while others were. The relay retries them.')
    }
    for (const { event: { orderId, version, attempts }, error, retryInMs } of failed) {
      if (retryInMs === null) log.error({ orderId, version, attempts, reason: error }, 'An event was given up as dead. It and the later events of its order wait for an operator: npm run events -- list')
    }
    return failed
  }

  #failureOf (event: ClaimedEvent, cause: Cause, error: string): FailedEvent {
    const { attemptsMax, backoffMs } = this.#options
    if (cause === 'events') return { event, error, retryInMs: event.attempts < attemptsMax ? backoffMs(event.attempts) : null, isCounted: true }
    if (cause === 'outage') return { event, error, retryInMs: 0, isCounted: false }
    // The pause doubles the time that the event has waited, so that many events that fail for long are retried rarely.
    const waitedMs = event.hasFailed ? Date.now() - event.at.getTime() : 0
    return { event, error, retryInMs: Math.min(Math.max(waitedMs, backoffMs(1)), backoffMax), isCounted: false }
  }

  async #sleep (ms: number): Promise<void> {
    if (this.#stopping.signal.aborted) return
    await delay(ms, undefined, { signal: this.#rest.signal }).catch(() => {})
    this.#rest = new AbortController()
  }
}

function placedEvent ({ order: { id, version, customer, currency, total, createdAt }, traceparent }: PlacedOrder): ClaimedEvent {
  return { orderId: id, version, type: 'placed', customer, currency, total, at: createdAt, attempts: 1, hasFailed: false, traceparent }
}

/** 1 s, 2 s, 4 s, … 5 min: twelve attempts take about twenty minutes. */
function exponentialBackoffMs (attempts: number): number {
  return Math.min(1_000 * 2 ** (attempts - 1), backoffMax)
}

/** Short enough for a column and a line of the log, whatever a broker's client puts into a message. */
function textOf (reason: unknown): string {
  return (reason instanceof Error ? reason.message : String(reason)).slice(0, 1_000)
}
