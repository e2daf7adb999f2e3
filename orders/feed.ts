import { context, ROOT_CONTEXT } from '@opentelemetry/api'
import { epochOf, startOf, startOfEpoch, type FeedCursor, type FeedEvent, type FeedStanding, type OrderStore } from './store.ts'

export interface FeedOptions {
  store: Pick<OrderStore, 'feed' | 'feedHorizon' | 'feedStanding'>
  /** The time between two polls while anybody listens, in ms. */
  pollMs?: number
  /** Called when a read failed; the feed continues from where it was. */
  onError: (error: unknown) => void
}

/** Events may be missing between the last message and the next one. */
export interface FeedGap {
  /** The next message is after this. */
  cursor: FeedCursor
  gap: { reason: 'another-history' | 'pruned', detail: string }
}

/** Follows a gap: the reader's position without an event, so that it does not get the same gap again. */
export interface FeedPosition {
  cursor: FeedCursor
}

export type FeedMessage = FeedEvent | FeedGap | FeedPosition

type Resumed = FeedGap | { cursor: FeedCursor, gap?: never }

/** A listener. */
export interface FeedReader {
  push: (message: FeedMessage) => void
  /** Resolves when the reader can take more. */
  drained: () => Promise<void>
  /** The feed cannot read what the reader has missed. The reader is to resume from the last event it got. */
  failed: () => void
}

interface Subscriber {
  /** null: everybody's events. */
  customer: string | null
  reader: FeedReader
  /** It has got everything up to here. */
  cursor: FeedCursor
}

const pageSize = 1_000

/**
 * Follows the events of every instance while anybody listens. One poll serves all listeners.
 * (NOTIFY locks all databases of a server at every commit, so the writers would pay for the readers.)
 *
 * A subscriber that is behind first reads pages of its own, no faster than its reader takes them, until it reaches the poll's
 * cursor. So the feed keeps no past events in memory, and no subscriber waits for another.
 */
export class OrderFeed {
  readonly #options: Required<FeedOptions>
  readonly #subscribers = new Set<Subscriber>()
  /** The subscribers that the poll serves: none is behind it. */
  readonly #live = new Set<Subscriber>()
  #cursor: FeedCursor | undefined
  #timer: NodeJS.Timeout | undefined
  #polling: Promise<void> | undefined
  /** The reads of subscribers that are behind, one after the other: together they hold one connection of the pool. */
  #catchingUp: Promise<unknown> = Promise.resolve()

  constructor (options: FeedOptions) {
    this.#options = { pollMs: 250, ...options }
  }

  /** How many listen. */
  get subscribers (): number {
    return this.#subscribers.size
  }

