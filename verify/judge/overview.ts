import type { Line, Time } from '../history.ts'
import type { Feature, OrderStored, Snapshot } from '../target.ts'
import { stateOf } from './case.ts'
import type { Circumstances } from './evidence.ts'
import { Features } from './features.ts'
import { type Exchange, followPlaced, type Placed } from './told.ts'

/** How much of each product is sold, by the live orders of one read. */
export type Sold = ReadonlyMap<string, number>

/**
 * What concerns everybody, and so cannot be judged by the orders of some: gathered in one pass over all lines, in their
 * sequence, and over all stored data.
 */
export class Overview {
  /** Lines of the load and the settling. */
  length = 0
  /** When the first request was due; Infinity: none was. */
  beginning: Time = Infinity
  readonly #features: Features
  readonly #cancelled: string
  /** The changes of the catalogue, which are few. */
  readonly #catalogue: Placed[] = []
  readonly #open = new Set<string>()
  readonly #sold = { first: new Map<string, number>(), second: new Map<string, number>() }
  #exchanges: readonly Exchange[] | undefined

  constructor (circumstances: Circumstances) {
    this.#features = new Features(circumstances)
    this.#cancelled = stateOf({ evidence: circumstances }, 'cancelled')
  }

  line (placed: Placed): void {
    const { line, settling } = placed
    this.length = placed.at
    this.#features.line(line)
    if (line.type === 'invoke' && !settling) this.beginning = Math.min(this.beginning, line.scheduled)
    if (isOfCatalogue(line) || ('op' in line && line.type !== 'invoke' && this.#open.has(nameOf(line.op, settling)))) {
      this.#catalogue.push(placed)
      if (line.type === 'invoke') this.#open.add(nameOf(line.op, settling))
      else if ('op' in line) this.#open.delete(nameOf(line.op, settling))
    }
  }

  row (order: OrderStored, read: 'first' | 'second'): void {
    this.#features.row(order)
    if (order.status === this.#cancelled) return
    const sold = this.#sold[read]
    for (const { sku, quantity } of order.items) sold.set(sku, (sold.get(sku) ?? 0) + quantity)
  }

  get features (): ReadonlySet<Feature> {
    return this.#features.all
  }

  /** The changes of products by staff. */
  get catalogue (): readonly Exchange[] {
    this.#exchanges ??= followPlaced(this.#catalogue, this.length).exchanges
    return this.#exchanges
  }

  soldIn (read: 'first' | 'second'): Sold {
    return this.#sold[read]
  }
}

/** The overview of evidence in memory. */
export function overviewOf (
  circumstances: Circumstances,
  lines: Iterable<Placed>,
  { first, second }: { readonly first: Snapshot | undefined, readonly second: Snapshot | undefined }
): Overview {
  const overview = new Overview(circumstances)
  for (const line of lines) overview.line(line)
  for (const order of first?.orders ?? []) overview.row(order, 'first')
  for (const order of second?.orders ?? []) overview.row(order, 'second')
  return overview
}

function isOfCatalogue (line: Line): boolean {
  if (line.type !== 'invoke') return false
  const { kind } = line.operation
  return kind === 'product' || kind === 'price' || kind === 'restock' || kind === 'stock'
}

/** Each of the two files may number its operations anew. */
function nameOf (op: number, settling: boolean): string {
  return `${settling} ${op}`
}
