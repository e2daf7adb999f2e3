import { setTimeout as delay } from 'node:timers/promises'
import { context, type Span } from '@opentelemetry/api'
import { contextOf, joinBatch, startBatch, startOrder } from '../tracing/intake-spans.ts'
import { recordedSpan, traceparentOf } from '../tracing/trace-context.ts'
import { Attempt } from './attempt.ts'
import { FairQueue } from './fair-queue.ts'
import { failureOf, type Failure } from './failure.ts'
import { fingerprintOf, type OrderRequest, type Placement } from './order.ts'
import { denialsMax, retryDelayMs } from './settle.ts'
import { uuidv7 } from './uuidv7.ts'

/** An order on its way to the database. */
export interface PendingOrder extends OrderRequest {
  /** UUIDv7; becomes the order's id if this request is the one that makes it. */
  id: string
  createdAt: Date
  /** SHA-256 of the request, in hex. */
  fingerprint: string
  /** The trace context of the request, if it is sampled. */
  traceparent?: string | undefined
}

/**
 * `rejected`: the database refused the data. `not-started`: nothing was stored, and the same request may be sent again.
 * `outcome-unknown`: it may have been stored; a retry with the same key settles it.
 */
export type IntakeOutcome =
  | Placement
  | { outcome: 'rejected' | 'outcome-unknown' }
  | { outcome: 'not-started', reason: 'queue-full' | 'own-queue-full' | 'queue-slow' | 'too-late' | 'denied' | 'client-gone' }

/** The client that waits for the answer, for example Node's response. */
export interface Client {
  /** Whether it has gone. */
  readonly destroyed: boolean
  /** `close`: the client has gone, or has its answer. */
  on (event: 'close', listener: () => void): unknown
}

export interface IntakeOptions {
  /** Places a batch in one commit. Returns an outcome for each order, in order. Running it again with the same keys must be harmless. */
  place: (batch: PendingOrder[]) => Promise<Placement[]>
  /** The most orders in a batch. */
  batchMax: number
  /** The most batches under way at once. */
  inFlight: number
  /** The most orders that wait for a batch; the intake refuses more. */
  queueMax: number
  /** The same for one customer. Default: queueMax. */
  queuePerCustomer?: number
  /** How long a request that comes now may wait for its answer, in ms. */
  timeoutMs: () => number
  /** Called for each order that leaves in a batch, with the time that it waited, in ms. */
  onSend?: (waitedMs: number) => void
  /** Called for each answer. */
  onAnswer?: (order: PendingOrder, outcome: IntakeOutcome) => void
  /** Called with each batch's promise, so that a stop can wait for it. */
  track?: (label: string, work: Promise<void>) => Promise<void>
  /** Called for each batch that committed, with the outcomes and the duration of its statement, in ms. */
  onCommit?: (placements: Placement[], durationMs: number) => void
  /** Called for each statement that failed. */
  onFailure?: (error: unknown, failure: Failure) => void
}

/** The share of its time that an order may wait for its batch. The rest is for the statement, and for a second one if the outcome is unknown. */
const waitShare = 0.5

/** The weight of the last batch in the average duration of a batch. */
const lastBatchWeight = 0.125

/** One key that is queued or in a batch, with the requests that wait for it. */
interface Entry {
  key: string
  order: PendingOrder
  waiters: Set<Waiter>
  /** Requests with the same key and another body. Each goes when the one before it is settled, and the database decides. */
  followers: Set<Waiter> | undefined
  /** The statement that carries it now. */
  attempt: Attempt | undefined
  /** Whether a statement that carried it ended without a known outcome. */
  uncertain: boolean
  /** When it was queued, by performance.now(). */
  since: number
  /** The span of its batch, if one of the batch's orders is sampled. */
  span: Span | undefined
}

interface Waiter {
  order: PendingOrder
  /** Where it waits; undefined once it has its answer. */
  entry: Entry | undefined
  span: Span | undefined
  answer: (outcome: IntakeOutcome) => void
  timer: NodeJS.Timeout
}

