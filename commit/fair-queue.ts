/** One customer's items in the queue. */
interface Lane<T> {
  readonly items: Set<T>
  /** Iterates over the same items. It continues where it was, and skips deleted items. */
  readonly next: SetIterator<T>
}

/**
 * A queue with a lane for each customer, served in turns. A customer with many items waits longer, and other customers do not wait
 * behind all of them. Each lane is first in, first out.
 */
export class FairQueue<T> {
  /** Sorted by turn; no lane is empty. */
  readonly #lanes = new Map<string, Lane<T>>()
  #size = 0

  /** Items, of all customers. */
  get size (): number {
    return this.#size
  }

  /** Customers with items in the queue. */
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

  /** The most items that the queue gives before one that this customer would add. */
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
   * Takes one item of each customer per round, until it has enough.
   *
   * @param max items of all customers
   * @param share items of one customer, at most
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
        // Back to the end, for its next turn.
        if (lane.items.size > 0) this.#lanes.set(customer, lane)
      }
    }
    return taken
  }
}
