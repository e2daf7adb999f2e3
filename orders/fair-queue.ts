/** What one customer has in the queue. */
interface Lane<T> {
  readonly items: Set<T>
  /** Over the same items: goes on where it was, past those that were taken out. */
  readonly next: SetIterator<T>
}

/**
 * A queue with a lane for each customer, served in turns: a customer who has much in it waits longer, and nobody waits
 * behind all of it. Within a lane the first comes first.
 */
export class FairQueue<T> {
  /** In the order of their turns; none is empty. */
  readonly #lanes = new Map<string, Lane<T>>()
  #size = 0

  /** Items, of all customers. */
  get size (): number {
    return this.#size
  }

  /** Customers who have something in it. */
  get customers (): number {
    return this.#lanes.size
  }

  /** Items of one customer. */
  sizeOf (customer: string): number {
    return this.#lanes.get(customer)?.items.size ?? 0
  }

  has (customer: string, item: T): boolean {
    return this.#lanes.get(customer)?.items.has(item) === true
  }

  /** How many items at most are taken before one that this customer would add. */
  aheadOf (customer: string): number {
    const own = this.sizeOf(customer)
    const others = this.#lanes.size - (own === 0 ? 0 : 1)
    return own + Math.min(this.#size - own, others * (own + 1))
  }

  add (customer: string, item: T): void {
    const lane = this.#lanes.get(customer)
    if (lane === undefined) {
      const items = new Set([item])
      this.#lanes.set(customer, { items, next: items.values() })
    } else {
      lane.items.add(item)
    }
    this.#size++
  }

  /** @returns whether it was in the queue */
  delete (customer: string, item: T): boolean {
    const lane = this.#lanes.get(customer)
    if (lane?.items.delete(item) !== true) return false
    if (lane.items.size === 0) this.#lanes.delete(customer)
    this.#size--
    return true
  }

  /**
   * One of each customer, and again, until there are enough.
   *
   * @param max of all customers
   * @param share of one customer, at most
   */
  take (max: number, share: number): T[] {
    const taken: T[] = []
    for (let round = 0; round < share && this.#lanes.size > 0 && taken.length < max; round++) {
      let turns = Math.min(this.#lanes.size, max - taken.length)
      for (const [customer, lane] of this.#lanes) {
        if (turns-- === 0) break
        const first = lane.next.next()
        this.#lanes.delete(customer)
        if (first.done === true) continue
        lane.items.delete(first.value)
        this.#size--
        taken.push(first.value)
        // At the end, for its next turn.
        if (lane.items.size > 0) this.#lanes.set(customer, lane)
      }
    }
    return taken
  }
}
