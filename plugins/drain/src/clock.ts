import { now, setTimeout } from './timers.ts'

/** How far the clock may be behind, in ms, while the loop is not blocked. */
const stepMs = 10

/**
 * `performance.now()`, read at most once in ten milliseconds: a read for each request would cost as much as everything
 * else that this plugin does for it. No timer runs while nothing asks.
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
      if (this.#timer === undefined) this.#timer = setTimeout(() => { this.#fresh = false }, stepMs).unref()
      else this.#timer.refresh()
    }
    return this.#now
  }

  /** From now on each call reads the time: a stop needs it exactly. */
  readAlways (): void {
    this.#always = true
  }
}
