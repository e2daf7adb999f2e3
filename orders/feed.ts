import { context, ROOT_CONTEXT } from '@opentelemetry/api'
import { epochOf, startOf, startOfEpoch, type FeedCursor, type FeedEvent, type FeedStanding, type OrderStore } from './store.ts'

export interface FeedOptions {
  store: Pick<OrderStore, 'feed' | 'feedHorizon' | 'feedStanding'>
  /** How often the database is asked while anybody listens, in ms. */
  pollMs?: number
  /** Told of a read that failed; the feed goes on from where it was. */
  onError: (error: unknown) => void
}

/** Said where events may be missing between what was given before and what follows. */
export interface FeedGap {
  /** What follows comes after it. */
  cursor: FeedCursor
  gap: { reason: 'another-history' | 'pruned', detail: string }
}

/** No event: how far one has come who was given a gap, so that it is not told the same again. */
export interface FeedPosition {
  cursor: FeedCursor
}

export type FeedMessage = FeedEvent | FeedGap | FeedPosition

type Resumed = FeedGap | { cursor: FeedCursor, gap?: never }

/** Who listens, and how what it is given goes on to it. */
export interface FeedReader {
  push: (message: FeedMessage) => void
  /** Resolves when it has taken enough of what was pushed that more may come. */
  drained: () => Promise<void>
  /** It cannot be given what it has missed: it is to go on from the last event it got. */
  failed: () => void
}

interface Subscriber {
  /** null: everybody's events. */
  customer: string | null
  reader: FeedReader
  /** It has been given everything up to here. */
  cursor: FeedCursor
}

const pageSize = 1_000

/**
 * Follows the events of every instance, for as long as somebody listens: one poll serves all who do.
 * (NOTIFY takes a lock over all databases of a server at every commit, so the writers would pay for the readers.)
 *
 * A subscriber that is behind first reads on its own, a page at a time and no faster than its reader takes them, until it
 * is where the poll is. So nobody's past is kept in memory, and nobody waits for another.
 */
export class OrderFeed {
  readonly #options: Required<FeedOptions>
  readonly #subscribers = new Set<Subscriber>()
  /** Those of them that the poll serves: none is behind it. */
  readonly #live = new Set<Subscriber>()
  #cursor: FeedCursor | undefined
  #timer: NodeJS.Timeout | undefined
  #polling: Promise<void> | undefined
  /** The reads of those that are behind, one after the other: however many they are, they hold one connection of the pool. */
  #catchingUp: Promise<unknown> = Promise.resolve()

  constructor (options: FeedOptions) {
    this.#options = { pollMs: 250, ...options }
  }

  /** Everybody who listens. */
  get subscribers (): number {
    return this.#subscribers.size
  }

