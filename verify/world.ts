import { join } from 'node:path'
import { startBalancer, type BalancerName } from './balancer.ts'
import { startConsumer } from './consumer-process.ts'
import type { Needs, World } from './faults/fault.ts'
import { freePort } from './free-port.ts'
import { startGateway } from './gateway-process.ts'
import { now } from './history.ts'
import { Cluster } from './postgres/cluster.ts'
import { debianPostgres } from './postgres/debian.ts'
import { PatroniCluster } from './postgres/patroni.ts'
import { products as usualProducts } from './products.ts'
import { Proxy } from './proxy.ts'
import { Clock } from './service/clock.ts'
import { ServiceInstance } from './service/instance.ts'
import type { Run, Target } from './target.ts'

/** A service and everything around it, made for one run. No instance has been started. */
export interface Surroundings extends Pick<World, 'instances' | 'database' | 'patroni' | 'consumer' | 'gateway' | 'takeOut' | 'allReady'> {
  readonly run: Run
  /** The URLs for the clients. */
  readonly urls: readonly [string, ...string[]]
}

interface Options {
  readonly target: Target
  readonly needs: Needs
  /** Which balancer, if it needs one. */
  readonly balancer: BalancerName
  readonly directory: string
  /** The seed of the gateway's faults. */
  readonly seed?: number
  /** The time zones of the lives of an instance, one after the other. */
  readonly zones: readonly string[]
  /** Gets the function that ends each part; the last part made must end first. */
  readonly onEnd: (end: () => Promise<void>) => void
}

/** Longer than it takes to ask and then to act on the answer. A service that does not ask first charges twice. */
const keysKeptMs = 8_000

export async function surround ({ target, needs, balancer: name, directory, seed = 1, zones, onEnd }: Options): Promise<Surroundings> {
  const { postgres } = target
  const patroni = postgres && needs.database === 'patroni' ? await makePatroni({ postgres, directory, onEnd }) : undefined
  const database = postgres && patroni === undefined ? await makeDatabase({ postgres, needs, directory, onEnd }) : undefined
  const consumer = target.consumer && await startConsumer(join(directory, 'deliveries.jsonl'))
  if (consumer !== undefined) onEnd(consumer.close)
  const gateway = needs.gateway === true && target.gateway ? await startGateway({ directory, seed, keysKeptMs, state: { calls: 'faulty' } }) : undefined
  if (gateway !== undefined) onEnd(gateway.close)
  const run: Run = {
    directory,
    products: target.products ?? usualProducts,
    ...consumer !== undefined && { eventsUrl: consumer.url },
    ...gateway !== undefined && { gateway: { url: gateway.url, token: gateway.token, notifySecret: gateway.notifySecret } },
    databaseUrl: patroni?.proxiedUrl ?? (database === undefined ? '' : isProxied(needs) ? database.cluster.urlAt(database.proxy.port) : database.cluster.url),
    // After a failover it is at another address.
    get directDatabaseUrl () {
      return patroni?.url ?? database?.cluster.url ?? ''
    }
  }

  const { instances: count = 1 } = needs
  const instances: ServiceInstance[] = []
  const ports: Array<{ port: number, agentPort: number }> = []
  for (let index = 0; index < count; index++) {
    const [port, agentPort] = [await freePort(), await freePort()]
    const clock = needs.clock === true ? new Clock(join(directory, `clock-${index}`)) : undefined
    const instance = new ServiceInstance({
      target,
      run,
      zones,
      clock,
      instance: { index, port, opsPort: await freePort(), balanced: count > 1, ...count > 1 && { agentPort } }
    })
    onEnd(async () => await instance.close())
    instances.push(instance)
    ports.push({ port, agentPort })
  }
  const balancer = count > 1 ? await startBalancer(name, { instances: ports, readiness: target.readiness, directory }) : undefined
  if (balancer !== undefined) onEnd(async () => await balancer.close())

  const [url = '', ...others] = balancer === undefined ? instances.map(({ url }) => url) : [balancer.url]
  if (target.gateway) await gateway?.set({ notifyUrl: url + target.gateway.notifications })
  return {
    run,
    instances,
    database,
    patroni,
    consumer,
    gateway,
    urls: [url, ...others],
    async takeOut ({ index }) {
      await balancer?.takeOut(index)
    },
    async allReady () {
      await Promise.all(instances.map(async instance => await instance.ready()))
      return await balancer?.allUp() ?? now()
    }
  }
}

type DatabaseOptions = Pick<Options, 'needs' | 'directory' | 'onEnd'> & { postgres: NonNullable<Target['postgres']> }

async function makePatroni ({ postgres, directory, onEnd }: Omit<DatabaseOptions, 'needs'>): Promise<PatroniCluster> {
  const patroni = await PatroniCluster.create({ postgres, directory })
  onEnd(async () => await patroni.close())
  return patroni
}

async function makeDatabase ({ postgres, needs, directory, onEnd }: DatabaseOptions): Promise<NonNullable<World['database']>> {
  const bin = needs.dump === true ? debianPostgres() : undefined
  const binaries = bin === undefined ? postgres.binaries : () => ({ initdb: join(bin, 'initdb'), postgres: join(bin, 'postgres') })
  const cluster = await Cluster.create({ postgres: { ...postgres, binaries }, log: join(directory, 'postgres.log'), volumes: needs.volume === true })
  onEnd(async () => await cluster.close())
  if (needs.database === 'replicated') await cluster.addStandby()
  const proxy = await Proxy.listen(cluster.primary.port)
  onEnd(async () => await proxy.close())
  return { cluster, proxy }
}

function isProxied ({ database }: Needs): boolean {
  return database === 'proxied' || database === 'replicated'
}
