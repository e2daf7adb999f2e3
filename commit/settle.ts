import { setTimeout as delay } from 'node:timers/promises'
import { Attempt } from './attempt.ts'
import { failureOf, type Failure } from './failure.ts'

export type Settled<T> = T | { outcome: 'not-started' } | { outcome: 'outcome-unknown' }

/** The pause before a retry, in ms: 50, 100, 200, … 1,000. */
export function retryDelayMs (attempt: number): number {
  return Math.min(50 * 2 ** attempt, 1_000)
}

/** The attempts of a write that the database denies: less than a second in all. A failover may be just over, but no retry restores a missing right. */
export const denialsMax = 5

export interface SettleOptions<T> {
  /** The time for all attempts together, in ms. A statement under way then goes on: cancelling it would make its outcome less certain. */
  timeoutMs: number
  /** Whether the write may run again after an unknown outcome. */
  repeatable: boolean
  /**
   * Whether the retry's outcome also proves the first attempt's; else the outcome stays unknown. The state may have changed in
   * between, and "nothing was changed" would be untrue.
   */
  proves: (outcome: T) => boolean
  /** Called for each failed attempt. */
  onFailure: (error: unknown, failure: Failure) => void
}

/**
 * Runs a write until its outcome is known or the time is over.
 *
 * @throws the write's error, if the data is at fault
 */
export async function settle<T> (write: () => Promise<T>, { timeoutMs, repeatable, proves, onFailure }: SettleOptions<T>): Promise<Settled<T>> {
  const deadline = performance.now() + timeoutMs
  let uncertain = false
  let denials = 0

  for (let attempt = 0; ; attempt++) {
    const left = deadline - performance.now()
    if (left <= 0) return { outcome: uncertain ? 'outcome-unknown' : 'not-started' }
    const run = new Attempt()
    try {
      const timer = new AbortController()
      const outcome = await Promise.race([
        run.run(write),
        delay(left, timedOut, { signal: timer.signal }).catch(() => timedOut)
      ]).finally(() => timer.abort())
      if (outcome === timedOut) return { outcome: !run.giveUp() || uncertain ? 'outcome-unknown' : 'not-started' }
      return uncertain && !proves(outcome as T) ? { outcome: 'outcome-unknown' } : outcome as T
    } catch (error) {
      const failure = failureOf(error)
      onFailure(error, failure)
      if (failure === 'poisoned' && !uncertain) throw error
      if (failure === 'poisoned' || (failure === 'unknown' && !repeatable)) return { outcome: 'outcome-unknown' }
      uncertain ||= failure === 'unknown'
      if (failure === 'denied' && ++denials >= denialsMax && !uncertain) return { outcome: 'not-started' }
    }
    await delay(Math.max(0, Math.min(retryDelayMs(attempt), deadline - performance.now())))
  }
}

const timedOut = Symbol('timed out')
