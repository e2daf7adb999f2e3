import { now, setTimeout } from './timers.ts'

/** How far behind it may be, in ms, where the loop is not blocked. */
const STEP_MS = 10

/**
 * `performance.now()`, read at most once in ten milliseconds: for each request it would cost as much as all the rest of
 * what this plugin does for one. Nothing runs while nobody asks.
 */
export class Clock {
  #now = 0
  #fresh = false
  #timer: NodeJS.Timeout | undefined
  #always = false

  now (): number {
    if (this.#always) return now()
    if (!this.#fresh) {
      this.#fresh = true
      this.#now = now()
      if (this.#timer === undefined) this.#timer = setTimeout(() => { this.#fresh = false }, STEP_MS).unref()
      else this.#timer.refresh()
    }
    return this.#now
  }

  /** In a stop it counts. */
  readAlways (): void {
    this.#always = true
  }
}
