/** How far behind it may be, in ms. */
const STEP_MS = 10

/**
 * `performance.now()`, read at most once in ten milliseconds: for each request it would cost as much as all the rest of
 * what this plugin does for one. Nothing runs while nobody asks.
 */
export class Clock {
  #now = 0
  #fresh = false
  #timer: NodeJS.Timeout | undefined

  now (): number {
    if (!this.#fresh) {
      this.#fresh = true
      this.#now = performance.now()
      if (this.#timer === undefined) this.#timer = setTimeout(() => { this.#fresh = false }, STEP_MS).unref()
      else this.#timer.refresh()
    }
    return this.#now
  }
}