/**
 * Group commit: concurrent orders share one statement, and so one commit.
 *
 * A batch leaves as soon as one of `inFlight` slots is free, with all orders that wait. There is no timer, so a lone order never
 * waits, and batches grow as the database gets busier. The intake answers only after the commit.
 *
 * Customers take turns. The intake refuses an order at once if it cannot be served in time, and drops a queued order when its
 * client goes. An order in a batch goes on.
 */
export class Intake {
  readonly #options: IntakeOptions
  readonly #entries = new Map<string, Entry>()
  readonly #queue = new FairQueue<Entry>()
  #batches = 0
  /** Orders in the batches under way, by customer. */
  readonly #underWay = new Map<string, number>()
  /** How long a batch keeps its slot, in ms: a moving average. */
  #batchMs = 0
  #scheduled = false

  constructor (options: IntakeOptions) {
    this.#options = options
  }

  /** Orders that wait for a batch. */
  get queued (): number {
    return this.#queue.size
  }

  /** Batches under way. */
  get batches (): number {
    return this.#batches
  }

  /** How long an order of this customer that comes now would wait for its batch, in ms: an estimate. */
  waitMs (customer: string): number {
    const { batchMax, inFlight } = this.#options
    if (this.#batches < inFlight) return 0
    const batchesAhead = Math.max(Math.floor(this.#queue.aheadOf(customer) / batchMax), Math.floor(this.#queue.sizeOf(customer) / this.#share))
    return (batchesAhead + 1) * this.#batchMs / inFlight
  }

  /**
   * Resolves once the outcome is known or the time is over; never rejects.
   *
   * @param client if it goes, the intake drops its order, unless that is in a batch
   */
  place (request: OrderRequest, client?: Client): Promise<IntakeOutcome> {
    // One time for both, so that sorting by time and sorting by id never disagree.
    const createdAt = new Date()
    const span = startOrder()
    const order = { ...request, id: uuidv7(createdAt.getTime()), createdAt, fingerprint: fingerprintOf(request), traceparent: traceparentOf(span) }
    const timeoutMs = this.#options.timeoutMs()
    const { waiter, answered } = this.#wait(order, span, timeoutMs)
    if (client?.destroyed === true) {
      waiter.answer({ outcome: 'not-started', reason: 'client-gone' })
    } else {
      client?.on('close', () => this.#drop(waiter))
      this.#join(waiter, timeoutMs)
    }
    return answered
  }

  /** Separate from `place`, because the waiter's functions would keep the client alive, and the collector would copy twice as much. */
  #wait (order: PendingOrder, span: Span | undefined, timeoutMs: number): { waiter: Waiter, answered: Promise<IntakeOutcome> } {
    const { promise: answered, resolve } = Promise.withResolvers<IntakeOutcome>()
    const waiter: Waiter = {
      order,
      entry: undefined,
      span,
      answer: outcome => {
        waiter.entry = undefined
        clearTimeout(waiter.timer)
        this.#options.onAnswer?.(order, outcome)
        span?.setAttribute('order.outcome', outcome.outcome).end()
        resolve(outcome)
      },
      timer: setTimeout(() => this.#expire(waiter), timeoutMs)
    }
    return { waiter, answered }
  }

  /** @param timeoutMs the time of a request that comes now; a request that has waited already may go on waiting */
  #join (waiter: Waiter, timeoutMs = Infinity): void {
    const key = keyOf(waiter.order)
    const { customer } = waiter.order
    const twin = this.#entries.get(key)
    if (twin !== undefined) {
      // A key that is twice in a batch would fail the batch (SQLSTATE 21000), so a twin in flight shares the answer.
      if (twin.order.fingerprint === waiter.order.fingerprint) {
        joinBatch(twin.span, waiter.span)
        twin.waiters.add(waiter)
        waiter.entry = twin
        return
      }
      const followers = twin.followers ??= new Set()
      if (followers.size >= this.#queuePerCustomer) return waiter.answer({ outcome: 'not-started', reason: 'own-queue-full' })
      followers.add(waiter)
      waiter.entry = twin
      return
    }
    const reason = this.#refusal(customer, timeoutMs)
    if (reason !== undefined) return waiter.answer({ outcome: 'not-started', reason })
    const entry: Entry = {
      key,
      order: waiter.order,
      waiters: new Set([waiter]),
      followers: undefined,
      attempt: undefined,
      uncertain: false,
      since: performance.now(),
      span: undefined
    }
    waiter.entry = entry
    this.#entries.set(key, entry)
    this.#queue.add(customer, entry)
    this.#schedule()
  }

  /** Why the intake refuses an order of this customer; undefined if it accepts it. */
  #refusal (customer: string, timeoutMs: number): 'queue-full' | 'own-queue-full' | 'queue-slow' | undefined {
    if (this.#queue.size >= this.#options.queueMax) return 'queue-full'
    if (this.#queue.sizeOf(customer) >= this.#queuePerCustomer) return 'own-queue-full'
    return this.waitMs(customer) > timeoutMs * waitShare ? 'queue-slow' : undefined
  }

  get #queuePerCustomer (): number {
    return this.#options.queuePerCustomer ?? this.#options.queueMax
  }

  /**
   * One customer's share of a batch: an equal one for each. A larger batch takes longer, and customers with one order in it
   * wait for it too.
   */
  get #share (): number {
    const customers = Math.max(1, this.#queue.customers, this.#underWay.size)
    return Math.ceil(this.#options.batchMax / customers)
  }

  /** In the next turn of the event loop, so that the requests of this turn go together. */
  #schedule (): void {
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.#dispatch()
    })
  }

  #dispatch (): void {
    const { batchMax, inFlight, track, onSend } = this.#options
    while (this.#batches < inFlight && this.#queue.size > 0) {
      const batch = this.#queue.take(batchMax, this.#share)
      const now = performance.now()
      for (const entry of batch) {
        this.#count(entry, 1)
        onSend?.(now - entry.since)
      }
      this.#batches++
      const span = startBatch(batch.flatMap(({ waiters }) => [...waiters].flatMap(({ span }) => span ?? [])), batch.length)
      for (const entry of batch) entry.span = span
      const work = context.with(contextOf(span), () => this.#run(batch)).finally(() => {
        span?.end()
        this.#batches--
        for (const entry of batch) this.#count(entry, -1)
        this.#batchMs += (performance.now() - now - this.#batchMs) * lastBatchWeight
        this.#schedule()
      })
      track?.('order batch', work)
    }
  }

