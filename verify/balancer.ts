import { HAProxy } from './balancers/haproxy.ts'
import { Nginx } from './balancers/nginx.ts'
import { missing } from './balancers/program.ts'
import type { Time } from './history.ts'

/** Each with the settings that `deploy` has for it, its retries off: a retry would hide what is to be found. */
const balancers = {
  'haproxy-http': { program: 'haproxy', start: async (options: BalancerOptions) => await HAProxy.start('http', options) },
  'haproxy-tcp': { program: 'haproxy', start: async (options: BalancerOptions) => await HAProxy.start('tcp', options) },
  nginx: { program: 'nginx', start: async (options: BalancerOptions) => await Nginx.start(options) }
} as const

export type BalancerName = keyof typeof balancers

export const balancerNames = Object.keys(balancers) as readonly BalancerName[]

export const usualBalancer: BalancerName = 'haproxy-http'

export interface BalancerOptions {
  /** The three of them, on 127.0.0.1. */
  readonly instances: ReadonlyArray<{ readonly port: number, readonly agentPort: number }>
  /** 2xx there: an instance may have traffic. */
  readonly readiness: string
  /** Where its settings and its log go. */
  readonly directory: string
}

export interface Balancer {
  readonly url: string
  /** Where it does not find out by itself: nothing new goes to this instance, soon. */
  takeOut: (index: number) => Promise<void>
  /**
   * Resolves with the moment when it routes to every instance, also to those that were taken out.
   *
   * @throws Error with the end of its log
   */
  allUp: () => Promise<Time>
  close: () => Promise<void>
}

/** Why it cannot be on this machine; undefined where it can. */
export function balancerMissing (name: BalancerName): string | undefined {
  return missing(balancers[name].program)
}

/** Starts it; no instance need run yet. */
export async function startBalancer (name: BalancerName, options: BalancerOptions): Promise<Balancer> {
  if (options.instances.length !== 3) throw new RangeError(`The settings below deploy are for three instances, not for ${options.instances.length}. No balancer was started.`)
  return await balancers[name].start(options)
}
