import rateLimit, { type FastifyRateLimitStore } from '@fastify/rate-limit'
import { Counter } from '@prometheus-io/client'
import fp from 'fastify-plugin'
import { holderOf, type TrustedProxies } from './client-address.ts'
import { Problem } from './errors.ts'
import { openSharedCounts, type Count } from './shared-counts.ts'
import type { FastifyInstance } from 'fastify'

const windowMs = 60_000

/** After a failure, how long the store is not asked, in ms: where it hangs, not every request may wait for it. */
const awayMs = 1_000

export interface RateLimitOptions {
  /** Requests a minute of one customer, or of one address without a token, at this moment; undefined: no limit. */
  perMinute: () => number | undefined
  /** A Redis in which all instances count together; undefined: each counts by itself. */
  store: string | undefined
  proxies: TrustedProxies
}

/**
 * How much one customer may ask. Where the shared store is away, each instance goes on by its own count, and takes requests as
 * before: an outage of the store is none of the service.
 */
export default fp<RateLimitOptions>(async (app, { perMinute, store, proxies }) => {
  const counts = store === undefined ? undefined : await sharedCounts(app, store)

  await app.register(rateLimit, {
    global: true,
    hook: 'preHandler',
    max: () => perMinute() ?? Infinity,
    timeWindow: windowMs,
    // A customer may be called like an address.
    keyGenerator: request => request.customer === '' ? `address ${holderOf(proxies.clientOf(request.raw))}` : `customer ${request.customer}`,
    allowList: request => perMinute() === undefined || request.routeOptions.config.probe === true,
    errorResponseBuilder: (_request, { after }) => new Problem('rate-limited', `More requests than the limit; try again in ${after}. Nothing was stored.`),
    ...counts !== undefined && {
      store: class implements FastifyRateLimitStore {
        incr (key: string, callback: (error: Error | null, result?: Count) => void): void {
          void counts.add(key).then(count => callback(null, count))
        }

        child (): FastifyRateLimitStore {
          return this
        }
      }
    }
  })
}, { name: 'rate-limit', fastify: '5.x', dependencies: ['metrics'] })

async function sharedCounts (app: FastifyInstance, store: string) {
  const shared = await openSharedCounts(store, windowMs)
  app.addHook('onClose', async () => shared.close())
  const own = new OwnCounts()
  let isAway = false
  let awayUntil = -Infinity
  app.metrics.gauge('rate_limit_store_up', '1 while all instances count together; 0 while each counts by itself, as the store of the rate limit is away', () => isAway ? 0 : 1)
  const alone = new Counter({ name: 'rate_limit_counted_alone_total', help: 'Requests that this instance counted by itself, as the store of the rate limit was away', registers: app.metrics.registers })

  return {
    /** Never rejects. Counts here as well, so that an outage does not begin at nothing. */
    async add (key: string): Promise<Count> {
      const count = own.add(key)
      if (performance.now() >= awayUntil) {
        try {
          const found = await shared.add(key)
          if (isAway) app.log.info('The store of the rate limit is back. All instances count together.')
          isAway = false
          return found
        } catch (error) {
          awayUntil = performance.now() + awayMs
          if (!isAway) app.log.warn({ err: error }, 'The store of the rate limit is away. Each instance counts by itself until it is back; nobody is refused for that.')
          isAway = true
        }
      }
      alone.inc()
      return count
    }
  }
}

/** Of those who asked last. */
const keysMax = 10_000

class OwnCounts {
  readonly #windows = new Map<string, { current: number, endsAt: number }>()

  add (key: string): Count {
    const now = performance.now()
    let window = this.#windows.get(key)
    if (window === undefined || window.endsAt <= now) window = { current: 0, endsAt: now + windowMs }
    window.current++
    // Behind the others, so that the first one is that which was not used for longest.
    this.#windows.delete(key)
    this.#windows.set(key, window)
    const [first] = this.#windows.keys()
    if (this.#windows.size > keysMax && first !== undefined) this.#windows.delete(first)
    return { current: window.current, ttl: window.endsAt - now }
  }
}
