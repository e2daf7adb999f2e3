import { Dispatcher } from 'undici'
import type { Saboteur } from './saboteur.ts'
import { wrap } from './wrap.ts'

/** Saboteurs of the service's calls to its gateway. */
export const payments = {
  // It asks about a charge that cannot exist, and so acts as if it had not asked.
  'charge-without-asking': {
    install ({ did }) {
      wrap(Dispatcher.prototype, 'request', (request, args) => {
        const [asked, ...others] = args as [Dispatcher.RequestOptions, ...unknown[]]
        if (asked.method !== 'GET' || !asked.path.startsWith('/charges/')) return request(args)
        did('')
        return request([{ ...asked, path: `/charges/${crypto.randomUUID()}` }, ...others])
      })
    }
  }
} as const satisfies Record<string, Saboteur>
