import timers from 'node:timers'

// Taken once: a test that mocks timers or the time must not keep a stop from ending.
export const { setTimeout, clearTimeout, setInterval, clearInterval, setImmediate } = timers

/** ms, monotonic. */
export const now = performance.now.bind(performance)

/** Resolves in the next turn of the event loop. */
export function turn (): Promise<void> {
  return new Promise(resolve => { setImmediate(resolve) })
}

/** Resolves after `ms`, or as soon as the signal aborts. */
export function sleep (ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    const timer = setTimeout(done, ms)
    signal?.addEventListener('abort', done, { once: true })
    function done (): void {
      clearTimeout(timer)
      signal?.removeEventListener('abort', done)
      resolve()
    }
  })
}
