import type { FastifyBaseLogger } from 'fastify'
import { FST_ERR_DRAIN_TRACK } from './errors.ts'
import { describeError } from './report.ts'
import type { PendingWork } from './report.ts'
import { now } from './timers.ts'
import { isThenable } from './thenable.ts'

interface Work {
  readonly label: string
  readonly since: number
}

/** Background work that was passed to `track()`. */
export class TrackedWork {
  settled = 0
  readonly failed: Array<{ label: string, error: string }> = []
  abandoned: string[] = []
  readonly #log: FastifyBaseLogger
  readonly #changed: () => void
  readonly #pending = new Set<Work>()
  #recording = false

  constructor (log: FastifyBaseLogger, changed: () => void) {
    this.#log = log
    this.#changed = changed
  }

  get size (): number {
    return this.#pending.size
  }

  /** @throws FST_ERR_DRAIN_TRACK if it gets no promise: otherwise the stop would silently not wait. */
  track<T> (label: string, promise: Promise<T>): Promise<T> {
    if (!isThenable(promise)) throw new FST_ERR_DRAIN_TRACK(label, String(promise))
    const work = { label, since: now() }
    this.#pending.add(work)
    // The rejection handler also keeps work that nobody awaits from ending the process as an unhandled rejection.
    promise.then(() => this.#settle(work), (error: unknown) => {
      this.#log.error({ err: error, label }, 'tracked work failed')
      if (this.#recording && this.failed.length < 100) this.failed.push({ label, error: describeError(error) })
      this.#settle(work)
    })
    return promise
  }

  /** From here on, work that settles is counted for the report. */
  record (): void {
    this.#recording = true
  }

  abandon (): void {
    this.abandoned = [...this.#pending].map(work => work.label)
    this.#recording = false
    this.#pending.clear()
  }

  pending (): PendingWork[] {
    const time = now()
    return [...this.#pending].slice(0, 100).map(({ label, since }) => ({ label, age: Math.round(time - since) }))
  }

  #settle (work: Work): void {
    if (!this.#pending.delete(work)) return
    if (this.#recording) this.settled++
    this.#changed()
  }
}
