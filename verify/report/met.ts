import type { Time } from '../history.ts'
import type { Exchange } from '../judge/told.ts'
import type { Fault } from '../verdict.ts'
import { fate } from './slices.ts'
import { asked, told } from './words.ts'

/** The outcome of a request that met a stop, as its client saw it. */
export const endings = ['answered', 'refused', 'unsure', 'cut', 'reset', 'left'] as const
export type Ending = typeof endings[number]

export interface Met {
  /** ms from the signal: when its bytes were sent, and when it ended; undefined if it never did. */
  readonly from: number
  readonly to: number | undefined
  readonly ending: Ending
  readonly says: string
}

export interface Meeting {
  /** The index of the stop among the faults. */
  readonly index: number
  /** In the sequence of their sending. */
  readonly met: readonly Met[]
  /** The number of all requests, including those that are not drawn. */
  readonly count: number
  /** Requests that could not connect any more, because nothing listened. */
  readonly notReached: number
}

/** The most requests that are drawn for one stop. */
const drawnAtMost = 150
/** The most stops that are drawn in one report. */
const stopsAtMost = 8

interface Stop {
  readonly index: number
  readonly at: Time
  readonly end: Time
  readonly met: Met[]
  count: number
  notReached: number
}

/** The requests that each stop met: in flight at its signal, or sent before its exit. */
export class Meetings {
  /** Sorted by time. */
  readonly #stops: readonly Stop[]

  constructor (faults: ReadonlyArray<Pick<Fault, 'at' | 'drainMs'>>) {
    this.#stops = faults
      .flatMap(({ at, drainMs }, index) => drainMs === null ? [] : [{ index, at, end: at + drainMs, met: [], count: 0, notReached: 0 }])
      .sort((a, b) => a.at - b.at)
  }

  /** Adds the requests of some customers, in any order. */
  add (exchanges: readonly Exchange[]): void {
    if (this.#stops.length === 0) return
    for (const exchange of exchanges) {
      const { settling, invocation, completion } = exchange
      if (settling) continue
      for (const stop of this.#stops) {
        if (stop.end < invocation.at) continue
        if (stop.at > (completion?.at ?? Infinity)) break
        meets(stop, exchange)
      }
    }
  }

  /** The stops that cut the most requests, then those that met the most; in sequence. */
  get shown (): Meeting[] {
    const cut = ({ met }: Stop): number => met.filter(({ ending }) => ending === 'cut').length
    return this.#stops.filter(({ count }) => count > 0)
      .toSorted((a, b) => cut(b) - cut(a) || b.count - a.count).slice(0, stopsAtMost).sort((a, b) => a.at - b.at)
      .map(({ index, met, count, notReached }) => ({ index, count, notReached, met: met.toSorted((a, b) => a.from - b.from) }))
  }
}

function meets (stop: Stop, exchange: Exchange): void {
  const { invocation, completion } = exchange
  if (completion?.type === 'fail' && completion.status === undefined) {
    stop.notReached++
    return
  }
  stop.count++
  const ending = endingOf(exchange)
  // Cut requests are always drawn.
  if (stop.met.length >= drawnAtMost && ending !== 'cut') return
  const from = (completion?.sent ?? invocation.at) - stop.at
  const to = completion === undefined ? undefined : completion.at - stop.at
  const ms = (time: number): string => `${Math.round(Math.abs(time))} ms ${time < 0 ? 'before' : 'after'} the signal`
  stop.met.push({ from, to, ending, says: `${asked(invocation)}: sent ${ms(from)}, ${told(completion)}${to === undefined ? '' : ` ${ms(to)}`}` })
}

function endingOf (exchange: Exchange): Ending {
  const { invocation, completion } = exchange
  if (completion?.status !== undefined && completion.error === undefined) {
    const which = fate(exchange)
    return which === 'turned-away' ? 'refused' : which === 'unknown' ? 'unsure' : 'answered'
  }
  if (invocation.purpose === 'hang-up' || completion?.error === 'timeout') return 'left'
  return completion?.error === 'closed' || completion?.error === 'cut' ? 'cut' : 'reset'
}
