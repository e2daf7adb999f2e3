import rateLimit, { type FastifyRateLimitStore } from '@fastify/rate-limit'
import { Counter } from '@prometheus-io/client'
import fp from 'fastify-plugin'
import { holderOf, type TrustedProxies } from './client-address.ts'
import { Problem } from './errors.ts'
import { openSharedCounts, type Count } from './shared-counts.ts'
import type { FastifyInstance } from 'fastify'

const windowMs = 60_000

/** How long the store is left alone after a failure, in ms: if it hangs, only few requests may wait for it. */
const awayMs = 1_000

export interface RateLimitOptions {
  /** The current limit: requests per minute of one customer, or of one address without a token; undefined: no limit. */
  perMinute: () => number | undefined
  /** A Redis in which all instances count together; undefined: each counts by itself. */
  store: string | undefined
  proxies: TrustedProxies
}

/**
 * Limits the requests of one customer. While the shared store is away, each instance counts by itself, so that an outage of the
 * store is not an outage of the service.
 */
export default fp<RateLimitOptions>(async (app, { perMinute, store, proxies }) => {
  const counts = store === undefined ? undefined : await sharedCounts(app, store)

  await app.register(rateLimit, {
    global: true,
    hook: 'preHandler',
    max: () => perMinute() ?? Infinity,
    timeWindow: windowMs,
    // The prefix, because a customer's name may look like an address.
    keyGenerator: request => request.customer === '' ? `address ${holderOf(proxies.clientOf(request.raw))}` : `customer ${request.customer}`,
    allowList: request => perMinute() === undefined || request.routeOptions.config.probe === true,
    errorResponseBuilder: (_request, { after }) => new Problem('rate-limited', `There were more requests than the limit. Nothing was stored. Try again in ${after}.`),
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
  app.metrics.gauge('rate_limit_store_up', '1 while all instances count together; 0 while the store of the rate limit is away and each counts by itself', () => isAway ? 0 : 1)
  const alone = new Counter({ name: 'rate_limit_counted_alone_total', help: 'Requests that this instance counted by itself because the store of the rate limit was away', registers: app.metrics.registers })

  return {
    /** Never rejects. Always counts here, too, so that an outage does not begin at zero. */
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
          if (!isAway) app.log.warn({ err: error }, 'The store of the rate limit is away. Each instance counts by itself until it is back. No request is refused because of that.')
          isAway = true
        }
      }
      alone.inc()
      return count
    }
  }
}

/** The most recently used keys are kept. */
const keysMax = 10_000

class OwnCounts {
  readonly #windows = new Map<string, { current: number, endsAt: number }>()

  add (key: string): Count {
    const now = performance.now()
    let window = this.#windows.get(key)
    if (window === undefined || window.endsAt <= now) window = { current: 0, endsAt: now + windowMs }
    window.current++
    // Moves it to the end: the first key is then the least recently used.
    this.#windows.delete(key)
    this.#windows.set(key, window)
    const [first] = this.#windows.keys()
    if (this.#windows.size > keysMax && first !== undefined) this.#windows.delete(first)
    return { current: window.current, ttl: window.endsAt - now }
  }
}
