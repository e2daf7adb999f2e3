import { clearTimeout, now, setTimeout } from './timers.ts'

/** The one time budget of a stop. It starts with the signal and is never extended. */
export class Deadline {
  readonly length: number
  /** Resolves when the time is up; never, where the stop ends before. */
  readonly passed: Promise<void>
  readonly #aborter = new AbortController()
  #startedAt: number | undefined
  #timer: NodeJS.Timeout | undefined
  #pass!: () => void

  constructor (length: number) {
    this.length = length
    this.passed = new Promise((resolve) => { this.#pass = resolve })
  }

  get signal (): AbortSignal {
    return this.#aborter.signal
  }

  start (): void {
    this.#startedAt = now()
    // Not unref'd: a handler that waits for nothing the loop can see must not let the process end as if it were clean.
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      this.#pass()
      this.#aborter.abort(new DOMException(`The stop has reached its deadline of ${this.length} ms`, 'TimeoutError'))
    }, this.length)
  }

  /** Whether its timer is set. */
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
