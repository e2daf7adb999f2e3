import { HAProxy } from './balancers/haproxy.ts'
import { Nginx } from './balancers/nginx.ts'
import { missing } from './program.ts'
import type { Time } from './history.ts'

/** Each has its settings from `deploy`, but with retries off: a retry would hide lost requests. */
const balancers = {
  'haproxy-http': { program: 'haproxy', start: async (options: BalancerOptions) => await HAProxy.start('http', options) },
  'haproxy-tcp': { program: 'haproxy', start: async (options: BalancerOptions) => await HAProxy.start('tcp', options) },
  nginx: { program: 'nginx', start: async (options: BalancerOptions) => await Nginx.start(options) }
} as const

export type BalancerName = keyof typeof balancers

export const balancerNames = Object.keys(balancers) as readonly BalancerName[]

export const usualBalancer: BalancerName = 'haproxy-http'

export interface BalancerOptions {
  /** The three instances, on 127.0.0.1. */
  readonly instances: ReadonlyArray<{ readonly port: number, readonly agentPort: number }>
  /** An instance that answers this path with 2xx may get traffic. */
  readonly readiness: string
  /** The folder for its settings and its log. */
  readonly directory: string
}

export interface Balancer {
  readonly url: string
  /** Takes this instance out if the balancer does not find out by itself: soon it gets no new requests. */
  takeOut: (index: number) => Promise<void>
  /**
   * Resolves with the moment at which it routes to every instance, those that were taken out included.
   *
   * @throws Error with the end of its log
   */
  allUp: () => Promise<Time>
  close: () => Promise<void>
}

/** Why the balancer cannot run on this machine; undefined if it can. */
export function balancerMissing (name: BalancerName): string | undefined {
  return missing(balancers[name].program)
}

/** Starts it; no instance need run yet. */
export async function startBalancer (name: BalancerName, options: BalancerOptions): Promise<Balancer> {
  if (options.instances.length !== 3) throw new RangeError(`The settings below deploy are for three instances, not for ${options.instances.length}. No balancer was started.`)
  return await balancers[name].start(options)
}
