import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { context, ROOT_CONTEXT } from '@opentelemetry/api'
import { traceSending } from '../tracing/publisher-spans.ts'
import { Breaker, type BreakerOptions, type Cause } from './breaker.ts'
import type { Publisher } from './publisher.ts'

export interface RelayLogger {
  warn (details: object, message: string): void
  error (details: object, message: string): void
}

const defaultLeaseMs = 30_000

/** The longest time between two attempts, in ms. */
const backoffMax = 300_000

/** How long events gather, so that the relay publishes and marks them together. */
const gatherMs = 50

/** An event that the relay has to publish. */
export interface Claimed {
  /** Includes this one. */
  attempts: number
  /** Whether an earlier attempt failed, counted or not. */
  hasFailed: boolean
  at: Date
  /** The trace context of the cause, if it was sampled. */
  traceparent?: string | null | undefined
}

export interface Failed<E> {
  event: E
  error: string
  /** ms until the next attempt; null: the event is dead. */
  retryInMs: number | null
  /** Whether this failure counts as an attempt. */
  isCounted: boolean
}

/** Where the events wait. The events of one subject leave it in order. */
export interface Outbox<E> {
  /** Leases events: no other relay gets them for `leaseMs`. Of a subject only the first one that is not published. */
  claimEvents (limit: number, leaseMs: number): Promise<E[]>
  /** Stores the results of claimed events. */
  settleEvents (published: E[], failed: Array<Failed<E>>): Promise<void>
  /** Ends the leases of these transactions: their events were published, except the failed ones. */
  settleOwn (txs: bigint[], failed: Array<Failed<E>>): Promise<void>
  /** Ends the leases of transactions whose events were not tried: any relay may claim them at once. */
  releaseOwn (txs: bigint[]): Promise<void>
  /** Any relay may claim the events that a process did not publish in time. */
  endExpiredLeases (): Promise<void>
}

/** What the relay has to know of the events that it carries. */
export interface CarriedEvents<E, M> {
  messageOf: (event: E) => M
  /** Of what an event or a message tells; a call of the publisher has one of each subject. */
  subjectOf: (of: E | M) => string
  /** Tells the event from every other one, in a line of the log. */
  nameOf: (event: E) => object
}

export interface RelayOptions<E extends Claimed, M> {
  store: Outbox<E>
  publisher: Publisher<M>
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
  probeMs?: BreakerOptions<E>['probeMs']
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

/** An event that this process has just written, under a lease of its own. */
export type Own<E> = E & { readonly tx: bigint }

interface OwnEvents<E> {
  events: Array<Own<E>>
  /** When the lease of their events began, by performance.now(). */
  since: number
  settled: () => void
}

/** Publishes the events in the outbox: at least once, and in order for each subject. A crash at any point delays them by a lease at most. */
export class Relay<E extends Claimed, M> {
  readonly #carried: CarriedEvents<E, M>
  readonly #options: Required<Omit<RelayOptions<E, M>, 'probeMs'>>
  readonly #breaker: Breaker<E>
  readonly #own: Array<OwnEvents<E>> = []
  #connected: boolean
  #publishingOwn = false
  #stopping = new AbortController()
  #rest = new AbortController()

  constructor (carried: CarriedEvents<E, M>, { probeMs, ...options }: RelayOptions<E, M>) {
    this.#carried = carried
    this.#options = {
      batchMax: 1_000,
      leaseMs: defaultLeaseMs,
      pollMs: 1_000,
      attemptsMax: 12,
      backoffMs: exponentialBackoffMs,
      onPublished: () => {},
      ...options
    }
    this.#breaker = new Breaker({ keyOf: event => Object.values(carried.nameOf(event)).join(' '), log: options.log, ...probeMs !== undefined && { probeMs } })
    this.#connected = options.publisher.connect === undefined
  }

