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
 * One kind of fault. The run calls `strike` again and again, with a rest before each, until its time is over. Each
 * `strike` leaves the world mended: instances ready, the database up, the proxy letting through.
 */
export interface Scenario {
  /** Also the kind of its faults, or what that begins with: `brownout:cut-answers`. */
  readonly name: string
  readonly needs: Needs
  /** What it takes away. Two faults at once must take away two things, as each mends what it took. Absent: it goes with no other. */
  readonly strikes?: 'service' | 'database' | 'broker' | 'clock'
  /** It promises that no request fails. */
  readonly invisible?: boolean
  /** Shares of the load that differ from the usual ones, if nothing else is said. */
  readonly mix?: Partial<Mix>
  /** How long what is stored may take to come to rest at least, in ms. */
  readonly restLimitMs?: number
  /** Undisturbed load before each strike, in ms, from … to: a seeded choice. */
  readonly rest: readonly [from: number, to: number]
  /** One fault, or one round of them, from the blow until all is well again. */
  strike: (world: World) => Promise<void>
}

/** What the run has to make for it, beside one instance of the service. */
export interface Needs {
  /** Default 1. Before more than one there is a balancer. */
  readonly instances?: number
  /**
   * `direct`: a database of the harness's; `proxied`: the service reaches it through a proxy; `replicated`: and it has a synchronous
   * standby; `patroni`: one that Patroni runs, in the place of the harness's own.
   */
  readonly database?: 'direct' | 'proxied' | 'replicated' | 'patroni'
  /** The disk of each server can be full. */
  readonly volume?: boolean
  /** Its Postgres is Debian's, which has pg_dump and psql. */
  readonly dump?: boolean
  /** The clock of each instance can be set. */
  readonly clock?: boolean
  /** That the target hands its events to the harness's consumer. */
  readonly consumer?: boolean
  /** That the target asks the harness's gateway for money. */
  readonly gateway?: boolean
}

export interface World {
  /** How the service is asked. */
  readonly target: Pick<Target, 'request' | 'stream' | 'readiness' | 'hostile'>
  /** All are ready when a strike begins. */
  readonly instances: readonly ServiceInstance[]
  readonly database: Database | undefined
  /** Instead of `database`. */
  readonly patroni: PatroniCluster | undefined
  /** Where the events go, if the target hands them to one. */
  readonly consumer: ConsumerProcess | undefined
  /** Whom the service asks for money, where the scenario needs it. */
  readonly gateway: GatewayProcess | undefined
  /** Before it is stopped: tells the balancer, where that finds out by nothing else. Until `allReady`. */
  takeOut: (instance: ServiceInstance) => Promise<void>
  /** Starts one that was stopped; resolves when it is ready. */
  start: (instance: ServiceInstance) => Promise<void>
  /** Resolves with the moment when every instance takes traffic, and the balancer, if there is one, routes to all of them. */
  allReady: () => Promise<Time>
  /**
   * To be called just before the blow: sends many requests at once, and resolves a few ms later, when some of them are under
   * way. A fault that meets none proves nothing.
   */
  burst: () => Promise<void>
  /** From 0 to 1, the same again for the same seed. */
  readonly random: () => number
  /** To be called once for each fault, when everything about it is known. */
  record: (fault: Struck) => void
  /** A line for who watches. What is recorded has one already. */
  progress: (line: string) => void
}

/** All that the most demanding of them need. */
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

/** The service is led through the proxy only where the scenario needs that. */
export interface Database {
  readonly cluster: Cluster
  readonly proxy: Proxy
}

/** For a scenario that needs one. */
export function databaseOf ({ database }: World): Database {
  if (database === undefined) throw new Error('The scenario has no database to strike; its `needs` must name one.')
  return database
}

/** A whole number, both bounds included. */
export function between (random: () => number, [from, to]: readonly [from: number, to: number]): number {
  return from + Math.floor(random() * (to - from + 1))
}

/** Chooses as `oneOf` does, but none twice before each had its turn: a short run shows as many kinds as it can. */
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
