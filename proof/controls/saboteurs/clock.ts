import type { Saboteur } from './saboteur.ts'
import { wrap } from './wrap.ts'

/** A clock that runs wrong in a running process. */
export const clocks = {
  // It gains a minute per second, so that the same moment never reads the same twice.
  'clock-drifts': {
    install ({ did }) {
      did('')
      const startedAt = performance.now()
      wrap(Date.prototype, 'toISOString', (toISOString, args, date) => {
        if (!(date instanceof Date)) return toISOString(args)
        const time = date.getTime()
        try {
          date.setTime(time + 60 * (performance.now() - startedAt))
          return toISOString(args)
        } finally {
          date.setTime(time)
        }
      })
    }
  }
} as const satisfies Record<string, Saboteur>
