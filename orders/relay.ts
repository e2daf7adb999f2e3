import { setTimeout as delay } from 'node:timers/promises'
import type { OrderEvent } from './order.ts'
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

export interface RelayOptions {
  store: Pick<OrderStore, 'claimEvents' | 'settleEvents'>
  publisher: Publisher
  log: RelayLogger
  /** Events taken at once. */
  batchMax?: number
  /** How long taken events are nobody else's, in ms. Publishing gives up at half of it. */
  leaseMs?: number
  /** How long to rest when there is nothing to do, in ms. A wake() ends the rest. */
  pollMs?: number
  /** Attempts before an event is given up as dead. */
  attemptsMax?: number
  /** ms until the next attempt, after this many. */
  backoffMs?: (attempts: number) => number
}

/** Publishes what the outbox holds: at least once, and in order for each order. A crash at any point only delays it by a lease. */
export class OutboxRelay {
  readonly #options: Required<RelayOptions>
  #stopping = new AbortController()
  #rest = new AbortController()

  constructor (options: RelayOptions) {
    this.#options = { batchMax: 500, leaseMs: 30_000, pollMs: 1_000, attemptsMax: 12, backoffMs: exponentialBackoffMs, ...options }
  }

  /** Resolves after stop(), when what was taken has been settled; never rejects. */
  async run (): Promise<void> {
    const { log, pollMs, batchMax } = this.#options
    let failures = 0
    while (!this.#stopping.signal.aborted) {
      try {
        const taken = await this.#relayOnce()
        failures = 0
        if (taken < batchMax) await this.#sleep(pollMs)
      } catch (error) {
        log.warn({ err: error }, 'The outbox could not be read or written; events wait and nothing is lost. The relay tries again.')
        await this.#sleep(Math.min(pollMs * 2 ** failures++, 30_000))
      }
    }
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

  async #relayOnce (): Promise<number> {
    const { store, publisher, leaseMs, batchMax } = this.#options
    const events = await store.claimEvents(batchMax, leaseMs)
    if (events.length === 0) return 0

    const signal = AbortSignal.timeout(leaseMs / 2)
    const results = await Promise.allSettled(events.map(event => within(signal, () => publisher.publish(event, signal))))
    const published: ClaimedEvent[] = []
    const failed: FailedEvent[] = []
    for (const [index, event] of events.entries()) {
      const result = results[index]
      if (result?.status === 'fulfilled') published.push(event)
      else failed.push(this.#failedEvent(event, result?.reason))
    }
    await store.settleEvents(published, failed)
    return events.length
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

/** A publisher that does not heed its signal must not outlast its lease. */
async function within (signal: AbortSignal, work: () => Promise<void>): Promise<void> {
  let onAbort = (): void => {}
  const expired = new Promise<never>((_resolve, reject) => {
    onAbort = () => reject(new Error('The publisher did not answer in time'))
    signal.addEventListener('abort', onAbort, { once: true })
  })
  await Promise.race([work(), expired]).finally(() => signal.removeEventListener('abort', onAbort))
}

/** 1 s, 2 s, 4 s, … 5 min: twelve attempts take about twenty minutes. */
function exponentialBackoffMs (attempts: number): number {
  return Math.min(1_000 * 2 ** (attempts - 1), 300_000)
}
