import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import type { Order, OrderEvent, Placement } from './order.ts'
import type { ClaimedEvent, FailedEvent, OrderStore } from './store.ts'

/**
 * Where the events go: a fork plugs its broker in here.
 *
 * Resolve once the broker has the event for good; reject to have it tried again. Delivery is at least once, so a consumer
 * ignores an event whose `version` of that `orderId` it has seen. `signal` aborts when the event's lease is about to end.
 */
export interface Publisher {
  publish (event: OrderEvent, signal: AbortSignal): Promise<void>
  close? (): Promise<void>
}

export interface RelayLogger {
  warn (details: object, message: string): void
  error (details: object, message: string): void
}

export const defaultLeaseMs = 30_000

/** How long events gather, to be published and marked together. */
const gatherMs = 50

export interface RelayOptions {
  store: Pick<OrderStore, 'claimEvents' | 'settleEvents' | 'settlePlaced' | 'endExpiredLeases'>
  publisher: Publisher
  log: RelayLogger
  /** Events taken and published at once, or those of one commit where these are more. */
  batchMax?: number
  /** How long taken events are nobody else's, in ms. Publishing gives up at half of it. Default 30,000. */
  leaseMs?: number
  /** How long to rest when there is nothing to do, in ms. A wake() ends the rest. */
  pollMs?: number
  /** Attempts before an event is given up as dead. */
  attemptsMax?: number
  /** ms until the next attempt, after this many. */
  backoffMs?: (attempts: number) => number
}

export type PlacedOrder = Extract<Placement, { outcome: 'created' }>

/** Orders whose first event is this process's to publish. */
interface OwnOrders {
  placed: PlacedOrder[]
  /** When the lease of their events began, by performance.now(). */
  since: number
  settled: () => void
}

/** Publishes what the outbox holds: at least once, and in order for each order. A crash at any point only delays it by a lease. */
export class OutboxRelay {
  readonly #options: Required<RelayOptions>
  readonly #own: OwnOrders[] = []
  #publishingOwn = false
  #stopping = new AbortController()
  #rest = new AbortController()

  constructor (options: RelayOptions) {
    this.#options = { batchMax: 500, leaseMs: defaultLeaseMs, pollMs: 1_000, attemptsMax: 12, backoffMs: exponentialBackoffMs, ...options }
  }

  /** Takes and publishes events until stop(). Resolves when what was taken has been settled; never rejects. */
  async run (): Promise<void> {
    const { store, log, pollMs, batchMax, leaseMs } = this.#options
    let failures = 0
    let leasesDue = 0
    while (!this.#stopping.signal.aborted) {
      try {
        if (performance.now() >= leasesDue) {
          leasesDue = performance.now() + pollMs
          await store.endExpiredLeases()
        }
        const since = performance.now()
        const events = await store.claimEvents(batchMax, leaseMs)
        if (events.length > 0) {
          const { published, failed } = await this.#publish(events, since)
          await store.settleEvents(published, failed)
        }
        failures = 0
        if (events.length < batchMax) await this.#sleep(pollMs)
      } catch (error) {
        log.warn({ err: error }, 'The outbox could not be read or written; events wait and nothing is lost. The relay tries again.')
        await this.#sleep(Math.min(pollMs * 2 ** failures++, 30_000))
      }
    }
  }

  /**
   * Publishes that these orders were placed. Their events were stored under a lease for this process: nobody else takes them, so
   * they need no claim, and the end of the lease settles them all. What cannot be settled is taken like any other once the lease
   * is over. Also after stop(), for what was still under way then.
   *
   * @param since when the lease began, or before, by performance.now()
   * @returns when they are settled; never rejects
   */
  async publishPlaced (placed: PlacedOrder[], since: number): Promise<void> {
    if (placed.length === 0) return
    const { promise, resolve: settled } = Promise.withResolvers<void>()
    this.#own.push({ placed, since, settled })
    if (!this.#publishingOwn) void this.#publishAllOwn()
    await promise
  }

  /** There is something to publish. */
  wake (): void {
    this.#rest.abort()
  }

  /** Takes no more events. */
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
      try {
        if (oldest !== undefined) {
          const orders = leased.flatMap(({ placed }) => placed)
          const { failed } = await this.#publish(orders.map(({ order }) => placedEvent(order)), oldest.since)
          await store.settlePlaced([...new Set(orders.map(({ tx }) => tx))], failed)
        }
      } catch (error) {
        log.warn({ err: error }, 'The outbox could not be written; some events will be published again, once their lease is over.')
      }
      for (const { settled } of taken) settled()
      // A statement for each would cost a lone order as much again as its own.
      if (!moreThanFits) await delay(gatherMs, undefined, { signal: this.#stopping.signal }).catch(() => {})
    }
    this.#publishingOwn = false
  }

  /** What came while the last ones were published goes together, as far as it fits into `batchMax`. */
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
    const { publisher, leaseMs } = this.#options
    // A publisher that does not heed the signal must not outlast the lease either.
    const lease = new AbortController()
    const expiry = setTimeout(() => lease.abort(), Math.max(0, since + leaseMs / 2 - performance.now()))
    const expired = once(lease.signal, 'abort')
    // Why each was not published; undefined where it was.
    const reasons = new Array<unknown>(events.length).fill(new Error('The publisher did not answer in time'))
    await Promise.race([expired, Promise.all(events.map(async (event, index) => {
      try {
        await publisher.publish(event, lease.signal)
        reasons[index] = undefined
      } catch (error) {
        reasons[index] = error ?? new Error('The publisher failed')
      }
    }))])
    clearTimeout(expiry)
    const published = events.filter((_, index) => reasons[index] === undefined)
    const failed = events.flatMap((event, index) => reasons[index] === undefined ? [] : [this.#failedEvent(event, reasons[index])])
    return { published, failed }
  }

  #failedEvent (event: ClaimedEvent, reason: unknown): FailedEvent {
    const { log, attemptsMax, backoffMs } = this.#options
    const error = reason instanceof Error ? reason.message : String(reason)
    const { orderId, version, attempts } = event
    if (attempts < attemptsMax) {
      const retryInMs = backoffMs(attempts)
      log.warn({ orderId, version, attempts, retryInMs, err: reason }, 'An event was not published; it will be tried again.')
      return { event, error, retryInMs }
    }
    log.error({ orderId, version, attempts, err: reason }, 'An event was given up as dead; it and the later events of its order wait for an operator.')
    return { event, error, retryInMs: null }
  }

  async #sleep (ms: number): Promise<void> {
    if (this.#stopping.signal.aborted) return
    await delay(ms, undefined, { signal: this.#rest.signal }).catch(() => {})
    this.#rest = new AbortController()
  }
}

function placedEvent ({ id, version, customer, currency, total, createdAt }: Order): ClaimedEvent {
  return { orderId: id, version, type: 'placed', customer, currency, total, at: createdAt, attempts: 1 }
}

/** 1 s, 2 s, 4 s, … 5 min: twelve attempts take about twenty minutes. */
function exponentialBackoffMs (attempts: number): number {
  return Math.min(1_000 * 2 ** (attempts - 1), 300_000)
}
