import { setTimeout as delay } from 'node:timers/promises'
import { context, type Span } from '@opentelemetry/api'
import { contextOf, joinBatch, startBatch } from '../tracing/batch-spans.ts'
import { recordedSpan } from '../tracing/trace-context.ts'
import { Attempt } from './attempt.ts'
import { FairQueue } from './fair-queue.ts'
import { failureOf, type Failure } from './failure.ts'
import { denialsMax, retryDelayMs } from './settle.ts'

/** A request on its way to the database. */
export interface Pending {
  customer: string
  /** A customer's key stands for one request, for ever. */
  idempotencyKey: string
  /** Identifies the content: two requests with the same key and fingerprint are twins. */
  fingerprint: string
}

/** What became of a request, as the database says. */
export interface Outcome {
  outcome: string
}

/**
 * `rejected`: the database refused the data. `not-started`: nothing was stored, and the same request may be sent again.
 * `outcome-unknown`: it may have been stored; a retry with the same key settles it.
 */
export type Unplaced =
  | { outcome: 'rejected' | 'outcome-unknown' }
  | { outcome: 'not-started', reason: 'queue-full' | 'own-queue-full' | 'queue-slow' | 'too-late' | 'denied' | 'client-gone' }

/** What the group commit has to know of the resource that it carries. */
export interface Carried<O extends Outcome> {
  /** In the names of spans and of tracked work. */
  singular: string
  plural: string
  /** Whether this outcome proves that the database has a row of that key. */
  isProvenByRow: (outcome: O | Unplaced) => boolean
  /** What a twin is told whose request shared the outcome of the first one. */
  toldToTwin: (outcome: O) => O
}

/** The client that waits for the answer, for example Node's response. */
export interface Client {
  /** Whether it has gone. */
  readonly destroyed: boolean
  /** `close`: the client has gone, or has its answer. */
  on (event: 'close', listener: () => void): unknown
}

export interface GroupCommitOptions<P extends Pending, O extends Outcome> {
  /** Stores a batch in one commit. Returns an outcome for each request, in order. Running it again with the same keys must be harmless. */
  place: (batch: P[]) => Promise<O[]>
  /** The most requests in a batch. */
  batchMax: number
  /** The most batches under way at once. */
  inFlight: number
  /** The most requests that wait for a batch; more are refused. */
  queueMax: number
  /** The same for one customer. Default: queueMax. */
  queuePerCustomer?: number
  /** How long a request that comes now may wait for its answer, in ms. */
  timeoutMs: () => number
  /** Called for each request that leaves in a batch, with the time that it waited, in ms. */
  onSend?: (waitedMs: number) => void
  /** Called for each answer. */
  onAnswer?: (request: P, outcome: O | Unplaced) => void
  /** Called with each batch's promise, so that a stop can wait for it. */
  track?: (label: string, work: Promise<void>) => Promise<void>
  /** Called for each batch that committed, with the outcomes and the duration of its statement, in ms. */
  onCommit?: (outcomes: O[], durationMs: number) => void
  /** Called for each statement that failed. */
  onFailure?: (error: unknown, failure: Failure) => void
}

/** The share of its time that a request may wait for its batch. The rest is for the statement, and for a second one if the outcome is unknown. */
const waitShare = 0.5

/** The weight of the last batch in the average duration of a batch. */
const lastBatchWeight = 0.125

/** One key that is queued or in a batch, with the requests that wait for it. */
interface Entry<P, O> {
  key: string
  request: P
  waiters: Set<Waiter<P, O>>
  /** Requests with the same key and another body. Each goes when the one before it is settled, and the database decides. */
  followers: Set<Waiter<P, O>> | undefined
  /** The statement that carries it now. */
  attempt: Attempt | undefined
  /** Whether a statement that carried it ended without a known outcome. */
  uncertain: boolean
  /** When it was queued, by performance.now(). */
  since: number
  /** The span of its batch, if one of the batch's requests is sampled. */
  span: Span | undefined
}

interface Waiter<P, O> {
  request: P
  /** Where it waits; undefined once it has its answer. */
  entry: Entry<P, O> | undefined
  span: Span | undefined
  answer: (outcome: O | Unplaced) => void
  timer: NodeJS.Timeout
}

/**
 * Group commit: concurrent requests share one statement, and so one commit.
 *
 * A batch leaves as soon as one of `inFlight` slots is free, with all requests that wait. There is no timer, so a lone request never
 * waits, and batches grow as the database gets busier. Clients are answered only after the commit.
 *
 * Customers take turns. A request is refused at once if it cannot be served in time, and a queued one is dropped when its client
 * goes. A request in a batch goes on.
 */
