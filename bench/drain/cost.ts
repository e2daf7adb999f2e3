import { once } from 'node:events'
import { startService } from '../service.ts'
import type { Service } from '../service.ts'
import { shuffled } from '../shuffled.ts'
import { Load } from './load.ts'
import { quantile, ratioOf } from './ratio.ts'
import type { Ratio } from './ratio.ts'

const connections = 32
/** Enough requests for the compiler to have finished optimising. */
const warmUpRequests = 30_000
/** About a third of a second. Short, so that a slow moment of the machine affects all servers alike. */
const sliceRequests = 8_000
/** The slices of each server of a pair. */
const slices = 6

const servers = ['plugin', 'without', 'again'] as const
type Name = typeof servers[number]

export interface Figures {
  /** Microseconds of CPU time for a request. */
  readonly cpu: number
  /** Requests per second. */
  readonly rate: number
  /** ms. */
  readonly p99: number
}

export type Pair = Record<Name, Figures>

export interface Comparison {
  /** The ratio of the server with the plugin to the one without. */
  readonly plugin: Ratio
  /** The ratio of two processes of the server without the plugin. */
  readonly same: Ratio
}

/** Runs three processes at once and loads them in turns: with the plugin, without it, and without it once more. */
export async function measurePair (plugin: string, core: number | undefined, next: () => number): Promise<Pair> {
  const running: Server[] = []
  try {
    for (const name of shuffled(servers, next)) running.push(await Server.start(name, name === 'plugin' ? [plugin] : [], core))
    for (const server of running) await server.warmUp()
    for (let slice = 0; slice < slices; slice++) {
      for (const server of shuffled(running, next)) await server.measure()
    }
    return Object.fromEntries(running.map(server => [server.name, server.figures()])) as Pair
  } finally {
    await Promise.all(running.map(server => server.stop()))
  }
}

export function compare (pairs: readonly Pair[], figure: keyof Figures): Comparison {
  const against = (name: Name): Ratio => ratioOf(pairs.map(pair => [pair[name][figure], pair.without[figure]]))
  return { plugin: against('plugin'), same: against('again') }
}

class Server {
  readonly name: Name
  readonly #service: Service
  readonly #load: Load
  readonly #latencies: Float64Array[] = []
  #cpu = 0
  #seconds = 0

  private constructor (name: Name, service: Service, load: Load) {
    this.name = name
    this.#service = service
    this.#load = load
  }

  static async start (name: Name, args: string[], core: number | undefined): Promise<Server> {
    const service = await startService(new URL('server.ts', import.meta.url), args, { core })
    return new Server(name, service, await Load.open(service.port, connections))
  }

  async warmUp (): Promise<void> {
    await this.#load.send(warmUpRequests)
  }

  async measure (): Promise<void> {
    const before = await this.#cpuTime()
    const { seconds, latencies } = await this.#load.send(sliceRequests)
    this.#cpu += await this.#cpuTime() - before
    this.#seconds += seconds
    this.#latencies.push(latencies)
  }

  figures (): Figures {
    const requests = this.#latencies.length * sliceRequests
    // The median of the slices' p99s, so that one slow moment of the machine does not count against the server.
    const p99 = quantile(this.#latencies.map(latencies => quantile(latencies, 0.99)).sort((a, b) => a - b), 0.5)
    return { cpu: this.#cpu / requests, rate: requests / this.#seconds, p99 }
  }

  async stop (): Promise<void> {
    this.#load.close()
    const gone = once(this.#service.child, 'exit')
    this.#service.child.kill('SIGKILL')
    await gone
  }

  async #cpuTime (): Promise<number> {
    this.#service.child.send('cpu')
    const [{ cpu }] = await once(this.#service.child, 'message') as [{ cpu: number }]
    return cpu
  }
}
