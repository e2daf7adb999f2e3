import { setTimeout as delay } from 'node:timers/promises'
import { failureOf } from './failure.ts'

export type Settled<T> = T | { outcome: 'not-started' } | { outcome: 'outcome-unknown' }

/** How long to wait before a statement is tried again, in ms: 50, 100, 200, … 1,000. */
export function retryDelayMs (attempt: number): number {
  return Math.min(50 * 2 ** attempt, 1_000)
}

/**
 * Runs a write that may be repeated without harm until its outcome is known, or the time is over.
 *
 * @param timeoutMs for all attempts together. A statement under way then is left alone: cancelling a writer makes
 *   what it wrote less certain, not more.
 * @throws what the write threw, where the data is at fault
 */
export async function settle<T> (write: () => Promise<T>, timeoutMs: number): Promise<Settled<T>> {
  const deadline = performance.now() + timeoutMs
  let uncertain = false

  for (let attempt = 0; ; attempt++) {
    const left = deadline - performance.now()
    if (left <= 0) return { outcome: uncertain ? 'outcome-unknown' : 'not-started' }
    try {
      const timer = new AbortController()
      const outcome = await Promise.race([
        write(),
        delay(left, timedOut, { signal: timer.signal }).catch(() => timedOut)
      ]).finally(() => timer.abort())
      if (outcome !== timedOut) return outcome as T
      return { outcome: 'outcome-unknown' }
    } catch (error) {
      const failure = failureOf(error)
      if (failure === 'poisoned') throw error
      uncertain ||= failure === 'unknown'
    }
    await delay(Math.min(retryDelayMs(attempt), Math.max(0, deadline - performance.now())))
  }
}

const timedOut = Symbol('timed out')
