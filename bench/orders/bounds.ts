import { ratioTo, type Compared, type Measurement, type Products } from './figures.ts'

/** What the order service must show against a peer, at one number of clients. */
export interface Bound {
  readonly clients: number
  readonly products: Products
  readonly peer: string
  /** The least rate or the highest latency, in multiples of the peer's. */
  readonly figure: Compared
  readonly bound: number
  readonly aim?: number
}

export interface Verdict extends Bound {
  readonly ratio: number
  readonly held: boolean
}

/** The bounds that this project has set for itself. */
export const bounds: readonly Bound[] = [
  { clients: 256, products: 'uniform', peer: 'pgbench-statement', figure: 'rate', bound: 1, aim: 1.5 },
  { clients: 256, products: 'uniform', peer: 'pgbench-transaction', figure: 'rate', bound: 4, aim: 6 },
  { clients: 256, products: 'uniform', peer: 'gin', figure: 'rate', bound: 3.5, aim: 6 },
  { clients: 256, products: 'uniform', peer: 'prisma', figure: 'rate', bound: 15, aim: 25 },
  { clients: 256, products: 'uniform', peer: 'ceiling', figure: 'rate', bound: 0.5, aim: 0.7 },
  { clients: 256, products: 'hot', peer: 'pgbench-statement', figure: 'rate', bound: 5 },
  { clients: 256, products: 'hot', peer: 'pgbench-transaction', figure: 'rate', bound: 5 },
  { clients: 1, products: 'uniform', peer: 'pg', figure: 'p50Ms', bound: 2 },
  ...['pgbench-statement', 'pgbench-transaction', 'pg', 'gin', 'prisma'].map(peer =>
    ({ clients: 64, products: 'uniform', peer, figure: 'p99Ms', bound: 1 }) as const)
]

/** The bounds for which there are measurements. */
export function judge (measurements: readonly Measurement[]): Verdict[] {
  return bounds.flatMap(bound => {
    const here = measurements.filter(({ clients, products }) => clients === bound.clients && products === bound.products)
    const ratio = ratioTo(bound.peer, here, bound.figure)
    if (ratio === undefined) return []
    return [{ ...bound, ratio, held: bound.figure === 'rate' ? ratio >= bound.bound : ratio <= bound.bound }]
  })
}
