import type { Case } from './case.ts'
import type { Circumstances } from './evidence.ts'
import type { Overview } from './overview.ts'
import { lastUpTo } from './prices.ts'
import type { Attempt } from './told.ts'

/**
 * For one product: the quantities that orders took, from their place in the record on, and those of refused orders from their
 * end. Pairs of place and quantity.
 */
interface Takers { readonly begun: number[], readonly over: number[] }

/** An order that was refused as out of stock. */
interface Claim { readonly part: number, readonly attempt: Pick<Attempt, 'begun' | 'ended'>, readonly skus: readonly string[] }

/**
 * Checks that there was too little if an order was refused as out of stock. All orders that may have taken something until then
 * count, so the answer is known only when all were seen.
 */
export class Shortages {
  readonly #stocks: ReadonlyMap<string, number>
  readonly #takers = new Map<string, Takers>()
  readonly #claims: Claim[] = []
  #sums: ReadonlyMap<string, { readonly begun: SumUpTo, readonly over: SumUpTo }> | undefined

  constructor ({ products }: Circumstances, { catalogue }: Overview) {
    const stocks = new Map(products.map(({ sku, stock }) => [sku, stock]))
    // Products whose stock was set are not checked.
    for (const { invocation: { operation } } of catalogue) if (operation.kind === 'stock') stocks.delete(operation.sku)
    this.#stocks = stocks
  }

  /** Adds what the customers of a part took, and which of their orders were refused. */
  add ({ told: { orders } }: Case, part: number): void {
    for (const { attempts } of orders.values()) {
      const taken = new Map<string, number>()
      for (const attempt of attempts) {
        const { invocation: { operation } } = attempt
        if (operation.kind !== 'place') continue
        for (const { sku, quantity } of operation.order.items) taken.set(sku, Math.max(taken.get(sku) ?? 0, quantity))
        if (isShort(attempt)) {
          this.#claims.push({
            part,
            attempt: { begun: attempt.begun, ...attempt.ended !== undefined && { ended: attempt.ended } },
            skus: skusOf(attempt)
          })
        }
      }
      const refused = attempts.every(({ completion }) => completion?.type === 'fail')
      for (const [sku, quantity] of taken) {
        if (!this.#stocks.has(sku)) continue
        const of = this.#takers.get(sku) ?? { begun: [], over: [] }
        this.#takers.set(sku, of)
        of.begun.push(attempts[0]?.begun ?? 0, quantity)
        // A refused order takes nothing after its end.
        if (refused) of.over.push(Math.max(...attempts.map(({ ended = Infinity }) => ended)), quantity)
      }
    }
  }

  /** The parts with a refused order for which there was enough. */
  get suspects (): Set<number> {
    return new Set(this.#claims.flatMap(claim => this.#hadEnough(claim) ? claim.part : []))
  }

  /** Call for each of those parts. */
  falseIn ({ told: { exchanges }, findings }: Case): void {
    for (const exchange of exchanges) {
      const { invocation: { op, operation }, completion } = exchange
      if (operation.kind !== 'place' || !isShort(exchange) || !this.#hadEnough({ attempt: exchange, skus: skusOf(exchange) })) continue
      findings.add('falseRefusal', { customer: operation.customer, key: operation.key },
        `Request ${op} (place) of ${operation.customer} was refused as ${completion?.problem}: there was enough of everything, however many of the others had been served.`, exchange)
    }
  }

  #hadEnough ({ attempt, skus }: Pick<Claim, 'attempt' | 'skus'>): boolean {
    return skus.every(sku => (this.#leastLeft(sku, attempt) ?? -1) >= 0)
  }

  /**
   * The least quantity of a product that would have been left after serving an attempt, too: all that may have been sold until
   * then counts as sold, and returned stock does not count. Undefined if that is unknown.
   */
  #leastLeft (sku: string, { begun, ended = Infinity }: Claim['attempt']): number | undefined {
    this.#sums ??= new Map([...this.#takers].map(([sku, { begun, over }]) => [sku, { begun: sumsUpTo(begun), over: sumsUpTo(over) }]))
    const stock = this.#stocks.get(sku)
    const of = this.#sums.get(sku)
    return stock === undefined || of === undefined ? stock : stock - of.begun(ended) + of.over(begun)
  }
}

function isShort ({ completion }: Pick<Attempt, 'completion'>): boolean {
  return completion?.type === 'fail' && completion.problem === 'out-of-stock'
}

function skusOf ({ invocation: { operation } }: Pick<Attempt, 'invocation'>): string[] {
  return operation.kind === 'place' ? operation.order.items.map(({ sku }) => sku) : []
}

type SumUpTo = (limit: number) => number

/** The sum of all quantities up to a place in the record. */
function sumsUpTo (points: readonly number[]): SumUpTo {
  const order = Uint32Array.from({ length: points.length / 2 }, (_, i) => i).sort((a, b) => (points[2 * a] ?? 0) - (points[2 * b] ?? 0))
  const ats = Float64Array.from(order, i => points[2 * i] ?? 0)
  let sum = 0
  const sums = Float64Array.from(order, i => (sum += points[2 * i + 1] ?? 0))
  return limit => sums[lastUpTo(ats, limit, at => at)] ?? 0
}
