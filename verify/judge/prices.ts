import type { Circumstances } from './evidence.ts'
import { type Exchange, outcome } from './told.ts'

interface Write {
  readonly begun: number
  readonly ended: number
  readonly price: number
}

/** The possible prices of a product between two places in the record: while a price is being changed, it may be either. */
export class Prices {
  readonly #known = new Map<string, Known>()
  readonly #unknown = new Map<string, Write[]>()

  constructor ({ products }: Pick<Circumstances, 'products'>, { exchanges }: { readonly exchanges: readonly Exchange[] }) {
    const writes = new Map<string, Write[]>(products.map(({ sku, unitPrice }) => [sku, [{ begun: -1, ended: 0, price: unitPrice }]]))
    for (const exchange of exchanges) {
      const { operation } = exchange.invocation
      if ((operation.kind !== 'price' && operation.kind !== 'stock') || outcome(exchange) === 'fail') continue
      const { sku, unitPrice: price } = operation
      const { begun, ended } = exchange
      if (outcome(exchange) === 'ok' && ended !== undefined) writes.get(sku)?.push({ begun, ended, price })
      // The change may take effect at any time from then on.
      else this.#unknown.set(sku, [...this.#unknown.get(sku) ?? [], { begun, ended: Infinity, price }])
    }
    for (const [sku, of] of writes) this.#known.set(sku, knownOf(of))
  }

  /** Empty if there is no such product. */
  between (sku: string, from: number, to: number): Set<number> {
    const known = this.#known.get(sku)
    if (known === undefined) return new Set()
    const over = known.begunBefore(from)
    const prices = new Set<number>()
    for (let i = lastUpTo(known.byBegin, to, ({ begun }) => begun); i >= 0 && (known.endedUpTo[i] ?? 0) >= over; i--) {
      const write = known.byBegin[i]
      if (write !== undefined && write.ended >= over) prices.add(write.price)
    }
    for (const { begun, price } of this.#unknown.get(sku) ?? []) if (begun <= to) prices.add(price)
    return prices
  }
}

interface Known {
  readonly byBegin: readonly Write[]
  /** For each change, the latest end of it and all earlier ones. */
  readonly endedUpTo: readonly number[]
  /** The latest begin of the changes that had ended then: changes that ended before it were replaced. */
  begunBefore: (at: number) => number
}

function knownOf (writes: readonly Write[]): Known {
  const byBegin = writes.toSorted((a, b) => a.begun - b.begun)
  const byEnd = writes.toSorted((a, b) => a.ended - b.ended)
  const begunUpTo = runningMax(byEnd.map(({ begun }) => begun))
  return {
    byBegin,
    endedUpTo: runningMax(byBegin.map(({ ended }) => ended)),
    begunBefore: at => begunUpTo[lastUpTo(byEnd, at, ({ ended }) => ended)] ?? -1
  }
}

function runningMax (numbers: readonly number[]): number[] {
  let max = -Infinity
  return numbers.map(number => (max = Math.max(max, number)))
}

/** The index of the last number that is not greater, in a sorted list; -1 if there is none. */
export function lastUpTo<T> (sorted: ArrayLike<T>, limit: number, numberOf: (item: T) => number): number {
  let low = 0
  let high = sorted.length
  while (low < high) {
    const middle = (low + high) >>> 1
    const item = sorted[middle]
    if (item !== undefined && numberOf(item) <= limit) low = middle + 1
    else high = middle
  }
  return low - 1
}
