import type { StopReport } from '../target.ts'
import type { Fault, Verdict } from '../verdict.ts'
import type { Evidence } from './evidence.ts'
import { answers } from './problems.ts'
import { type Exchange, outcome, type Told } from './told.ts'

/** How the service did apart from safety: none of this is a promise of what is stored. */
export function availability (evidence: Evidence, { exchanges }: Told): Pick<Verdict, 'faults' | 'failedRequests' | 'latency' | 'operations'> {
  const load = exchanges.filter(({ settling }) => !settling)
  return {
    faults: withInFlight(evidence.faults, load),
    failedRequests: load.filter(failed).length,
    latency: latency(load),
    operations: byPurpose(exchanges)
  }
}

function hungUp ({ invocation }: Exchange): boolean {
  return invocation.purpose === 'hang-up'
}

/** It got no answer, or one that says that the service could not; a client that hung up does not count. */
export function failed (exchange: Exchange): boolean {
  const { completion } = exchange
  if (hungUp(exchange) || outcome(exchange) === 'ok') return false
  return !(completion?.type === 'fail' && completion.problem !== undefined && answers.has(completion.problem))
}

/** A client that hangs up waits for nothing, so a fault cannot hit it. */
function withInFlight (faults: Evidence['faults'], load: readonly Exchange[]): Fault[] {
  const waiting = load.filter(exchange => !hungUp(exchange))
  const begun = Float64Array.from(waiting, ({ invocation }) => invocation.at).sort()
  const ended = Float64Array.from(waiting.flatMap(({ completion }) => completion?.at ?? [])).sort()
  return faults.map(({ report, ...fault }) => ({ ...fault, ...report && { reported: countsOf(report) }, inFlight: countUpTo(begun, fault.at) - countUpTo(ended, fault.at) }))
}

function countsOf ({ requests }: StopReport): NonNullable<Fault['reported']> {
  return Object.fromEntries(Object.entries(requests).map(([name, { count }]) => [name, count]))
}

/** How many of a sorted list are not greater. */
function countUpTo (times: Float64Array, limit: number): number {
  let low = 0
  let high = times.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((times[middle] ?? Infinity) <= limit) low = middle + 1
    else high = middle
  }
  return low
}

function latency (load: readonly Exchange[]): Verdict['latency'] {
  const times = Float64Array.from(load.flatMap(({ invocation, completion }) => {
    const whole = completion?.status !== undefined && completion.error === undefined
    return whole ? completion.at - invocation.scheduled : []
  })).sort()
  // The nearest rank: a time that was measured, not one between two.
  const percentile = (share: number) => times[Math.max(0, Math.ceil(share * times.length) - 1)] ?? 0
  return { p50: percentile(0.5), p99: percentile(0.99), max: percentile(1) }
}

function byPurpose (exchanges: readonly Exchange[]): Verdict['operations'] {
  const operations: Record<string, Record<'ok' | 'fail' | 'info', number>> = {}
  for (const exchange of exchanges) {
    const counts = operations[exchange.invocation.purpose] ??= { ok: 0, fail: 0, info: 0 }
    counts[outcome(exchange)]++
  }
  return operations
}
