import { isCompletion, isOnOrder, type Line } from '../history.ts'
import type { OrderStored } from '../target.ts'
import { idsOn } from './told.ts'

/**
 * Finds out which customers must be judged together: each customer with their orders, and two customers if one was shown an
 * order of the other. Requests, answers and rows go with their customer or order: a customer who tries to reach another's order
 * is judged together with the other.
 */
export class Company {
  readonly #customers = new Map<string, number>()
  readonly #orders = new Map<string, number>()
  /** For each member, another member of its company; itself, if there is none. */
  readonly #parents = new Numbers()
  /** Members by their unanswered requests. */
  #open = new Map<number, number>()
  #settling = false

  /** @returns a member of the company that the line concerns */
  line (line: Line, settling: boolean): number {
    if (settling !== this.#settling) this.#open = new Map()
    this.#settling = settling
    if (line.type === 'stream') return this.#customer(line.customer)
    if (line.type === 'event') return this.#joined(this.#customer(line.customer), [line.event.orderId])
    if (line.type === 'invoke') {
      const { operation } = line
      const member = isOnOrder(operation) || operation.kind === 'refund' ? this.#order(operation.id) : this.#customer(operation.customer)
      this.#open.set(line.op, member)
      return member
    }
    const member = this.#open.get(line.op) ?? this.#customer('')
    this.#open.delete(line.op)
    return isCompletion(line) ? this.#joined(member, [...idsOn(line) ?? [], ...line.order ? [line.order.id] : []]) : member
  }

  row ({ customer, id }: OrderStored): number {
    return this.#joined(this.#customer(customer), [id])
  }

  /** The member of an order. */
  event (orderId: string): number {
    return this.#order(orderId)
  }

  /**
   * @param weights the weight of each member
   * @param most the largest weight of a shard with more than one company
   * @returns the shard of each member, and how many there are
   */
  shards (weights: Numbers, most: number): { shardOf: Uint32Array, count: number } {
    const { length } = this.#parents
    const weightOf = new Float64Array(length)
    for (let member = 0; member < length; member++) {
      const root = this.#root(member)
      weightOf[root] = (weightOf[root] ?? 0) + weights.at(member)
    }
    const shardOf = new Uint32Array(length)
    const known = new Uint8Array(length)
    let [count, weight] = [1, 0]
    for (let member = 0; member < length; member++) {
      const root = this.#root(member)
      if (known[root] === 0) {
        const own = weightOf[root] ?? 0
        if (weight > 0 && weight + own > most) [count, weight] = [count + 1, 0]
        weight += own
        known[root] = 1
        shardOf[root] = count - 1
      }
      shardOf[member] = shardOf[root] ?? 0
    }
    return { shardOf, count }
  }

  #joined (member: number, orders: readonly string[]): number {
    for (const id of orders) this.#join(member, this.#order(id))
    return member
  }

  #customer (name: string): number {
    return this.#member(this.#customers, name)
  }

  #order (id: string): number {
    return this.#member(this.#orders, id)
  }

  #member (of: Map<string, number>, name: string): number {
    const known = of.get(name)
    if (known !== undefined) return known
    const member = this.#parents.length
    of.set(name, member)
    this.#parents.push(member)
    return member
  }

  #join (one: number, other: number): void {
    const [a, b] = [this.#root(one), this.#root(other)]
    if (a < b) this.#parents.set(b, a)
    else this.#parents.set(a, b)
  }

  #root (member: number): number {
    let root = member
    for (let parent = this.#parents.at(root); parent !== root; parent = this.#parents.at(root)) root = parent
    for (let each = member; each !== root;) {
      const parent = this.#parents.at(each)
      this.#parents.set(each, root)
      each = parent
    }
    return root
  }
}

/** A growing list of whole numbers up to 2^32, for millions of them. */
export class Numbers {
  length = 0
  #numbers = new Uint32Array(1_024)

  /** 0 if the list has no number there. */
  at (index: number): number {
    return this.#numbers[index] ?? 0
  }

  push (number: number): void {
    this.set(this.length, number)
  }

  set (index: number, number: number): void {
    if (index >= this.#numbers.length) {
      const more = new Uint32Array(Math.max(index + 1, this.#numbers.length * 2))
      more.set(this.#numbers)
      this.#numbers = more
    }
    this.#numbers[index] = number
    this.length = Math.max(this.length, index + 1)
  }

  add (index: number, number: number): void {
    this.set(index, Math.min(2 ** 32 - 1, this.at(index) + number))
  }
}
