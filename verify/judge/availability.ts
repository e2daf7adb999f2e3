import type { StopReport } from '../target.ts'
import type { Fault, Verdict } from '../verdict.ts'
import type { Circumstances } from './evidence.ts'
import { answers } from './problems.ts'
import { type Exchange, outcome, type Told } from './told.ts'

/** How available and how fast the service was. None of this is a promise about stored data. */
export class Availability {
  readonly #faults: Circumstances['faults']
  readonly #inFlight: number[]
  readonly #latencies: Float64Array[] = []
  readonly #operations: Record<string, Record<'ok' | 'fail' | 'info', number>> = {}
  #failed = 0

  constructor ({ faults }: Pick<Circumstances, 'faults'>) {
    this.#faults = faults
    this.#inFlight = faults.map(() => 0)
  }

  add ({ exchanges }: Pick<Told, 'exchanges'>): void {
    const load = exchanges.filter(({ settling }) => !settling)
    this.#failed += load.filter(failed).length
    this.#latencies.push(latencies(load))
    for (const [i, count] of inFlight(this.#faults, load).entries()) this.#inFlight[i] = (this.#inFlight[i] ?? 0) + count
    for (const exchange of exchanges) {
      const counts = this.#operations[exchange.invocation.purpose] ??= { ok: 0, fail: 0, info: 0 }
      counts[outcome(exchange)]++
    }
  }

  get result (): Pick<Verdict, 'faults' | 'failedRequests' | 'latency' | 'operations'> {
    return {
      faults: this.#faults.map(({ report, probes: _, ...fault }, i): Fault =>
        ({ ...fault, ...report && { reported: countsOf(report) }, inFlight: this.#inFlight[i] ?? 0 })),
      failedRequests: this.#failed,
      latency: percentiles(this.#latencies),
      operations: Object.fromEntries(Object.entries(this.#operations).sort(([a], [b]) => a < b ? -1 : 1))
    }
  }
}

function hungUp ({ invocation }: Exchange): boolean {
  return invocation.purpose === 'hang-up'
}

/**
 * Whether the request got no answer, or an answer that says that the service could not serve it. A client that hung up does not
 * count, nor one that was told where to ask.
 */
export function failed (exchange: Exchange): boolean {
  const { completion } = exchange
  if (hungUp(exchange) || outcome(exchange) === 'ok' || completion?.payment !== undefined) return false
  return !(completion?.type === 'fail' && completion.problem !== undefined && answers.has(completion.problem))
}

/** A client that hangs up waits for no answer, so a fault cannot hit its request. */
function inFlight (faults: Circumstances['faults'], load: readonly Exchange[]): number[] {
  const waiting = load.filter(exchange => !hungUp(exchange))
  const begun = Float64Array.from(waiting, ({ invocation }) => invocation.at).sort()
  const ended = Float64Array.from(waiting.flatMap(({ completion }) => completion?.at ?? [])).sort()
  return faults.map(({ at }) => countUpTo(begun, at) - countUpTo(ended, at))
}

function countsOf ({ requests }: StopReport): NonNullable<Fault['reported']> {
  return Object.fromEntries(Object.entries(requests).map(([name, { count }]) => [name, count]))
}

/** How many numbers of a sorted list are not greater. */
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

function latencies (load: readonly Exchange[]): Float64Array {
  return Float64Array.from(load.flatMap(({ invocation, completion }) => {
    const whole = completion?.status !== undefined && completion.error === undefined
    return whole ? completion.at - invocation.scheduled : []
  }))
}

function percentiles (parts: readonly Float64Array[]): Verdict['latency'] {
  const times = new Float64Array(parts.reduce((sum, { length }) => sum + length, 0))
  let length = 0
  for (const part of parts) {
    times.set(part, length)
    length += part.length
  }
  times.sort()
  // The nearest rank, which is a measured time and not one between two.
  const percentile = (share: number) => times[Math.max(0, Math.ceil(share * times.length) - 1)] ?? 0
  return { p50: percentile(0.5), p99: percentile(0.99), max: percentile(1) }
}
