import type { Time } from '../history.ts'
import type { Exchange } from '../judge/told.ts'
import type { Fault } from '../verdict.ts'
import { Meetings } from './met.ts'
import { fate, fates, percentile, type Fate, type Slice } from './slices.ts'

/** Possible lengths of a slice, in s. */
const lengths = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600]
const slicesAtMost = 160

/** What is drawn of each request of the load: when it was due, its outcome, and its latency. Takes some bytes each, for millions of them. */
export class Drawing {
  readonly meetings: Meetings
  /** When the first request was due; Infinity if there was none. */
  beginning: Time = Infinity
  #length = 0
  #due = new Float64Array(1_024)
  /** ms; NaN without a whole answer. */
  #latencies = new Float64Array(1_024)
  #fates = new Uint8Array(1_024)

  /** @param faults the faults of the run, in sequence */
  constructor (faults: ReadonlyArray<Pick<Fault, 'at' | 'drainMs'>> = []) {
    this.meetings = new Meetings(faults)
  }

  /** Adds the requests of some customers, in any order. */
  add (exchanges: readonly Exchange[]): void {
    this.meetings.add(exchanges)
    for (const exchange of exchanges) {
      const { settling, invocation: { scheduled }, completion } = exchange
      if (settling) continue
      if (this.#length === this.#due.length) this.#grow()
      const isWhole = completion?.status !== undefined && completion.error === undefined
      this.beginning = Math.min(this.beginning, scheduled)
      this.#due[this.#length] = scheduled
      this.#latencies[this.#length] = isWhole ? completion.at - scheduled : NaN
      this.#fates[this.#length] = fates.indexOf(fate(exchange))
      this.#length++
    }
  }

  /** @param duration length of the whole drawing, in s */
  slices (duration: number): Slice[] {
    const length = lengths.find(length => duration / length <= slicesAtMost) ?? duration / slicesAtMost
    const sliceOf = (i: number): number => Math.floor(((this.#due[i] ?? 0) - this.beginning) / 1_000 / length)
    const requests = Map.groupBy(Uint32Array.from({ length: this.#length }, (_, i) => i), sliceOf)
    return [...requests].sort(([a], [b]) => a - b).map(([number, due]) => {
      const counts: Record<Fate, number> = { served: 0, answered: 0, 'hung-up': 0, 'turned-away': 0, unknown: 0 }
      for (const i of due) counts[fates[this.#fates[i] ?? 0] ?? 'unknown']++
      const times = this.#sorted(due)
      return {
        from: number * length,
        to: (number + 1) * length,
        fates: counts,
        latency: times.length === 0 ? undefined : { p50: percentile(times, 0.5), p99: percentile(times, 0.99), max: percentile(times, 1) }
      }
    })
  }

  /** Latencies in ms, from the due time to the whole answer, sorted. */
  get latencies (): Float64Array {
    return this.#latencies.subarray(0, this.#length).filter(ms => !Number.isNaN(ms)).sort()
  }

  #sorted (requests: readonly number[]): Float64Array {
    return Float64Array.from(requests, i => this.#latencies[i] ?? NaN).filter(ms => !Number.isNaN(ms)).sort()
  }

  #grow (): void {
    const twice = 2 * this.#length
    const [due, latencies, fates] = [new Float64Array(twice), new Float64Array(twice), new Uint8Array(twice)]
    due.set(this.#due)
    latencies.set(this.#latencies)
    fates.set(this.#fates)
    this.#due = due
    this.#latencies = latencies
    this.#fates = fates
  }
}