  /**
   * Gives the reader each event of the customer, or of everybody where it is null, from now on or from after `since`; returns
   * how to stop. Nothing is missed and nothing comes twice. Where events may have been pruned behind what it has, or the database was
   * restored or failed over and cannot vouch for it, a gap comes first.
   */
  async subscribe (customer: string | null, since: FeedCursor | undefined, reader: FeedReader): Promise<() => void> {
    const resumed = since && await this.#resume(since)
    if (this.#cursor === undefined) {
      const horizon = await this.#options.store.feedHorizon()
      // Another subscriber may have set out in the meantime; its cursor must not be moved back.
      this.#cursor ??= horizon
    }
    const subscriber = { customer, reader, cursor: resumed?.cursor ?? this.#cursor }
    if (resumed?.gap !== undefined) reader.push(resumed)
    this.#subscribers.add(subscriber)
    this.#schedule()
    void this.#follow(subscriber)
    return () => this.#drop(subscriber)
  }

  /** Resolves when no read is under way; who still listens hears nothing more. */
  async close (): Promise<void> {
    this.#subscribers.clear()
    this.#live.clear()
    this.#rest()
    await Promise.all([this.#polling, this.#catchingUp])
  }

  /** Brings it to where the poll is; from there on that serves it. */
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

  /** Where a cursor goes on that was given in another epoch. */
  async #resume (cursor: FeedCursor): Promise<Resumed> {
    return resume(cursor, await this.#options.store.feedStanding(cursor))
  }

  #giveGap (subscriber: Subscriber, gap: FeedGap): void {
    if (!this.#subscribers.has(subscriber)) return
    subscriber.cursor = gap.cursor
    subscriber.reader.push(gap)
  }

  /** @param mayLack whether events between what it has and these may have been pruned */
  #give (subscriber: Subscriber, events: FeedEvent[], mayLack: boolean): void {
    if (mayLack && this.#subscribers.has(subscriber)) subscriber.reader.push(prunedAfter(subscriber.cursor))
    for (const event of events) {
      if (!this.#subscribers.has(subscriber)) return
      // Another instance, which was ahead of this one, may have given it already.
      if (compare(event.cursor, subscriber.cursor) > 0) subscriber.reader.push(event)
    }
  }

  #schedule (afterMs = this.#options.pollMs): void {
    if (this.#timer !== undefined || this.#polling !== undefined || this.#subscribers.size === 0) return
    // One poll brings about the next, and would be a part of the first subscriber's trace for ever.
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

  /** @returns whether it has read all there was */
  async #poll (): Promise<boolean> {
    const cursor = this.#cursor
    if (cursor === undefined) return true
    const { store } = this.#options
    const asked = new Set([...this.#live].map(({ customer }) => customer))
    const { events, next, mayLack } = asked.size === 0
      ? { events: [], next: await store.feedHorizon(), mayLack: false }
      : await store.feed(customersOf(asked), cursor, pageSize)
    const resumed = next.began === cursor.began ? undefined : await this.#resume(cursor)
    // All left in the meantime, so it is nobody's.
    if (this.#cursor !== cursor) return true
    if (resumed?.gap !== undefined) {
      // What was read was read from a place that this history does not have.
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
        // It came during the read and is not in it.
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
  const detail = 'Events that came after the last one you have may have been deleted, as they are kept for a time. What is kept follows. ' +
    'Read GET /orders for the orders as they are, and GET /orders/:id/events for what is kept of one.'
  return { cursor, gap: { reason: 'pruned', detail } }
}

/**
 * Where one goes on who has everything up to `since`, on a database that may have been restored or failed over since then.
 * What a client has seen was below the horizon of its epoch, and the horizon is stored with all that lies below it: so a
 * cursor at or below it lacks nothing, and above it something that was seen may be lost.
 */
function resume (since: FeedCursor, { current, given }: FeedStanding): Resumed {
  const gapBefore = (tx: bigint): FeedGap => ({ cursor: startOf(tx, current.began), gap: anotherHistory })
  const here = { ...since, began: current.began }
  const epoch = epochOf(since.tx)
  if (given !== undefined && epoch <= given.epoch) {
    // What is of an earlier epoch than it was given in was final by then.
    if (epoch < given.epoch || compare(since, startOf(given.horizon, since.began)) <= 0) return { cursor: here }
    if (given.epoch !== current.epoch) return { cursor: here, gap: anotherHistory }
    // In this life of this server nothing is lost, and the version before gives events without raising the horizon.
    return since.tx < current.reach ? { cursor: here } : gapBefore(current.horizon)
  }
  // Given in a history that parted from this one. Epoch 0 is all histories'; of a later one of this number nothing was seen.
  if (epoch === 0n) return { cursor: here, gap: anotherHistory }
  if (epoch <= current.epoch) return gapBefore(startOfEpoch(epoch))
  // A later epoch than any here. If it began before the one of now, the database was restored since then.
  return gapBefore(since.began < current.began ? startOfEpoch(current.epoch) : current.horizon)
}

const anotherHistory: FeedGap['gap'] = {
  reason: 'another-history',
  detail: 'The database was restored from a copy, or failed over, after the last event that this stream gave: orders and events that were seen ' +
    'may not exist any more, and events may be missing here. Read GET /orders, and GET /orders/:id/events of the orders that matter. ' +
    'What is stored now follows.'
}

function compare (a: FeedCursor, b: FeedCursor): number {
  if (a.tx !== b.tx) return a.tx < b.tx ? -1 : 1
  if (a.orderId !== b.orderId) return a.orderId < b.orderId ? -1 : 1
  return a.version - b.version
}