  /**
   * Gives the reader each event of the customer (null: of everybody), from now on or after `since`, exactly once. A gap comes first
   * if events after `since` may have been pruned, or may be lost after a restore or a failover.
   *
   * @returns a function that ends the subscription
   */
  async subscribe (customer: string | null, since: FeedCursor | undefined, reader: FeedReader): Promise<() => void> {
    const resumed = since && await this.#resume(since)
    if (this.#cursor === undefined) {
      const horizon = await this.#options.store.feedHorizon()
      // Another subscriber may have set the cursor meanwhile; it must not go back.
      this.#cursor ??= horizon
    }
    const subscriber = { customer, reader, cursor: resumed?.cursor ?? this.#cursor }
    if (resumed?.gap !== undefined) reader.push(resumed)
    this.#subscribers.add(subscriber)
    this.#schedule()
    void this.#follow(subscriber)
    return () => this.#drop(subscriber)
  }

  /** Ends all subscriptions. Resolves when no read is under way. */
  async close (): Promise<void> {
    this.#subscribers.clear()
    this.#live.clear()
    this.#rest()
    await Promise.all([this.#polling, this.#catchingUp])
  }

  /** Reads for a subscriber until it reaches the poll's cursor; from there on the poll serves it. */
  async #follow (subscriber: Subscriber): Promise<void> {
    const { customer, reader } = subscriber
    let isTold = false
    while (this.#subscribers.has(subscriber)) {
      if (this.#cursor === undefined || compare(subscriber.cursor, this.#cursor) >= 0) {
        this.#live.add(subscriber)
        if (isTold) reader.push({ cursor: subscriber.cursor })
        return
      }
      const page = this.#catchingUp.then(async () => {
        if (!this.#subscribers.has(subscriber)) return undefined
        return await this.#options.store.feed(customer === null ? null : [customer], subscriber.cursor, pageSize)
      })
      this.#catchingUp = page.catch(() => {})
      try {
        const read = await page
        if (read === undefined) return
        const resumed = read.next.began === subscriber.cursor.began ? undefined : await this.#resume(subscriber.cursor)
        if (resumed?.gap !== undefined) {
          this.#giveGap(subscriber, resumed)
          continue
        }
        this.#give(subscriber, read.events, read.mayLack && !isTold)
        isTold ||= read.mayLack
        subscriber.cursor = read.next
      } catch (error) {
        this.#options.onError(error)
        if (this.#subscribers.has(subscriber)) reader.failed()
        return
      }
      await reader.drained()
    }
  }

  /** Where a cursor of another epoch continues. */
  async #resume (cursor: FeedCursor): Promise<Resumed> {
    return resume(cursor, await this.#options.store.feedStanding(cursor))
  }

  #giveGap (subscriber: Subscriber, gap: FeedGap): void {
    if (!this.#subscribers.has(subscriber)) return
    subscriber.cursor = gap.cursor
    subscriber.reader.push(gap)
  }

  /** @param mayLack whether events between the subscriber's cursor and these may have been pruned */
  #give (subscriber: Subscriber, events: FeedEvent[], mayLack: boolean): void {
    if (mayLack && this.#subscribers.has(subscriber)) subscriber.reader.push(prunedAfter(subscriber.cursor))
    for (const event of events) {
      if (!this.#subscribers.has(subscriber)) return
      // Another instance, ahead of this one, may have given the reader this event already.
      if (compare(event.cursor, subscriber.cursor) > 0) subscriber.reader.push(event)
    }
  }

  #schedule (afterMs = this.#options.pollMs): void {
    if (this.#timer !== undefined || this.#polling !== undefined || this.#subscribers.size === 0) return
    // Each poll schedules the next, so without this all polls would belong to the first subscriber's trace.
    this.#timer = context.with(ROOT_CONTEXT, () => setTimeout(() => {
      this.#timer = undefined
      this.#polling = this.#poll().catch(error => {
        this.#options.onError(error)
        return true
      }).then(isAtEnd => {
        this.#polling = undefined
        this.#schedule(isAtEnd ? this.#options.pollMs : 0)
      })
    }, afterMs))
  }

  /** @returns whether it has read all events */
  async #poll (): Promise<boolean> {
    const cursor = this.#cursor
    if (cursor === undefined) return true
    const { store } = this.#options
    const asked = new Set([...this.#live].map(({ customer }) => customer))
    const { events, next, mayLack } = asked.size === 0
      ? { events: [], next: await store.feedHorizon(), mayLack: false }
      : await store.feed(customersOf(asked), cursor, pageSize)
    const resumed = next.began === cursor.began ? undefined : await this.#resume(cursor)
    // All subscribers left meanwhile, so nobody wants these events.
    if (this.#cursor !== cursor) return true
    if (resumed?.gap !== undefined) {
      // The events were read from a position that this history does not have.
      this.#cursor = resumed.cursor
      for (const subscriber of [...this.#live]) {
        if (subscriber.cursor.began !== resumed.cursor.began) this.#giveGap(subscriber, resumed)
        this.#live.delete(subscriber)
        void this.#follow(subscriber)
      }
      return false
    }
    this.#cursor = next

    const eventsOf = Map.groupBy(events, ({ event }) => event.customer)
    for (const subscriber of [...this.#live]) {
      const { customer } = subscriber
      if (!asked.has(customer) && !asked.has(null)) {
        // It subscribed during the read, which lacks its events.
        this.#live.delete(subscriber)
        void this.#follow(subscriber)
        continue
      }
      this.#give(subscriber, customer === null ? events : eventsOf.get(customer) ?? [], mayLack)
      if (compare(next, subscriber.cursor) > 0) subscriber.cursor = next
      if (mayLack) subscriber.reader.push({ cursor: subscriber.cursor })
    }
    return events.length < pageSize
  }

  #drop (subscriber: Subscriber): void {
    this.#subscribers.delete(subscriber)
    this.#live.delete(subscriber)
    if (this.#subscribers.size === 0) this.#rest()
  }

  #rest (): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#cursor = undefined
  }
}

function customersOf (asked: Set<string | null>): string[] | null {
  return asked.has(null) ? null : [...asked].filter(customer => customer !== null)
}

function prunedAfter (cursor: FeedCursor): FeedGap {
  const detail = 'Events after the last one you have may have been deleted, as the service keeps them for a limited time. The kept events follow. ' +
    'Read GET /orders for the orders as they are, and GET /orders/:id/events for the kept events of one.'
  return { cursor, gap: { reason: 'pruned', detail } }
}

/**
 * Where a client continues that has everything up to `since`, on a database that may have been restored or failed over since then.
 * All events that a client has seen were below the horizon of its epoch, and Postgres stores the horizon with all events below it.
 * So a cursor at or below the stored horizon lacks nothing. Above it, events that the client has seen may be lost.
 */
function resume (since: FeedCursor, { current, given }: FeedStanding): Resumed {
  const gapBefore = (tx: bigint): FeedGap => ({ cursor: startOf(tx, current.began), gap: anotherHistory })
  const here = { ...since, began: current.began }
  const epoch = epochOf(since.tx)
  if (given !== undefined && epoch <= given.epoch) {
    // An event of an epoch before the cursor's was final when the cursor was given.
    if (epoch < given.epoch || compare(since, startOf(given.horizon, since.began)) <= 0) return { cursor: here }
    if (given.epoch !== current.epoch) return { cursor: here, gap: anotherHistory }
    // Within one epoch nothing is lost. The previous version of the service gives events without raising the horizon.
    return since.tx < current.reach ? { cursor: here } : gapBefore(current.horizon)
  }
  // The cursor is from a history that diverged from this one. All histories share epoch 0; the client saw nothing of a later epoch of this history.
  if (epoch === 0n) return { cursor: here, gap: anotherHistory }
  if (epoch <= current.epoch) return gapBefore(startOfEpoch(epoch))
  // The epoch is later than any here. If it began before the current one, the database was restored since then.
  return gapBefore(since.began < current.began ? startOfEpoch(current.epoch) : current.horizon)
}

const anotherHistory: FeedGap['gap'] = {
  reason: 'another-history',
  detail: 'The database was restored from a copy, or failed over, after the last event that this stream gave. Orders and events that you have seen ' +
    'may no longer exist, and events may be missing here. Read GET /orders, and GET /orders/:id/events of the orders that matter. ' +
    'The stored events follow.'
}

function compare (a: FeedCursor, b: FeedCursor): number {
  if (a.tx !== b.tx) return a.tx < b.tx ? -1 : 1
  if (a.orderId !== b.orderId) return a.orderId < b.orderId ? -1 : 1
  return a.version - b.version
}
