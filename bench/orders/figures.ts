import { quantile } from '../drain/ratio.ts'

/** One of a thousand products by chance, or the same one in every order. */
export const productsKinds = ['uniform', 'hot'] as const
export type Products = typeof productsKinds[number]

/** The figures of one contestant under one load. */
export interface Figures {
  /** Acknowledged orders per second. */
  readonly rate: number
  readonly p50Ms: number
  readonly p99Ms: number
  /** CPU time per order, in µs, by process. null: the load generator is the only program beside Postgres. */
  readonly cpuUs: { readonly service: number | null, readonly postgres: number, readonly load: number }
}

/** The figures of one round. */
export interface Measurement extends Figures {
  readonly contestant: string
  readonly clients: number
  readonly products: Products
  readonly round: number
}

/** One contestant beside the others: medians over the rounds. */
export interface Standing extends Figures {
  readonly contestant: string
  /** The order service's rate in multiples of this one's: the median of the rounds' ratios. undefined if no round has both. */
  readonly ratio: number | undefined
}

export type Compared = 'rate' | 'p50Ms' | 'p99Ms'
export const subject = 'last-orders'

/** The contestants at one number of clients and one kind of products, the fastest first. */
export function standings (measurements: readonly Measurement[], clients: number, products: Products): Standing[] {
  const here = measurements.filter(measurement => measurement.clients === clients && measurement.products === products)
  return Map.groupBy(here, ({ contestant }) => contestant).entries().map(([contestant, rounds]) => ({
    contestant,
    ...medianOf(rounds),
    ratio: ratioTo(contestant, here, 'rate')
  })).toArray().sort((a, b) => b.rate - a.rate)
}

/** The order service's figure in multiples of the peer's: the median over the rounds that have both. */
export function ratioTo (peer: string, measurements: readonly Measurement[], figure: Compared): number | undefined {
  const ratios = [...Map.groupBy(measurements, ({ round }) => round).values()].flatMap(round => {
    const ours = round.find(({ contestant }) => contestant === subject)
    const theirs = round.find(({ contestant }) => contestant === peer)
    return ours === undefined || theirs === undefined ? [] : [ours[figure] / theirs[figure]]
  })
  return ratios.length === 0 ? undefined : median(ratios)
}

/** The median of each figure by itself. */
export function medianOf (rounds: readonly Figures[]): Figures {
  return {
    rate: median(rounds.map(({ rate }) => rate)),
    p50Ms: median(rounds.map(({ p50Ms }) => p50Ms)),
    p99Ms: median(rounds.map(({ p99Ms }) => p99Ms)),
    cpuUs: {
      service: rounds.some(({ cpuUs }) => cpuUs.service === null) ? null : median(rounds.map(({ cpuUs }) => cpuUs.service ?? NaN)),
      postgres: median(rounds.map(({ cpuUs }) => cpuUs.postgres)),
      load: median(rounds.map(({ cpuUs }) => cpuUs.load))
    }
  }
}

/** The middle value; of an even number of values the upper of the middle two. NaN without values. */
export function median (values: readonly number[]): number {
  return quantile(values.toSorted((a, b) => a - b), 0.5)
}

export function sum (values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
