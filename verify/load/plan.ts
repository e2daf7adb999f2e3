import type { Completion, Operation, OrderAsked, Purpose } from '../history.ts'
import { random } from '../random.ts'
import type { Product, Target } from '../target.ts'
import type { Manner } from './connection.ts'
import { usualMix, type Kind, type Mix } from './mix.ts'

/** Stock that no run uses up. */
export const plenty = 100_000
const customerCount = 20

/** One request of an arrival. */
export interface Planned {
  readonly purpose: Purpose
  readonly operation: Operation
  readonly manner?: Manner
  /** Of a list: how many pages to follow. */
  readonly pages?: number
}

type Place = Extract<Operation, { kind: 'place' }>
type Draw = () => number

export interface PlanOptions {
  readonly seed: number
  readonly products: readonly Product[]
  readonly target: Pick<Target, 'request'>
  readonly mix?: Partial<Mix> | undefined
}

/**
 * What arrives. The same seed makes the same arrivals: purpose, customer, key and what a new order asks for. Which
 * earlier order is meant depends on the answers, too.
 */
export class Plan {
  readonly customers: readonly string[]
  readonly #seed: number
  readonly #plentiful: readonly Product[]
  readonly #scarce: readonly Product[]
  readonly #shares: ReadonlyArray<readonly [Kind, number]>
  readonly #acknowledged: Array<Place & { readonly id: string }> = []
  readonly #acknowledgedKeys = new Set<string>()
  readonly #unknown = new Map<string, Place>()
  #arrivals = 0

  constructor ({ seed, products, target, mix }: PlanOptions) {
    this.#seed = seed
    this.customers = Array.from({ length: customerCount }, (_, i) => `customer-${seed}-${i + 1}`)
    this.#plentiful = products.filter(({ stock }) => stock >= plenty)
    this.#scarce = products.filter(({ stock }) => stock < plenty)
    if (this.#plentiful.length === 0) throw new Error(`No product has a stock of ${plenty} or more. Nothing was sent; give the run one that does not run out.`)

    const can = (kind: 'pay' | 'cancel' | 'read' | 'list'): boolean => {
      return target.request(kind === 'list' ? { kind, customer: '' } : { kind, customer: '', id: '' }) !== undefined
    }
    const possible: Partial<Record<Kind, boolean>> = {
      scarce: this.#scarce.length > 0,
      transition: can('pay') && can('cancel'),
      read: can('read'),
      list: can('list')
    }
    const shares = Object.entries({ ...usualMix, ...mix }) as Array<[Kind, number]>
    this.#shares = shares.filter(([kind]) => possible[kind] ?? true)
  }

  /** The requests of the next arrival, to be sent at once. */
  next (): Planned[] {
    const number = ++this.#arrivals
    // Numbers of its own: what the answers made of one arrival does not shift the next.
    const draw = random(Math.imul(this.#seed, 0x9e3779b1) ^ Math.imul(number, 0x85ebca6b))
    const kind = this.#kind(draw)
    return this.#ofEarlier(kind, draw) ?? this.#fresh(kind, number, draw)
  }

  /** What came of one. */
  learn (operation: Operation, { type, order }: Completion): void {
    if (operation.kind !== 'place' || this.#acknowledgedKeys.has(operation.key)) return
    if (type === 'info') this.#unknown.set(operation.key, operation)
    if (type !== 'ok' || order === undefined) return
    this.#unknown.delete(operation.key)
    this.#acknowledgedKeys.add(operation.key)
    this.#acknowledged.push({ ...operation, id: order.id })
  }

  #kind (draw: Draw): Kind {
    let left = draw() * this.#shares.reduce((sum, [, share]) => sum + share, 0)
    return this.#shares.find(([, share]) => (left -= share) < 0)?.[0] ?? 'new'
  }

  /** Undefined where it is a new order, or there is no earlier one yet. */
  #ofEarlier (kind: Kind, draw: Draw): Planned[] | undefined {
    if (kind === 'list') return [{ purpose: 'read', operation: { kind, customer: pick(this.customers, draw) }, pages: 2 + Math.floor(draw() * 2) }]
    const unknown = kind === 'replay' && draw() < 0.25 ? this.#nextUnknown() : undefined
    if (unknown !== undefined) return [{ purpose: 'replay', operation: unknown }]
    const earlier = this.#acknowledged[Math.floor(draw() * this.#acknowledged.length)]
    if (earlier === undefined) return undefined

    const { id, ...place } = earlier
    const { customer } = place
    switch (kind) {
      case 'replay': return [{ purpose: 'replay', operation: place }]
      case 'reuse': return [{ purpose: 'reuse', operation: { ...place, order: another(place.order) } }]
      case 'read': return [{ purpose: 'read', operation: { kind, customer, id } }]
      case 'transition': {
        const pay = { purpose: kind, operation: { kind: 'pay', customer, id } } as const
        const cancel = { purpose: kind, operation: { kind: 'cancel', customer, id } } as const
        const which = draw()
        return which < 0.4 ? [pay] : which < 0.7 ? [cancel] : [pay, cancel]
      }
      default: return undefined
    }
  }

  /** Each in its turn, until it is acknowledged. */
  #nextUnknown (): Place | undefined {
    const [next] = this.#unknown
    if (next === undefined) return undefined
    this.#unknown.delete(next[0])
    this.#unknown.set(...next)
    return next[1]
  }

  #fresh (kind: Kind, number: number, draw: Draw): Planned[] {
    const operation: Place = {
      kind: 'place',
      customer: pick(this.customers, draw),
      key: `${this.#seed}-${number}`,
      order: { ...this.#basket(kind, draw), ...draw() < 0.25 && { reference: `reference ${number}` } }
    }
    switch (kind) {
      case 'hot':
      case 'scarce': return [{ purpose: kind, operation }]
      case 'twin': return [{ purpose: kind, operation }, { purpose: kind, operation }]
      // About as long as an answer takes: some go before it, some after.
      case 'hang-up': return [{ purpose: kind, operation, manner: { hangUpAfter: draw() * 40 } }]
      case 'slow-body': return [{ purpose: kind, operation, manner: { bodyPause: 5 + draw() * 200 } }]
      default: return [{ purpose: 'new', operation }]
    }
  }

  #basket (kind: Kind, draw: Draw): Pick<OrderAsked, 'currency' | 'items'> {
    const [hot] = this.#plentiful
    const first = kind === 'hot' && hot !== undefined ? hot : pick(kind === 'scarce' ? this.#scarce : this.#plentiful, draw)
    const products = new Set([first])
    // With a scarce one goes one that is not: when the first runs out, the other must not be taken either.
    const others = kind === 'scarce' ? 1 : Math.floor(draw() * 3)
    for (let i = 0; i < others; i++) {
      const other = pick(this.#plentiful, draw)
      if (other.currency === first.currency) products.add(other)
    }
    return {
      currency: first.currency,
      items: [...products].map(({ sku }) => ({ sku, quantity: 1 + Math.floor(draw() * 3) }))
    }
  }
}

function another (order: OrderAsked): OrderAsked {
  return { ...order, items: order.items.map(({ sku, quantity }) => ({ sku, quantity: quantity + 1 })) }
}

function pick<T> (from: readonly T[], draw: Draw): T {
  const picked = from[Math.floor(draw() * from.length)]
  if (picked === undefined) throw new Error('There is nothing to pick from.')
  return picked
}
