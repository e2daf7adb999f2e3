import type { FeedCursor, FeedEvent, OrderStore } from './store.ts'

export interface FeedOptions {
  store: Pick<OrderStore, 'feed' | 'feedHorizon'>
  /** How often the database is asked while anybody listens, in ms. */
  pollMs?: number
  /** Told of a read that failed; the feed goes on from where it was. */
  onError: (error: unknown) => void
}

interface Subscriber {
  customer: string
  push: (event: FeedEvent) => void
}

const pageSize = 1_000

/**
 * Follows the events of every instance, for as long as somebody listens: one poll serves all who do.
 * (NOTIFY takes a lock over all databases of a server at every commit, so the writers would pay for the readers.)
 */
export class OrderFeed {
  readonly #options: Required<FeedOptions>
  readonly #subscribers = new Set<Subscriber>()
  #cursor: FeedCursor | undefined
  #timer: NodeJS.Timeout | undefined
  #polling: Promise<void> | undefined

  constructor (options: FeedOptions) {
    this.#options = { pollMs: 250, ...options }
  }

  /** Everybody who listens. */
  get subscribers (): number {
    return this.#subscribers.size
  }

  /**
   * Calls `push` with each event of the customer from now on, or from after `since`; returns how to stop.
   * Nothing is missed and nothing comes twice between what is read for `since` and what follows.
   */
  async subscribe (customer: string, since: FeedCursor | undefined, push: (event: FeedEvent) => void): Promise<() => void> {
    if (this.#cursor === undefined) {
      const horizon = await this.#options.store.feedHorizon()
      // Another subscriber may have set out in the meantime; its cursor must not be moved back.
      this.#cursor ??= horizon
    }
    const until = this.#cursor
    let held: FeedEvent[] | undefined = []
    const subscriber: Subscriber = {
      customer,
      push: event => {
        // Another instance, which was ahead of this one, may have given it already.
        if (since !== undefined && compare(event.cursor, since) <= 0) return
        held === undefined ? push(event) : held.push(event)
      }
    }
    this.#subscribers.add(subscriber)
    this.#schedule()

    const unsubscribe = (): void => {
      this.#subscribers.delete(subscriber)
      if (this.#subscribers.size === 0) this.#rest()
    }
    try {
      if (since !== undefined && compare(since, until) < 0) await this.#catchUp(customer, since, until, push)
    } catch (error) {
      unsubscribe()
      throw error
    }
    for (const event of held) push(event)
    held = undefined
    return unsubscribe
  }

  /** Resolves when no read is under way; who still listens hears nothing more. */
  async close (): Promise<void> {
    this.#subscribers.clear()
    this.#rest()
    await this.#polling
  }

  async #catchUp (customer: string, since: FeedCursor, until: FeedCursor, push: (event: FeedEvent) => void): Promise<void> {
    for (let cursor = since; ;) {
      const { events, next } = await this.#options.store.feed([customer], cursor, pageSize)
      for (const event of events) if (compare(event.cursor, until) <= 0) push(event)
      if (events.length < pageSize || compare(next, until) >= 0) return
      cursor = next
    }
  }

  #schedule (): void {
    if (this.#timer !== undefined || this.#polling !== undefined || this.#subscribers.size === 0) return
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      this.#polling = this.#poll().catch(this.#options.onError).finally(() => {
        this.#polling = undefined
        this.#schedule()
      })
    }, this.#options.pollMs)
  }

  async #poll (): Promise<void> {
    const cursor = this.#cursor
    if (cursor === undefined) return
    const customers = new Set([...this.#subscribers].map(subscriber => subscriber.customer))
    const { events, next } = await this.#options.store.feed([...customers], cursor, pageSize)
    // Who came during the read is not in it, so it is read again; and where all left in the meantime it is nobody's.
    if (this.#cursor !== cursor || [...this.#subscribers].some(({ customer }) => !customers.has(customer))) return
    this.#cursor = next
    for (const event of events) {
      for (const subscriber of this.#subscribers) if (subscriber.customer === event.event.customer) subscriber.push(event)
    }
  }

  #rest (): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#cursor = undefined
  }
}

function compare (a: FeedCursor, b: FeedCursor): number {
  if (a.tx !== b.tx) return a.tx < b.tx ? -1 : 1
  if (a.orderId !== b.orderId) return a.orderId < b.orderId ? -1 : 1
  return a.version - b.version
}
