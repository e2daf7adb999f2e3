import fp from 'fastify-plugin'
import { transitions } from '../orders/order.ts'
import type { FastifyRequest } from 'fastify'
import type { DrainReport } from 'fastify-drain'
import type { EndedRequest } from './request-telemetry.ts'

/** The window of figures for balancers, in s: short, so that they follow the load. */
const shortlyS = 5
/** Senders kept, and the longest user agent and route, in characters. */
const sendersMax = 8
const wordsMax = 120

export interface LastMinute {
  /** How much of it the process has lived, in seconds. */
  seconds: number
  /** Requests that ended, without probes and event streams. */
  requests: number
  /** Those with status 500 and above. */
  errors: number
  /** Requests to place or to move an order, by outcome. */
  orders: Record<string, number>
}

export interface Sender {
  /** The peer's address, mostly a balancer's. */
  peer: string
  userAgent: string | null
  requests: number
  /** The last request's. */
  method: string
  route: string
  /** ms since the last request. */
  age: number
}

/** Requests after the stop began, without probes: a balancer that has noticed the stop sends none. */
export interface Arrivals {
  requests: number
  perSecond: number
  /** ms since the last one; null: none came. */
  lastAge: number | null
  /** Newest first. */
  senders: Sender[]
}

export const waits = ['min', 'quiet', 'max', 'hooks', 'requests', 'work', 'resources'] as const

export interface Wait {
  /** min, quiet, max: the lame duck. hooks: the stop's. requests, work: begun requests and tracked work. resources: `app.close()`. */
  for: typeof waits[number]
  /** ms until it is over, if nothing changes; null: unknown. */
  left: number | null
  /** ms that it may last at most. */
  atMost: number
}

export interface LameDuck {
  readonly minMs: number
  readonly quietMs: number
  readonly maxMs: number
}

declare module 'fastify' {
  interface FastifyInstance {
    traffic: {
      lastMinute (): LastMinute
      /** The mean of the last few seconds. */
      requestsPerSecond (): number
      errorsPerSecond (): number
      arrivals (): Arrivals
      /** What the stop waits for; null: there is no stop, or it is over. */
      waiting (): Wait | null
      readonly lameDuck: LameDuck
    }
  }
}

/** The requests of the last minute and their outcomes; during a stop also what still arrives, and from where. In bounded memory. */
export default fp<{ lameDuck: LameDuck }>(async (app, { lameDuck }) => {
  const ended = new Minute()
  const arrived = new Minute()
  const senders = new Map<string, Omit<Sender, 'age'> & { at: number }>()
  let arrivals = 0
  let lastArrival: number | undefined

  app.requests.onEnd(request => {
    if (request.isProbe || request.isStream) return
    const second = ended.now()
    second.requests++
    if (request.status >= 500) second.errors++
    const outcome = outcomeOf(request)
    if (outcome !== undefined) second.outcomes[outcome] = (second.outcomes[outcome] ?? 0) + 1
  })

  app.addHook('onRequest', (request, _reply, done) => {
    // Routes that are served to the end (mostly probes) do not hold up the stop.
    if (isStopping() && request.routeOptions.config.drain !== 'serve') arrive(request)
    done()
  })

  function isStopping (): boolean {
    return app.drain.state === 'draining' || app.drain.state === 'closing'
  }

  function arrive (request: FastifyRequest): void {
    arrivals++
    lastArrival = performance.now()
    arrived.now().requests++
    const peer = request.raw.socket.remoteAddress ?? 'unknown'
    const userAgent = request.headers['user-agent']?.slice(0, wordsMax) ?? null
    const key = `${peer} ${userAgent}`
    const requests = (senders.get(key)?.requests ?? 0) + 1
    // Moves it to the end of the map.
    senders.delete(key)
    senders.set(key, { peer, userAgent, requests, method: request.method, route: (request.routeOptions.url ?? request.url.split('?', 1)[0] ?? '').slice(0, wordsMax), at: lastArrival })
    const [oldest] = senders.keys()
    if (senders.size > sendersMax && oldest !== undefined) senders.delete(oldest)
  }

  app.decorate('traffic', {
    lameDuck,
    lastMinute: () => ended.sum(60),
    requestsPerSecond () {
      const { requests, seconds } = ended.sum(shortlyS)
      return requests / seconds
    },
    errorsPerSecond () {
      const { errors, seconds } = ended.sum(shortlyS)
      return errors / seconds
    },
    arrivals () {
      const now = performance.now()
      const { requests, seconds } = arrived.sum(shortlyS)
      return {
        requests: arrivals,
        perSecond: requests / seconds,
        lastAge: lastArrival === undefined ? null : Math.round(now - lastArrival),
        senders: [...senders.values()].reverse().map(({ at, ...sender }) => ({ ...sender, age: Math.round(now - at) }))
      }
    },
    waiting: () => waitOf(app.drain.report(), lameDuck, lastArrival === undefined ? undefined : performance.now() - lastArrival)
  })
}, { name: 'traffic', fastify: '5.x', dependencies: ['request-telemetry', 'fastify-drain'] })

