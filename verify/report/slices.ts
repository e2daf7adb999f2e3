import type { Time } from '../history.ts'
import { answers } from '../judge/problems.ts'
import { type Exchange, outcome } from '../judge/told.ts'

/** What came of a request, as its client saw it; from the best to the worst. */
export const fates = ['served', 'answered', 'hung-up', 'turned-away', 'unknown'] as const
export type Fate = typeof fates[number]

/** Percentiles of requests that got a whole answer, in ms. */
export interface Latency {
  readonly p50: number
  readonly p99: number
  readonly max: number
}

/** The requests that were due in one slice of the run. */
export interface Slice {
  /** s from the first request that was due. */
  readonly from: number
  readonly to: number
  readonly fates: Readonly<Record<Fate, number>>
  /** Undefined where none got an answer. */
  readonly latency: Latency | undefined
}

/** s that a slice may be long. */
const lengths = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600]
const slicesAtMost = 160

/**
 * @param beginning when the first request was due
 * @param duration of all that is drawn, in s
 */
export function slices (exchanges: readonly Exchange[], beginning: Time, duration: number): Slice[] {
  const length = lengths.find(length => duration / length <= slicesAtMost) ?? duration / slicesAtMost
  const sorted = Map.groupBy(exchanges, ({ invocation }) => Math.floor((invocation.scheduled - beginning) / 1_000 / length))
  return [...sorted].sort(([a], [b]) => a - b).map(([number, due]) => {
    const counts: Record<Fate, number> = { served: 0, answered: 0, 'hung-up': 0, 'turned-away': 0, unknown: 0 }
    for (const exchange of due) counts[fate(exchange)]++
    const times = latencies(due)
    return {
      from: number * length,
      to: (number + 1) * length,
      fates: counts,
      latency: times.length === 0 ? undefined : { p50: percentile(times, 0.5), p99: percentile(times, 0.99), max: percentile(times, 1) }
    }
  })
}

export function fate (exchange: Exchange): Fate {
  const { invocation, completion } = exchange
  if (outcome(exchange) === 'ok') return 'served'
  if (invocation.purpose === 'hang-up') return 'hung-up'
  if (outcome(exchange) === 'info') return 'unknown'
  return completion?.problem !== undefined && answers.has(completion.problem) ? 'answered' : 'turned-away'
}

/** ms from when each was due to its whole answer, sorted. */
export function latencies (exchanges: readonly Exchange[]): Float64Array {
  return Float64Array.from(exchanges.flatMap(({ invocation, completion }) => {
    return completion?.status !== undefined && completion.error === undefined ? [completion.at - invocation.scheduled] : []
  })).sort()
}

/** The nearest rank: a time that was measured, not one between two. */
export function percentile (sorted: Float64Array, share: number): number {
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? 0
}
