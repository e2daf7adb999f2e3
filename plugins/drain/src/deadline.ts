import { clearTimeout, now, setTimeout } from './timers.ts'

/** The one time budget of a stop. It starts with the signal and is never extended. */
export class Deadline {
  readonly length: number
  /** Resolves when the time is up; never if the stop ends earlier. */
  readonly passed: Promise<void>
  readonly #aborter = new AbortController()
  #startedAt: number | undefined
  #timer: NodeJS.Timeout | undefined
  #pass!: () => void

  constructor (length: number) {
    this.length = length
    this.passed = new Promise(resolve => { this.#pass = resolve })
  }

  get signal (): AbortSignal {
    return this.#aborter.signal
  }

  start (): void {
    this.#startedAt = now()
    // Not unref'd: with a handler that holds no handle of the loop, the process would end as if the stop were clean.
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      this.#pass()
      this.#aborter.abort(new DOMException(`The stop has reached its deadline of ${this.length} ms`, 'TimeoutError'))
    }, this.length)
  }

  /** Whether the timer is set. */
  get timing (): boolean {
    return this.#timer !== undefined
  }

  /** ms since the start. */
  elapsed (): number {
    return this.#startedAt === undefined ? 0 : now() - this.#startedAt
  }

  /** ms; Infinity before the start. */
  remaining (): number {
    return this.#startedAt === undefined ? Infinity : Math.max(0, this.length - this.elapsed())
  }

  clear (): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }
}
