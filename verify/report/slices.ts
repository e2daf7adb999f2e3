import { answers } from '../judge/problems.ts'
import { type Exchange, outcome } from '../judge/told.ts'

/** The outcome of a request, as its client saw it, from best to worst. */
export const fates = ['served', 'answered', 'hung-up', 'turned-away', 'unknown'] as const
export type Fate = typeof fates[number]

/** Percentiles of requests with a whole answer, in ms. */
export interface Latency {
  readonly p50: number
  readonly p99: number
  readonly max: number
}

/** The requests that were due in one slice of the run. */
export interface Slice {
  /** s since the first request was due. */
  readonly from: number
  readonly to: number
  readonly fates: Readonly<Record<Fate, number>>
  /** Undefined if no request got an answer. */
  readonly latency: Latency | undefined
}

export function fate (exchange: Exchange): Fate {
  const { invocation, completion } = exchange
  if (outcome(exchange) === 'ok') return 'served'
  if (invocation.purpose === 'hang-up') return 'hung-up'
  if (outcome(exchange) === 'info') return 'unknown'
  return completion?.problem !== undefined && answers.has(completion.problem) ? 'answered' : 'turned-away'
}

/** The nearest rank, which is a measured time and not one between two. */
export function percentile (sorted: Float64Array, share: number): number {
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? 0
}
