import { rmSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type pg from 'pg'
import { signToken } from '../../auth/local-token.ts'
import { migrate } from '../../prisma/migrate.ts'
import { describeEnvironment } from '../../verify/environment.ts'
import { freePort } from '../../verify/free-port.ts'
import { postmasterOf } from '../../postgres/postmaster.ts'
import { Cluster } from '../../verify/postgres/cluster.ts'
import { secret } from '../../proof/order-service.ts'
import { versions, type Contestant } from './contestants.ts'
import { CpuClock } from './cpu.ts'
import { sum, type Figures, type Products } from './figures.ts'
import { HttpService } from './http-service.ts'
import { runLoad } from './load-process.ts'
import type { LoadPhase, LoadResult } from './load.ts'
import { runPgbench } from './pgbench.ts'

/** The same settings for all contestants, in addition to those of Cluster: fsync and synchronous_commit on, TCP only. */
const postgresSettings = {
  shared_buffers: '512MB',
  max_wal_size: '4GB',
  // pgbench has one connection for each client.
  max_connections: '1200'
}

const productCount = { uniform: 1_000, hot: 1 } as const satisfies Record<Products, number>

/** These clients warm the code up first: V8 compiles by the number of requests and not by time, so that fewer clients would be measured on cold code. */
export const warmUpClients = 64

export interface Conditions {
  readonly clients: number
  readonly products: Products
  /** Different products in an order. pgbench's scripts support only one. */
  readonly lines: number
  readonly warmUpMs: number
  readonly measureMs: number
  /** Processes of the contestant on one database, each with its share of the clients. Default 1. */
  readonly instances?: number
  /** Connections of a peer's pool. Default: its usual number. */
  readonly pool?: number | undefined
}

/** The sum of what the load generators of a measurement report. Latencies are those of the worst generator, in ms. */
interface Told {
  readonly acknowledged: number
  readonly rate: number
  readonly latency: { readonly p50: number, readonly p99: number }
}

export interface Measured extends Figures {
  /** Orders from the first request to the last, warm-up included. */
  readonly acknowledged: number
  /** How many orders the database has gained; null if the contestant stores none. */
  readonly stored: number | null
}

/** One Postgres for all contestants, started for the contest and removed after it. Linux only: CPU time is read from /proc. */
export class Contest {
  /** A folder for what contestants build, log and read. */
  readonly directory: string
  readonly #cluster: Cluster
  readonly #templates = new Map<Products, string>()
  readonly #removeNow = (): void => rmSync(this.directory, { recursive: true, force: true, maxRetries: 5 })
  #databases = 0

  private constructor (directory: string, cluster: Cluster) {
    this.directory = directory
    this.#cluster = cluster
    process.on('exit', this.#removeNow)
  }

  static async create (): Promise<Contest> {
    const directory = await mkdtemp(join(tmpdir(), 'last-orders-bench-'))
    try {
      const cluster = await Cluster.create({ postgres: { settings: postgresSettings }, log: join(directory, 'postgres.log') })
      return new Contest(directory, cluster)
    } catch (error) {
      await rm(directory, { recursive: true, force: true })
      throw error
    }
  }

  /** What a reader has to know to believe the figures. */
  async environment (): Promise<Record<string, string>> {
    const settings = Object.entries(postgresSettings).map(([name, value]) => [`postgres ${name}`, value])
    return { ...await describeEnvironment(this.#cluster.url), ...Object.fromEntries(settings), ...await versions() }
  }

  /** Makes a database with the schema and a catalogue whose stock never runs short. @returns its name */
  async createDatabase (products: Products): Promise<string> {
    const name = `contest_${this.#databases++}`
    await this.query(`CREATE DATABASE "${name}" TEMPLATE "${await this.#template(products)}"`, 'postgres')
    return name
  }

  async dropDatabase (name: string): Promise<void> {
    await this.query(`DROP DATABASE "${name}" WITH (FORCE)`, 'postgres')
  }

  /** Orders in the database. */
  async stored (database: string): Promise<number> {
    const [row] = await this.query<{ count: string }>('SELECT count(*) FROM orders', database)
    return Number(row?.count)
  }

  async query<Row extends pg.QueryResultRow> (text: string, database: string, values?: unknown[]): Promise<Row[]> {
    return await this.#cluster.primary.query<Row>(text, values, database)
  }

  async session<T> (use: (client: pg.Client) => Promise<T>, database: string): Promise<T> {
    return await this.#cluster.primary.session(use, database)
  }

  /**
   * Starts the contestant on the database, puts the load on it, and stops it. Each measurement has processes of its own:
   * an idle contestant would take CPU time from the others.
   *
   * @param onStart called with the processes of a service, before the load
   * @throws Error if the measurement is invalid: an answer is not 201, or the stored orders are not as many as the
   * acknowledged ones
   */
  async measure (contestant: Contestant, database: string, conditions: Conditions, onStart: (pids: readonly number[]) => void = () => {}): Promise<Measured> {
    const before = await this.stored(database)
    const clock = new CpuClock(this.#postmaster())
    const { takes } = contestant
    let told: Told
    if ('pgbench' in takes) {
      told = await this.#loadByPgbench(takes.pgbench, database, conditions, clock)
    } else {
      const { instances = 1 } = conditions
      const services = await Promise.all(Array.from({ length: instances }, () =>
        this.startService(contestant, database, Math.max(conditions.clients, warmUpClients), conditions.pool)))
      try {
        onStart(services.map(({ pid }) => pid))
        told = await this.#loadByHttp(services, database, conditions, clock)
      } finally {
        await Promise.all(services.map(service => service.stop()))
      }
    }
    const stores = 'pgbench' in takes || takes.stores
    const stored = stores ? await this.stored(database) - before : null
    if (stored !== null && stored !== told.acknowledged) throw new Error(`${told.acknowledged} orders were acknowledged, and ${stored} are stored.`)
    const { acknowledged, rate, latency: { p50: p50Ms, p99: p99Ms } } = told
    return { acknowledged, stored, rate, p50Ms, p99Ms, cpuUs: clock.perOrder(rate) }
  }

  /** The same for a service that runs already, so that several can take turns. */
  async measureRunning (service: HttpService, database: string, conditions: Conditions): Promise<Figures> {
    const clock = new CpuClock(this.#postmaster())
    const { rate, latency: { p50: p50Ms, p99: p99Ms } } = await this.#loadByHttp([service], database, conditions, clock)
    return { rate, p50Ms, p99Ms, cpuUs: clock.perOrder(rate) }
  }

  /** @param clients how many connections it will get */
  async startService ({ name, takes }: Contestant, database: string, clients: number, pool?: number): Promise<HttpService> {
    if (!('http' in takes)) throw new Error(`${name} is no service, and was not started.`)
    const { directory } = this
    const [port, opsPort] = [await freePort(), await freePort()]
    const command = takes.http({ databaseUrl: this.#cluster.primary.url(database), port, opsPort, clients, pool, directory })
    return await HttpService.start(command, { port, directory, log: join(directory, `${name}.log`) })
  }

  async #loadByHttp (services: readonly HttpService[], database: string, conditions: Conditions, clock: CpuClock): Promise<Told> {
    const { clients } = conditions
    const warmedUp = clients < warmUpClients ? await this.#putLoadOn(services, { ...conditions, clients: warmUpClients, measureMs: 0 }, () => {}) : []
    await this.query('CHECKPOINT', database)
    const results = await this.#putLoadOn(services, conditions, (phase, pid) => clock.read(phase, { services: services.map(({ pid }) => pid), load: pid }))
    return {
      acknowledged: sum([...warmedUp, ...results].map(({ acknowledged }) => acknowledged)),
      rate: sum(results.map(({ rate }) => rate)),
      latency: { p50: Math.max(...results.map(({ latency }) => latency.p50)), p99: Math.max(...results.map(({ latency }) => latency.p99)) }
    }
  }

  /** Runs one load generator for each of the services, with its share of the clients. */
  async #putLoadOn (
    services: readonly HttpService[],
    { clients, products, lines, warmUpMs, measureMs }: Conditions,
    onPhase: (phase: LoadPhase, pid: number) => void
  ): Promise<LoadResult[]> {
    const skus = Array.from({ length: productCount[products] }, (_, n) => `product-${String(n).padStart(4, '0')}`)
    const tokens = Array.from({ length: clients }, (_, n) => signToken({ secret, sub: `customer-${n}` }))
    const results = await Promise.all(services.map((service, n) => runLoad(
      { port: service.port, tokens: tokens.filter((_, client) => client % services.length === n), skus, lines, warmUpMs, measureMs }, onPhase
    )))
    const others = results.flatMap(result => Object.entries(result.others)).map(([status, count]) => `${count} × ${status}`)
    if (others.length > 0) throw new Error(`Not every answer was 201: ${others.join(', ')}.`)
    return results
  }

  async close (): Promise<void> {
    process.off('exit', this.#removeNow)
    await this.#cluster.close()
    await rm(this.directory, { recursive: true, force: true, maxRetries: 5 })
  }

  async #loadByPgbench (script: string, database: string, { clients, products, lines, warmUpMs, measureMs }: Conditions, clock: CpuClock): Promise<Told> {
    if (lines !== 1) throw new Error("pgbench's scripts place orders of one line only.")
    await this.query('CHECKPOINT', database)
    return await runPgbench({
      script,
      databaseUrl: this.#cluster.primary.url(database),
      clients,
      products: productCount[products],
      warmUpMs,
      measureMs,
      directory: this.directory,
      connected: async () => Number((await this.query<{ count: string }>("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench'", 'postgres'))[0]?.count),
      onPhase: (phase, pid) => clock.read(phase, { load: pid })
    })
  }

  async #template (products: Products): Promise<string> {
    const made = this.#templates.get(products)
    if (made !== undefined) return made
    const name = `template_${products}`
    await this.query(`CREATE DATABASE "${name}"`, 'postgres')
    await migrate({ url: this.#cluster.primary.url(name) })
    await this.query(`
      INSERT INTO products (sku, name, unit_price, currency, stock)
      SELECT 'product-' || lpad(n::text, 4, '0'), 'Product ' || n, 100 + n, 'EUR', 2000000000 FROM generate_series(0, $1 - 1) AS n`, name, [productCount[products]])
    await this.query('VACUUM ANALYZE', name)
    this.#templates.set(products, name)
    return name
  }

  #postmaster (): number {
    return postmasterOf(this.#cluster.primary.data) ?? NaN
  }
}