export class GroupCommit<P extends Pending, O extends Outcome> {
  readonly #carried: Carried<O>
  readonly #options: GroupCommitOptions<P, O>
  readonly #entries = new Map<string, Entry<P, O>>()
  readonly #queue = new FairQueue<Entry<P, O>>()
  #batches = 0
  /** Requests in the batches under way, by customer. */
  readonly #underWay = new Map<string, number>()
  /** How long a batch keeps its slot, in ms: a moving average. */
  #batchMs = 0
  #scheduled = false

  constructor (carried: Carried<O>, options: GroupCommitOptions<P, O>) {
    this.#carried = carried
    this.#options = options
  }

  /** Requests that wait for a batch. */
  get queued (): number {
    return this.#queue.size
  }

  /** Batches under way. */
  get batches (): number {
    return this.#batches
  }

  /** How long a request of this customer that comes now would wait for its batch, in ms: an estimate. */
  waitMs (customer: string): number {
    const { batchMax, inFlight } = this.#options
    if (this.#batches < inFlight) return 0
    const batchesAhead = Math.max(Math.floor(this.#queue.aheadOf(customer) / batchMax), Math.floor(this.#queue.sizeOf(customer) / this.#share))
    return (batchesAhead + 1) * this.#batchMs / inFlight
  }

  /**
   * Resolves once the outcome is known or the time is over; never rejects.
   *
   * @param span the request's own, if it is recorded; ended with the answer
   * @param client if it goes, its request is dropped, unless that is in a batch
   */
  submit (request: P, span?: Span, client?: Client): Promise<O | Unplaced> {
    const timeoutMs = this.#options.timeoutMs()
    const { waiter, answered } = this.#wait(request, span, timeoutMs)
    if (client?.destroyed === true) {
      waiter.answer({ outcome: 'not-started', reason: 'client-gone' })
    } else {
      client?.on('close', () => this.#drop(waiter))
      this.#join(waiter, timeoutMs)
    }
    return answered
  }

  /** Separate from `submit`, because the waiter's functions would keep the client alive, and the collector would copy twice as much. */
  #wait (request: P, span: Span | undefined, timeoutMs: number): { waiter: Waiter<P, O>, answered: Promise<O | Unplaced> } {
    const { promise: answered, resolve } = Promise.withResolvers<O | Unplaced>()
    const waiter: Waiter<P, O> = {
      request,
      entry: undefined,
      span,
      answer: outcome => {
        waiter.entry = undefined
        clearTimeout(waiter.timer)
        this.#options.onAnswer?.(request, outcome)
        span?.setAttribute(`${this.#carried.singular}.outcome`, outcome.outcome).end()
        resolve(outcome)
      },
      timer: setTimeout(() => this.#expire(waiter), timeoutMs)
    }
    return { waiter, answered }
  }

  /** @param timeoutMs the time of a request that comes now; a request that has waited already may go on waiting */
  #join (waiter: Waiter<P, O>, timeoutMs = Infinity): void {
    const { request } = waiter
    const key = keyOf(request)
    const { customer } = request
    const twin = this.#entries.get(key)
    if (twin !== undefined) {
      // A key that is twice in a batch would fail the batch (SQLSTATE 21000), so a twin in flight shares the answer.
      if (twin.request.fingerprint === request.fingerprint) {
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
    const entry: Entry<P, O> = {
      key,
      request,
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

  /** Why a request of this customer is refused; undefined if it is accepted. */
  #refusal (customer: string, timeoutMs: number): 'queue-full' | 'own-queue-full' | 'queue-slow' | undefined {
    if (this.#queue.size >= this.#options.queueMax) return 'queue-full'
    if (this.#queue.sizeOf(customer) >= this.#queuePerCustomer) return 'own-queue-full'
    return this.waitMs(customer) > timeoutMs * waitShare ? 'queue-slow' : undefined
  }

  get #queuePerCustomer (): number {
    return this.#options.queuePerCustomer ?? this.#options.queueMax
  }

  /**
   * One customer's share of a batch: an equal one for each. A larger batch takes longer, and customers with one request in it
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
      const span = startBatch(`place ${this.#carried.plural}`, batch.flatMap(({ waiters }) => [...waiters].flatMap(({ span }) => span ?? [])), batch.length)
      for (const entry of batch) entry.span = span
      const work = context.with(contextOf(span), () => this.#run(batch)).finally(() => {
        span?.end()
        this.#batches--
        for (const entry of batch) this.#count(entry, -1)
        this.#batchMs += (performance.now() - now - this.#batchMs) * lastBatchWeight
        this.#schedule()
      })
      track?.(`${this.#carried.singular} batch`, work)
    }
  }

  /** Counts a request that enters a batch, or leaves it. */
  #count ({ request: { customer } }: Entry<P, O>, by: 1 | -1): void {
    const requests = (this.#underWay.get(customer) ?? 0) + by
    if (requests === 0) this.#underWay.delete(customer)
    else this.#underWay.set(customer, requests)
  }

  /** Runs the same call with the same keys until every outcome is known or no client waits. */
  async #run (batch: Array<Entry<P, O>>): Promise<void> {
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

  /** Answers `not-started` to a batch that the database denied. @returns the requests that an earlier statement may have stored */
  #giveUp (batch: Array<Entry<P, O>>): Array<Entry<P, O>> {
    for (const entry of batch) if (!entry.uncertain) this.#settle(entry, { outcome: 'not-started', reason: 'denied' })
    return batch.filter(entry => entry.uncertain)
  }

  /** Runs the requests one by one, so that one failure does not fail the batch; then retries those that failed. */
  async #runSingly (batch: Array<Entry<P, O>>): Promise<void> {
    const left: Array<Entry<P, O>> = []
    for (const entry of batch) {
      if (this.#isAwaited(entry) && await this.#attempt([entry]) !== undefined) left.push(entry)
    }
    for (const entry of left) await this.#run([entry])
  }

  /** Drops an entry that nobody awaits: its clients were told `not-started`. */
  #isAwaited (entry: Entry<P, O>): boolean {
    if (entry.waiters.size > 0) return true
    this.#leave(entry)
    return false
  }

  /** @returns why nothing is settled; undefined if everything is */
  async #attempt (batch: Array<Entry<P, O>>): Promise<Failure | undefined> {
    const { place, onCommit, onFailure } = this.#options
    const attempt = new Attempt()
    for (const entry of batch) entry.attempt = attempt
    const started = performance.now()
    try {
      const outcomes = await attempt.run(() => place(batch.map(entry => entry.request)))
      onCommit?.(outcomes, performance.now() - started)
      for (const [index, entry] of batch.entries()) this.#settle(entry, outcomes[index] ?? { outcome: 'outcome-unknown' })
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

  #settle (entry: Entry<P, O>, outcome: O | Unplaced): void {
    this.#leave(entry)
    // A lost statement may reach Postgres even after a later one was refused. So after an unknown outcome only a row is proof.
    const answer = entry.uncertain && !this.#carried.isProvenByRow(outcome) ? { outcome: 'outcome-unknown' } as const : outcome
    const [first, ...twins] = entry.waiters
    first?.answer(answer)
    for (const twin of twins) twin.answer(isUnplaced(answer) ? answer : this.#carried.toldToTwin(answer))
  }

  #leave (entry: Entry<P, O>): void {
    this.#entries.delete(entry.key)
    this.#queue.delete(entry.request.customer, entry)
    for (const follower of entry.followers ?? []) this.#join(follower)
  }

  #expire (waiter: Waiter<P, O>): void {
    const { entry } = waiter
    if (entry === undefined) return
    // A request whose client is told `not-started` must not be sent. The rest of its batch, which waits for a connection too, goes without it.
    const sent = entry.waiters.has(waiter) && (entry.uncertain || entry.attempt?.giveUp() === false)
    this.#forget(waiter, entry)
    waiter.answer(sent ? { outcome: 'outcome-unknown' } : { outcome: 'not-started', reason: 'too-late' })
  }

  /** Drops a request whose client has gone, unless it is in a batch: a batch always gets its outcome. */
  #drop (waiter: Waiter<P, O>): void {
    const { entry } = waiter
    if (entry === undefined || (entry.waiters.has(waiter) && !this.#queue.has(entry.request.customer, entry))) return
    this.#forget(waiter, entry)
    waiter.answer({ outcome: 'not-started', reason: 'client-gone' })
  }

  #forget (waiter: Waiter<P, O>, entry: Entry<P, O>): void {
    entry.waiters.delete(waiter)
    entry.followers?.delete(waiter)
    if (entry.waiters.size === 0 && this.#queue.has(entry.request.customer, entry)) this.#leave(entry)
  }
}

function isUnplaced (answer: Outcome): answer is Unplaced {
  return answer.outcome === 'rejected' || answer.outcome === 'outcome-unknown' || answer.outcome === 'not-started'
}

// A customer is a JWT subject and a key is a header field: neither holds a line break.
function keyOf ({ customer, idempotencyKey }: Pending): string {
  return `${customer}\n${idempotencyKey}`
}