  /** How long this process leases the events that it writes now, in ms; 0 while its publisher takes none. */
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
   * Publishes events that were stored under a lease of this process: they need no claim, and deleting the lease settles all of
   * them. If that fails, any relay claims them once the lease expires. Also works after stop(), for writes that were still under
   * way then.
   *
   * @param since when the lease began, or earlier, by performance.now()
   * @returns resolves when they are settled; never rejects
   */
  async publishOwn (events: Array<Own<E>>, since: number): Promise<void> {
    if (events.length === 0) return
    const { promise, resolve: settled } = Promise.withResolvers<void>()
    this.#own.push({ events, since, settled })
    // The loop may go on for other batches, so it is a part of no request's trace.
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
      const events = leased.flatMap(({ events }) => events)
      const txs = [...new Set(events.map(({ tx }) => tx))]
      try {
        if (oldest !== undefined && this.ownLeaseMs === 0) {
          await store.releaseOwn(txs)
        } else if (oldest !== undefined) {
          const { failed } = await this.#publish(events, oldest.since)
          await store.settleOwn(txs, failed)
        }
      } catch (error) {
        log.warn({ err: error }, 'The outbox could not be written. The relay will publish some events again, once their lease expires.')
      }
      for (const { settled } of taken) settled()
      // Without this pause, a lone event would cost two statements instead of one.
      if (!moreThanFits) await delay(gatherMs, undefined, { signal: this.#stopping.signal }).catch(() => {})
    }
    this.#publishingOwn = false
  }

  /** Takes the events that came during the last call together, as far as they fit into `batchMax`. */
  #takeOwn (): Array<OwnEvents<E>> {
    let taken = 0
    let count = 0
    for (const { events } of this.#own) {
      count += events.length
      if (taken > 0 && count > this.#options.batchMax) break
      taken++
    }
    return this.#own.splice(0, taken)
  }

  /** @param since when their lease began, by performance.now() */
  async #publish (events: E[], since: number): Promise<{ published: E[], failed: Array<Failed<E>> }> {
    const { leaseMs } = this.#options
    // The lease also limits a publisher that ignores the signal.
    const lease = new AbortController()
    const expiry = setTimeout(() => lease.abort(), Math.max(0, since + leaseMs / 2 - performance.now()))
    const expired = once(lease.signal, 'abort')
    // Why each event was not published. A published event is not in it.
    const late = new Error('The publisher did not answer in time')
    const reasons = new Map<E, unknown>(events.map(event => [event, late]))
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

  async #call (events: E[], signal: AbortSignal, reasons: Map<E, unknown>): Promise<void> {
    try {
      const { messageOf, subjectOf } = this.#carried
      const messages = events.map(messageOf)
      const refusals = await traceSending(events.map(({ traceparent }) => traceparent), async () =>
        await this.#options.publisher.publish(messages, signal)) ?? []
      // A call has at most one event of a subject.
      const refused = new Map(refusals.map(({ message, reason }) => [subjectOf(message), reason ?? new Error('The publisher gave no reason')]))
      for (const event of events) {
        const subject = subjectOf(event)
        if (refused.has(subject)) reasons.set(event, refused.get(subject))
        else reasons.delete(event)
        refused.delete(subject)
      }
      if (refused.size > 0) throw new Error('The publisher refused a message that it was not given')
    } catch (error) {
      for (const event of events) reasons.set(event, error)
    }
  }

  #failuresOf (published: E[], events: E[], reasons: Map<E, unknown>): Array<Failed<E>> {
    const { log } = this.#options
    const { nameOf } = this.#carried
    const [first] = events
    const reason = first === undefined ? '' : textOf(reasons.get(first))
    const cause = this.#breaker.judge(published, events, reason)
    const failed = events.map(event => this.#failureOf(event, cause, textOf(reasons.get(event))))
    if (cause === 'events' && first !== undefined) {
      log.warn({ events: events.length, first: { ...nameOf(first), attempts: first.attempts }, reason }, 'Some events were not published, while others were. The relay retries them.')
    }
    for (const { event, error, retryInMs } of failed) {
      if (retryInMs === null) log.error({ ...nameOf(event), attempts: event.attempts, reason: error }, 'An event was given up as dead. It and the later events of its subject wait for an operator: npm run events -- list')
    }
    return failed
  }

  #failureOf (event: E, cause: Cause, error: string): Failed<E> {
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

/** 1 s, 2 s, 4 s, … 5 min: twelve attempts take about twenty minutes. */
function exponentialBackoffMs (attempts: number): number {
  return Math.min(1_000 * 2 ** (attempts - 1), backoffMax)
}

/** Short enough for a column and a line of the log, whatever a broker's client puts into a message. */
function textOf (reason: unknown): string {
  return (reason instanceof Error ? reason.message : String(reason)).slice(0, 1_000)
}
