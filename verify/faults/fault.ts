import type { ConsumerProcess } from '../consumer-process.ts'
import type { GatewayProcess } from '../gateway-process.ts'
import type { Time } from '../history.ts'
import type { Struck } from '../judge/evidence.ts'
import type { Mix } from '../load/mix.ts'
import type { Cluster } from '../postgres/cluster.ts'
import type { PatroniCluster } from '../postgres/patroni.ts'
import type { Proxy } from '../proxy.ts'
import type { ServiceInstance } from '../service/instance.ts'
import type { Target } from '../target.ts'

/**
 * One kind of fault. The run calls `strike` again and again, with a rest before each, until its time is over. After each
 * `strike` everything is repaired: instances ready, the database up, the proxy open.
 */
export interface Scenario {
  /** The kind of its faults, or the beginning of it: `brownout:cut-answers`. */
  readonly name: string
  readonly needs: Needs
  /** What it strikes. Two faults at once must strike two things, because each repairs its own. Absent: it combines with no other. */
  readonly strikes?: 'service' | 'database' | 'broker' | 'clock'
  /** Whether it promises that no request fails. */
  readonly invisible?: boolean
  /** Default shares of the load that differ from the usual ones. */
  readonly mix?: Partial<Mix>
  /** The least time that the stored data gets to come to rest, in ms. */
  readonly restLimitMs?: number
  /** Undisturbed load before each strike, in ms: a seeded choice between the two. */
  readonly rest: readonly [from: number, to: number]
  /** One fault, or one round of them, from the blow until everything is repaired. */
  strike: (world: World) => Promise<void>
}

/** What the run has to provide for it, in addition to one instance of the service. */
export interface Needs {
  /** Default 1. More than one are behind a balancer. */
  readonly instances?: number
  /**
   * `direct`: a database of the harness. `proxied`: the service reaches it through a proxy. `replicated`: it also has a
   * synchronous standby. `patroni`: Patroni runs the database in place of the harness.
   */
  readonly database?: 'direct' | 'proxied' | 'replicated' | 'patroni'
  /** The disk of each server can be full. */
  readonly volume?: boolean
  /** Its Postgres is that of Debian, which has pg_dump and psql. */
  readonly dump?: boolean
  /** The clock of each instance can be set. */
  readonly clock?: boolean
  /** The target must send its events to the harness's consumer. */
  readonly consumer?: boolean
  /** The target must charge through the harness's gateway. */
  readonly gateway?: boolean
}

export interface World {
  /** The requests of the service. */
  readonly target: Pick<Target, 'request' | 'stream' | 'readiness' | 'hostile'>
  /** All instances are ready when a strike begins. */
  readonly instances: readonly ServiceInstance[]
  readonly database: Database | undefined
  /** Instead of `database`. */
  readonly patroni: PatroniCluster | undefined
  /** The consumer of events, if the target uses one. */
  readonly consumer: ConsumerProcess | undefined
  /** The payment gateway, if the scenario needs it. */
  readonly gateway: GatewayProcess | undefined
  /** Call before a stop: tells the balancer, if that cannot find out by itself. Holds until `allReady`. */
  takeOut: (instance: ServiceInstance) => Promise<void>
  /** Starts a stopped instance; resolves when it is ready. */
  start: (instance: ServiceInstance) => Promise<void>
  /** Resolves with the moment at which every instance is ready and the balancer, if there is one, routes to all of them. */
  allReady: () => Promise<Time>
  /**
   * Call just before the blow: sends many requests at once, and resolves a few ms later, when some of them are under way. A
   * fault that hits no request proves nothing.
   */
  burst: () => Promise<void>
  /** Random numbers from 0 to 1, the same for the same seed. */
  readonly random: () => number
  /** Call once for each fault, when everything about it is known. */
  record: (fault: Struck) => void
  /** Prints a line. A recorded fault has one already. */
  progress: (line: string) => void
}

/** Combines the needs of several faults. */
export function strongest (scenarios: readonly Scenario[]): Needs {
  const needs = scenarios.map(({ needs }) => needs)
  const database = (['patroni', 'replicated', 'proxied', 'direct'] as const).find(kind => needs.some(({ database }) => database === kind))
  return {
    instances: Math.max(...needs.map(({ instances = 1 }) => instances)),
    ...database !== undefined && { database },
    ...needs.some(({ consumer }) => consumer) && { consumer: true },
    ...needs.some(({ gateway }) => gateway) && { gateway: true },
    ...needs.some(({ volume }) => volume) && { volume: true },
    ...needs.some(({ dump }) => dump) && { dump: true },
    ...needs.some(({ clock }) => clock) && { clock: true }
  }
}

/** The service goes through the proxy only if the scenario needs it. */
export interface Database {
  readonly cluster: Cluster
  readonly proxy: Proxy
}

/** The proxy of a scenario that needs one. */
export function databaseOf ({ database }: World): Database {
  if (database === undefined) throw new Error('The scenario has no database to strike; its `needs` must name one.')
  return database
}

/** A whole number, both bounds included. */
export function between (random: () => number, [from, to]: readonly [from: number, to: number]): number {
  return from + Math.floor(random() * (to - from + 1))
}

/** Chooses like `oneOf`, but none twice before each had its turn, so that a short run shows as many kinds as possible. */
export function inTurn<T> (things: readonly T[]): (world: World) => T {
  const left = new WeakMap<World, T[]>()
  return world => {
    const waiting = left.get(world) ?? []
    if (waiting.length === 0) waiting.push(...things)
    left.set(world, waiting)
    const chosen = oneOf(waiting, world.random)
    waiting.splice(waiting.indexOf(chosen), 1)
    return chosen
  }
}

export function oneOf<T> (things: readonly T[], random: () => number): T {
  const thing = things[between(random, [0, things.length - 1])]
  if (thing === undefined) throw new RangeError('There is nothing to choose from.')
  return thing
}