/** @param sinceArrival ms since the last request during the stop; undefined: none came */
export function waitOf (report: DrainReport, { minMs, quietMs, maxMs }: LameDuck, sinceArrival: number | undefined): Wait | null {
  const { state, phases, elapsed, remaining, requests, tracked, hooks } = report
  const untilDeadline = remaining ?? 0
  if (state === 'draining') {
    const since = elapsed - (phases.draining ?? 0)
    const min = minMs - since
    const max = maxMs - since
    // Arrivals before the stop are unknown here: one may have come right before it.
    const quiet = quietMs - Math.min(since, sinceArrival ?? since)
    const left = Math.max(0, Math.min(max, Math.max(min, quiet)))
    if (left === 0) return { for: 'hooks', left: null, atMost: untilDeadline }
    if (max <= Math.max(min, quiet)) return { for: 'max', left, atMost: max }
    return { for: min >= quiet ? 'min' : 'quiet', left, atMost: max }
  }
  if (state !== 'closing') return null
  const wait = requests.inFlight > 0 ? 'requests' : tracked.pending.length > 0 ? 'work' : hooks.some(({ outcome, name }) => outcome === 'running' && name !== 'app.close') ? 'hooks' : 'resources'
  return { for: wait, left: null, atMost: untilDeadline }
}

/** For a request to place or to move an order: the state that the order reached, `replayed`, or why it was refused. */
function outcomeOf ({ method, route, status, problem, errorType, reply }: EndedRequest): string | undefined {
  if (method !== 'POST' || route === undefined || !routesOfOrders.has(route)) return undefined
  if (status >= 300) return problem ?? errorType ?? String(status)
  if (route === '/orders') return reply.getHeader('idempotent-replayed') === undefined ? 'placed' : 'replayed'
  return routesOfOrders.get(route)
}

const routesOfOrders: ReadonlyMap<string, string> = new Map([
  ['/orders', 'placed'],
  ...Object.entries(transitions).map(([name, { to }]): [string, string] => [`/orders/:id/${name}`, to])
])

interface Second {
  at: number
  requests: number
  errors: number
  outcomes: Record<string, number>
}

/** Figures for each second of the last minute. */
class Minute {
  readonly #begun = performance.now()
  readonly #seconds: Second[] = []

  now (): Second {
    const at = Math.floor(performance.now() / 1_000)
    const second = this.#seconds[at % 60]
    if (second?.at === at) return second
    const begun = { at, requests: 0, errors: 0, outcomes: {} }
    this.#seconds[at % 60] = begun
    return begun
  }

  /** Includes the current second. */
  sum (lastSeconds: number): LastMinute {
    const now = performance.now()
    const from = Math.floor(now / 1_000) - lastSeconds
    const sum = { seconds: Math.min(lastSeconds, Math.max(1, (now - this.#begun) / 1_000)), requests: 0, errors: 0, orders: {} as Record<string, number> }
    for (const { requests, errors, outcomes } of this.#seconds.filter(({ at }) => at > from)) {
      sum.requests += requests
      sum.errors += errors
      for (const [outcome, count] of Object.entries(outcomes)) sum.orders[outcome] = (sum.orders[outcome] ?? 0) + count
    }
    return sum
  }
}