  /** Counts an order that enters a batch, or leaves it. */
  #count ({ order: { customer } }: Entry, by: 1 | -1): void {
    const orders = (this.#underWay.get(customer) ?? 0) + by
    if (orders === 0) this.#underWay.delete(customer)
    else this.#underWay.set(customer, orders)
  }

  /** Runs the same call with the same keys until every outcome is known or no client waits. */
  async #run (batch: Entry[]): Promise<void> {
    let denials = 0
    for (let attempt = 0; ; attempt++) {
      batch = batch.filter(entry => this.#isAwaited(entry))
      if (batch.length === 0) return
      const failure = await this.#attempt(batch)
      if (failure === undefined) return
      if (batch.length > 1 && (failure === 'poisoned' || failure === 'blocked')) return await this.#runSingly(batch)
      if (failure === 'denied' && ++denials >= denialsMax) batch = this.#giveUp(batch)
      if (batch.length === 0) return
      await delay(retryDelayMs(attempt))
    }
  }

  /** Answers `not-started` to a batch that the database denied. @returns the orders that an earlier statement may have stored */
  #giveUp (batch: Entry[]): Entry[] {
    for (const entry of batch) if (!entry.uncertain) this.#settle(entry, { outcome: 'not-started', reason: 'denied' })
    return batch.filter(entry => entry.uncertain)
  }

  /** Runs the orders one by one, so that one failure does not fail the batch; then retries those that failed. */
  async #runSingly (batch: Entry[]): Promise<void> {
    const left: Entry[] = []
    for (const entry of batch) {
      if (this.#isAwaited(entry) && await this.#attempt([entry]) !== undefined) left.push(entry)
    }
    for (const entry of left) await this.#run([entry])
  }

  /** Drops an entry that nobody awaits: its clients were told `not-started`. */
  #isAwaited (entry: Entry): boolean {
    if (entry.waiters.size > 0) return true
    this.#leave(entry)
    return false
  }

  /** @returns why nothing is settled; undefined if everything is */
  async #attempt (batch: Entry[]): Promise<Failure | undefined> {
    const { place, onCommit, onFailure } = this.#options
    const attempt = new Attempt()
    for (const entry of batch) entry.attempt = attempt
    const started = performance.now()
    try {
      const placements = await attempt.run(() => place(batch.map(entry => entry.order)))
      onCommit?.(placements, performance.now() - started)
      for (const [index, entry] of batch.entries()) this.#settle(entry, placements[index] ?? { outcome: 'outcome-unknown' })
      return undefined
    } catch (error) {
      const failure = failureOf(error)
      onFailure?.(error, failure)
      recordedSpan()?.addEvent('attempt failed', { 'intake.failure': failure })
      const [only, ...others] = batch
      if (failure === 'poisoned' && only !== undefined && others.length === 0) {
        this.#settle(only, { outcome: 'rejected' })
        return undefined
      }
      for (const entry of batch) {
        entry.attempt = undefined
        entry.uncertain ||= failure === 'unknown'
      }
      return failure
    }
  }

  #settle (entry: Entry, outcome: IntakeOutcome): void {
    this.#leave(entry)
    // A lost statement may reach Postgres even after a later one was refused. So after an unknown outcome only a row is proof.
    const answer: IntakeOutcome = entry.uncertain && !provenByRow.has(outcome.outcome) ? { outcome: 'outcome-unknown' } : outcome
    const [first, ...twins] = entry.waiters
    first?.answer(answer)
    for (const twin of twins) twin.answer(answer.outcome === 'created' ? { outcome: 'replayed', order: answer.order } : answer)
  }

  #leave (entry: Entry): void {
    this.#entries.delete(entry.key)
    this.#queue.delete(entry.order.customer, entry)
    for (const follower of entry.followers ?? []) this.#join(follower)
  }

  #expire (waiter: Waiter): void {
    const { entry } = waiter
    if (entry === undefined) return
    // An order whose client is told `not-started` must not be sent. The rest of its batch, which waits for a connection too, goes without it.
    const sent = entry.waiters.has(waiter) && (entry.uncertain || entry.attempt?.giveUp() === false)
    this.#forget(waiter, entry)
    waiter.answer(sent ? { outcome: 'outcome-unknown' } : { outcome: 'not-started', reason: 'too-late' })
  }

  /** Drops an order whose client has gone, unless it is in a batch: a batch always gets its outcome. */
  #drop (waiter: Waiter): void {
    const { entry } = waiter
    if (entry === undefined || (entry.waiters.has(waiter) && !this.#queue.has(entry.order.customer, entry))) return
    this.#forget(waiter, entry)
    waiter.answer({ outcome: 'not-started', reason: 'client-gone' })
  }

  #forget (waiter: Waiter, entry: Entry): void {
    entry.waiters.delete(waiter)
    entry.followers?.delete(waiter)
    if (entry.waiters.size === 0 && this.#queue.has(entry.order.customer, entry)) this.#leave(entry)
  }
}

const provenByRow = new Set<IntakeOutcome['outcome']>(['created', 'replayed', 'key-reused'])

// A customer is a JWT subject and a key is a header field: neither holds a line break.
function keyOf ({ customer, idempotencyKey }: OrderRequest): string {
  return `${customer}\n${idempotencyKey}`
}
