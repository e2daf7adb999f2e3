import type { Settings } from './options.ts'
import { now, sleep } from './timers.ts'

/** Resolves when no request has arrived for `quiet` ms: not before `min`, not after `max`, and at once when `cut` aborts. */
export async function lameDuck (times: Settings['lameDuck'], lastArrival: () => number, cut: AbortSignal): Promise<void> {
  const start = now()
  while (!cut.aborted) {
    const quietFrom = Math.max(start + times.min, lastArrival() + times.quiet)
    const wait = Math.min(start + times.max, quietFrom) - now()
    if (wait <= 0) return
    // A timer may fire a fraction of a millisecond early; the loop then takes one more turn.
    await sleep(Math.ceil(wait), cut)
  }
}
